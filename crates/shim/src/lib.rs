//! The shim: one small blocking process beside each instance, which outlives the agent.
//!
//! It starts the instance inside its slice, keeps its output, adopts its orphans and writes down how it ended. It
//! talks to nobody: the agent reads its files and signals the instance itself. It is a program of its own, since a host
//! runs one for each instance: what it weighs counts hundreds of times. Deliberately absent: restarts, limits,
//! networking, threads and any async runtime.

pub mod files;
pub mod log;
pub mod process;
pub mod spec;

use log::RotatingLog;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, WaitOptions, WaitStatus};
use spec::{ExitRecord, PidRecord, Spec};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, PipeReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

/// Bytes moved from the instance to its log at a time.
const COPY_BYTES: usize = 64 * 1024;
/// Copies after the instance ended before its end is written down, lest a chatty orphan delay that.
const LAST_COPIES_MAX: u32 = 64;
/// Longest sleep while the instance runs: orphans are reaped this often, in milliseconds.
const REAP_MS: i64 = 5_000;
/// Shortest and longest sleep while only orphans are left, in milliseconds.
const ORPHAN_MS: (i64, i64) = (5, 1_000);

/// Name of the program, which is looked for beside the one that runs the agent.
pub const PROGRAM: &str = "springtide-shim";

/// Entry of `springtide-shim <instance folder>`; `args` are those after the program's name.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut args = args.into_iter();
    let (Some(folder), None) = (args.next(), args.next()) else {
        eprintln!("usage: {PROGRAM} INSTANCE_FOLDER (the agent runs this)");
        return ExitCode::from(2);
    };
    match run(Path::new(&folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("shim of {}: {error}", Path::new(&folder).display());
            ExitCode::FAILURE
        }
    }
}

fn run(folder: &Path) -> io::Result<()> {
    let _held_until_exit = lock(folder)?;
    let spec: Spec = spec::read(folder, spec::SPEC_FILE)?.ok_or_else(|| io::Error::other("spec.json is missing"))?;
    // Fails only for a process group leader, when a person runs the shim from a shell.
    let _own_session = rustix::process::setsid();
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    match start(folder, &spec) {
        Ok(running) => running.attend(folder, &spec),
        Err(error) => {
            let record = exit_record(&spec, None, Some(error.to_string()));
            spec::write(folder, spec::EXIT_FILE, &record)
        }
    }
}

/// At most one shim for an instance, whatever happened to the agents that started them.
fn lock(folder: &Path) -> io::Result<File> {
    let path = folder.join(spec::LOCK_FILE);
    let file = OpenOptions::new().create(true).append(true).open(&path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(error) => Err(io::Error::other(format!("another shim holds {}: {error}", path.display()))),
    }
}

struct Running {
    pid: u32,
    ended: OwnedFd,
    output: PipeReader,
}

fn start(folder: &Path, spec: &Spec) -> io::Result<Running> {
    let (program, args) = spec.command.split_first().ok_or_else(|| io::Error::other("the command is empty"))?;
    fs::create_dir_all(folder.join("logs"))?;
    let (output, writer) = io::pipe()?;
    let mut command = Command::new(program);
    command.args(args).env_clear().envs(&spec.variables).current_dir(&spec.work).process_group(0);
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    if let Some((uid, gid)) = spec.user {
        command.uid(uid).gid(gid);
    }
    // Born inside, the child never runs a moment outside its limits; the shim itself then leaves.
    move_to(&spec.join)?;
    protect_from_oom("0");
    let child = command.spawn();
    protect_from_oom("-1000");
    let left = move_to(&spec.leave);
    let mut child = child.map_err(|error| explain_spawn(program, spec, &error))?;
    drop(command);
    let pid = child.id();
    match left.and_then(|()| watch(folder, spec, pid)) {
        Ok(ended) => Ok(Running { pid, ended, output }),
        Err(error) => {
            child.kill()?;
            child.wait()?;
            Err(error)
        }
    }
}

/// A descriptor of the instance's end, after its record is written.
fn watch(folder: &Path, spec: &Spec, pid: u32) -> io::Result<OwnedFd> {
    let raw = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(|| io::Error::other("not a pid"))?;
    // Not waited for yet, so the pid still means this child, ended or not.
    let ended = rustix::process::pidfd_open(raw, PidfdFlags::empty())?;
    write_pid_record(folder, spec, pid)?;
    Ok(ended)
}

fn explain_spawn(program: &str, spec: &Spec, error: &io::Error) -> io::Error {
    let user = spec.user.map(|(uid, gid)| format!(" as user {uid}:{gid}")).unwrap_or_default();
    io::Error::other(format!("cannot run {program}{user} in {}: {error}", spec.work.display()))
}

fn write_pid_record(folder: &Path, spec: &Spec, pid: u32) -> io::Result<()> {
    let stat = process::stat(pid).ok_or_else(|| io::Error::other("/proc does not show the instance"))?;
    let record = PidRecord {
        version: spec::VERSION,
        run: spec.run,
        boot_id: process::boot_id()?,
        pid,
        start_ticks: stat.start_ticks,
        shim_pid: std::process::id(),
        slice_inode: spec.slice.as_deref().and_then(process::inode),
        started_unix_ms: now_unix_ms(),
    };
    spec::write(folder, spec::PID_FILE, &record)
}

fn move_to(files: &[PathBuf]) -> io::Result<()> {
    for file in files {
        fs::write(file, "0").map_err(|error| io::Error::other(format!("cannot write {}: {error}", file.display())))?;
    }
    Ok(())
}

/// Only root may lower the score; elsewhere the shim keeps the one it was given.
fn protect_from_oom(score: &str) {
    let _only_root_may = fs::write("/proc/self/oom_score_adj", score);
}

fn now_unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

fn exit_record(spec: &Spec, status: Option<WaitStatus>, error: Option<String>) -> ExitRecord {
    ExitRecord {
        version: spec::VERSION,
        run: spec.run,
        code: status.and_then(WaitStatus::exit_status),
        signal: status.and_then(WaitStatus::terminating_signal),
        error,
        ended_unix_ms: now_unix_ms(),
    }
}

/// What one round of reaping found.
struct Reaped {
    first: Option<WaitStatus>,
    none_left: bool,
}

impl Running {
    /// Until the instance and all its orphans are gone.
    fn attend(self, folder: &Path, spec: &Spec) -> io::Result<()> {
        let Self { pid, ended, output } = self;
        let mut log = RotatingLog::new(folder.join(spec::LOG_FILE), spec.log_bytes_max, spec.log_files_max);
        let mut output = Some(output);
        let mut ended = Some(ended);
        let mut sleep_ms = REAP_MS;
        let mut buffer = vec![0; COPY_BYTES];
        loop {
            wait_for_any(ended.as_ref(), output.as_ref(), sleep_ms)?;
            let open = output.as_mut().map(|pipe| copy_once(pipe, &mut log, &mut buffer)).unwrap_or(Ok(false))?;
            if !open {
                output = None;
            }
            let reaped = reap(pid)?;
            if let Some(status) = reaped.first {
                let mut copies = 0;
                while copies < LAST_COPIES_MAX && output.as_ref().is_some_and(has_bytes) {
                    let Some(pipe) = output.as_mut() else { break };
                    if !copy_once(pipe, &mut log, &mut buffer)? {
                        output = None;
                    }
                    copies += 1;
                }
                spec::write(folder, spec::EXIT_FILE, &exit_record(spec, Some(status), None))?;
                ended = None;
                sleep_ms = ORPHAN_MS.0;
            } else if ended.is_none() {
                sleep_ms = (sleep_ms * 2).min(ORPHAN_MS.1);
            }
            if reaped.none_left && !output.as_ref().is_some_and(has_bytes) {
                return Ok(());
            }
        }
    }
}

/// Sleeps until the instance ends, writes, or the time is up.
fn wait_for_any(ended: Option<&OwnedFd>, output: Option<&PipeReader>, sleep_ms: i64) -> io::Result<()> {
    let mut fds: Vec<PollFd<'_>> = Vec::with_capacity(2);
    fds.extend(ended.map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)));
    fds.extend(output.map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)));
    let timeout = Timespec { tv_sec: sleep_ms / 1_000, tv_nsec: sleep_ms % 1_000 * 1_000_000 };
    match poll(&mut fds, Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn has_bytes(pipe: &PipeReader) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0) && fds[0].revents().contains(PollFlags::IN)
}

/// Moves what is there to the log, without waiting. False when all writers have closed.
fn copy_once(pipe: &mut PipeReader, log: &mut RotatingLog, buffer: &mut [u8]) -> io::Result<bool> {
    let mut fds = [PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    match poll(&mut fds, Some(&now)) {
        Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(true),
        Ok(_) => {}
        Err(error) => return Err(error.into()),
    }
    let read = pipe.read(buffer)?;
    log.append(&buffer[..read]);
    Ok(read > 0)
}

/// Collects every child that has ended: the instance's first process and the orphans this subreaper was given.
fn reap(first: u32) -> io::Result<Reaped> {
    let mut status_of_first = None;
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => {
                if u32::try_from(pid.as_raw_nonzero().get()) == Ok(first) {
                    status_of_first = Some(status);
                }
            }
            Ok(None) => return Ok(Reaped { first: status_of_first, none_left: false }),
            Err(rustix::io::Errno::CHILD) => return Ok(Reaped { first: status_of_first, none_left: true }),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
