//! Starting and clearing away: everything about an instance that touches disk, slices and processes.
//!
//! Deliberately absent: when to do so (`machine`).

use super::ports;
use crate::assignment::Assignment;
use crate::cgroup::{Limits, Meter};
use crate::host::{Host, make_folder, now_unix_us};
use crate::process::{self, Identity};
use rustix::process::Signal;
use shim::files::{self, Lasting};
use shim::spec::{self, ExitRecord, PidRecord, Spec};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use tokio::io::unix::AsyncFd;

/// Size at which an instance's log is rotated.
pub const LOG_BYTES_MAX: u64 = 16 << 20;
/// Log files kept for an instance.
pub const LOG_FILES_MAX: u32 = 4;
/// Longest wait for a shim to start its instance.
const START_MS_MAX: u64 = 15_000;
/// Longest wait for a shim to end once nothing of its instance is left.
const SHIM_END_MS_MAX: u64 = 3_000;
/// Pause between two looks at a shim's files, in milliseconds.
const LOOK_MS: u64 = 3;
/// Where programs that are not in the package are looked for.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The assignment a running instance was started for.
pub const ASSIGNMENT_FILE: &str = "assignment.json";
/// Holds the run that has been healthy.
pub const HEALTHY_FILE: &str = "healthy";

/// The variables an instance sees, and its config files and command may refer to.
pub fn variables(host: &Host, wanted: &Assignment) -> BTreeMap<String, String> {
    let folder = host.folder(wanted.instance.as_str());
    let text = |path: PathBuf| path.to_string_lossy().into_owned();
    let mut all =
        BTreeMap::from([("PATH".to_owned(), PATH.to_owned()), ("HOME".to_owned(), text(folder.join("work")))]);
    all.extend(wanted.variables.clone());
    for (name, value) in [
        ("INSTANCE", wanted.instance.to_string()),
        ("SERVICE", wanted.service.clone()),
        ("BUSINESS", wanted.business.clone()),
        ("HOST", host.name.clone()),
        ("DATACENTER", wanted.datacenter.clone()),
        ("ADDRESS", wanted.address.to_string()),
        ("MESH", host.mesh()),
        ("CONFIG", text(folder.join("config"))),
        ("POLICIES", text(host.policies_file())),
        ("PACKAGE", text(host.packages.folder_of(&wanted.package))),
    ] {
        all.insert(format!("SPRINGTIDE_{name}"), value);
    }
    if wanted.layer == "storage" {
        all.insert("SPRINGTIDE_DATA".to_owned(), text(host.volume(wanted.instance.as_str())));
    }
    for (name, port) in &wanted.ports {
        all.insert(model::config::port_variable(name), port.to_string());
    }
    all
}

/// The config files as the instance will read them; also the check that nothing is missing.
///
/// # Errors
/// The file and the variable it misses.
pub fn render_files(
    wanted: &Assignment,
    variables: &BTreeMap<String, String>,
) -> Result<Vec<(String, String)>, String> {
    let render = |(name, text): (&String, &String)| {
        let rendered =
            model::config::render(text, variables).map_err(|missing| format!("config file {name}: {missing}"))?;
        Ok((name.clone(), rendered))
    };
    wanted.config_files.iter().map(render).collect()
}

fn render_command(wanted: &Assignment, variables: &BTreeMap<String, String>) -> Result<Vec<String>, String> {
    let render =
        |word: &String| model::config::render(word, variables).map_err(|missing| format!("command: {missing}"));
    wanted.command.iter().map(render).collect()
}

/// Checks what can be checked before anything runs.
pub fn check(host: &Host, wanted: &Assignment) -> Result<(), String> {
    let variables = variables(host, wanted);
    render_files(wanted, &variables)?;
    let command = render_command(wanted, &variables)?;
    let package = host.packages.folder_of(&wanted.package);
    resolve_program(&package, command.first().map_or("", String::as_str)).map(|_| ())
}

/// A relative program is looked up in the package; a bare name that is not there, on the host.
fn resolve_program(package: &Path, program: &str) -> Result<PathBuf, String> {
    if program.starts_with('/') {
        return Ok(program.into());
    }
    let in_package = package.join(program);
    if !program.is_empty() && in_package.is_file() {
        return Ok(in_package);
    }
    let on_host = || PATH.split(':').map(|folder| Path::new(folder).join(program)).find(|path| path.is_file());
    if !program.contains('/')
        && let Some(found) = on_host()
    {
        return Ok(found);
    }
    Err(format!("the program {program:?} is neither in the package nor in {PATH}"))
}

/// Starts an instance: gives what the shim wrote once it runs.
///
/// # Errors
/// A sentence for the report.
pub async fn start(host: Arc<Host>, wanted: Assignment, restarts: u32) -> Result<PidRecord, String> {
    let folder = host.folder(wanted.instance.as_str());
    let run = {
        let host = Arc::clone(&host);
        let prepared = tokio::task::spawn_blocking(move || prepare_run(&host, &wanted, restarts));
        prepared.await.map_err(|error| format!("preparing the start stopped: {error}"))??
    };
    let mut shim = spawn_shim(&host, &folder).map_err(|error| format!("cannot start the shim: {error}"))?;
    let until = Instant::now() + Duration::from_millis(START_MS_MAX);
    let mut shim_ended = false;
    let outcome = loop {
        if let Some(outcome) = outcome_of(&folder, run) {
            break outcome;
        }
        if shim_ended {
            break Err(format!("its shim ended early: {}", last_line(&folder.join(spec::SHIM_LOG))));
        }
        if Instant::now() > until {
            break Err(format!("its shim did not start it within {START_MS_MAX} ms"));
        }
        shim_ended = tokio::time::timeout(Duration::from_millis(LOOK_MS), shim.wait()).await.is_ok();
    };
    // Collects the shim's end as long as this agent lives; the shim itself needs nobody.
    tokio::spawn(async move { shim.wait().await });
    outcome
}

fn outcome_of(folder: &Path, run: u64) -> Option<Result<PidRecord, String>> {
    match spec::read::<PidRecord>(folder, spec::PID_FILE) {
        Ok(Some(record)) if record.run == run => return Some(Ok(record)),
        Err(error) => return Some(Err(error.to_string())),
        Ok(_) => {}
    }
    match spec::read::<ExitRecord>(folder, spec::EXIT_FILE) {
        Ok(Some(record)) if record.run == run => Some(Err(record.describe())),
        Err(error) => Some(Err(error.to_string())),
        Ok(_) => None,
    }
}

fn last_line(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().last().unwrap_or("it said nothing").to_owned()
}

/// Everything before the shim; gives the run's number.
fn prepare_run(host: &Host, wanted: &Assignment, restarts: u32) -> Result<u64, String> {
    for port in wanted.ports.values() {
        ports::check_free(SocketAddr::new(wanted.address, *port))?;
    }
    let folder = host.folder(wanted.instance.as_str());
    let variables = variables(host, wanted);
    let files = render_files(wanted, &variables)?;
    let mut command = render_command(wanted, &variables)?;
    let package = host.packages.folder_of(&wanted.package);
    let program = resolve_program(&package, command.first().map_or("", String::as_str))?;
    command[0] = program.to_string_lossy().into_owned();
    make_folders(host, wanted, &folder, &files)
        .map_err(|error| format!("cannot prepare {}: {error}", folder.display()))?;
    let slice = host.tree.as_ref().map(|tree| tree.slice(wanted.instance.as_str()));
    if let Some(slice) = &slice {
        let (cpu_millis, memory_bytes, pids_max) = (wanted.cpu_millis, wanted.memory_bytes, wanted.pids_max);
        slice.create(&Limits { cpu_millis, memory_bytes, pids_max }).map_err(|error| error.to_string())?;
    }
    let spec = Spec {
        version: spec::VERSION,
        run: now_unix_us(),
        instance: wanted.instance.to_string(),
        restarts,
        command,
        variables,
        work: folder.join("work"),
        user: host.user,
        join: slice.as_ref().map(|slice| slice.join_files()).unwrap_or_default(),
        leave: host.tree.as_ref().map(|tree| tree.shims().join_files()).unwrap_or_default(),
        slice: slice.as_ref().and_then(|slice| slice.identity_folder().map(Path::to_owned)),
        log_bytes_max: LOG_BYTES_MAX,
        log_files_max: LOG_FILES_MAX,
    };
    write_run(&folder, &spec).map_err(|error| format!("cannot write in {}: {error}", folder.display()))?;
    Ok(spec.run)
}

/// The order matters: once the records of the last run are gone, a spec means a run that may be starting.
fn write_run(folder: &Path, spec: &Spec) -> io::Result<()> {
    for old in [spec::PID_FILE, spec::EXIT_FILE, HEALTHY_FILE, spec::SHIM_LOG] {
        files::remove_if_there(&folder.join(old))?;
    }
    spec::write(folder, spec::SPEC_FILE, spec)
}

fn make_folders(host: &Host, wanted: &Assignment, folder: &Path, files: &[(String, String)]) -> io::Result<()> {
    make_folder(folder)?;
    // First of all: it is what proves a slice, made next, to be ours.
    let assignment = serde_json::to_vec(wanted).map_err(io::Error::other)?;
    files::replace(&folder.join(ASSIGNMENT_FILE), &assignment, Lasting::Boot)?;
    make_folder(&folder.join("logs"))?;
    make_owned(host, &folder.join("work"))?;
    let config = folder.join("config");
    if config.exists() {
        fs::remove_dir_all(&config)?;
    }
    make_folder(&config)?;
    for (name, text) in files {
        let path = config.join(name);
        if let Some(parent) = path.parent() {
            make_folder(parent)?;
        }
        fs::write(&path, text)?;
        // May hold secrets: for the instance's group, nobody else.
        if let Some((_, gid)) = host.user {
            chown(&path, None, Some(gid))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o640))?;
        }
    }
    if wanted.layer == "storage" {
        make_folder(&host.data.join("volumes"))?;
        make_owned(host, &host.volume(wanted.instance.as_str()))?;
        for path in wanted.persistent_paths.iter().map(Path::new).filter(|path| path.is_absolute() && !path.exists()) {
            make_owned(host, path)?;
        }
    }
    Ok(())
}

fn make_owned(host: &Host, path: &Path) -> io::Result<()> {
    make_folder(path)?;
    match host.user {
        Some((uid, gid)) => chown(path, Some(uid), Some(gid)),
        None => Ok(()),
    }
}

fn spawn_shim(host: &Host, folder: &Path) -> io::Result<tokio::process::Child> {
    let (program, args) = host.shim.split_first().ok_or_else(|| io::Error::other("no shim program is configured"))?;
    let log = OpenOptions::new().create(true).append(true).open(folder.join(spec::SHIM_LOG))?;
    let mut command = tokio::process::Command::new(program);
    command.args(args).arg(folder).current_dir("/");
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    command.spawn().map_err(|error| io::Error::other(format!("{}: {error}", program.display())))
}

/// Waits until the first process has ended, and tells how. Works for an adopted instance too, whose parent this agent is
/// not.
pub async fn watch_end(host: Arc<Host>, wanted: Assignment, record: PidRecord) -> (Option<i32>, String) {
    let instance = wanted.instance.as_str();
    let oom_kills_before = oom_kills(&host, instance);
    if let Some(fd) = identity_of(&record).open() {
        match watched(fd) {
            Ok(fd) => {
                let _ended = fd.readable().await;
            }
            Err(error) => tracing::error!("cannot watch pid {}: {error}", record.pid),
        }
    }
    while identity_of(&record).runs() {
        tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
    }
    let (code, mut message) = end_of(&host.folder(instance), record.run).await;
    if oom_kills(&host, instance) > oom_kills_before {
        message.push_str(&format!(": out of memory, its limit is {}", model::MemoryBytes(wanted.memory_bytes)));
    }
    (code, message)
}

/// Waits until the shim of a run has ended; true when the first process runs on without it.
pub async fn outlives_its_shim(folder: &Path, record: &PidRecord) -> bool {
    // Opened first, asked after: while its lock is held, the pid is the shim's.
    let opened = process::open(record.shim_pid);
    if let Some(fd) = opened.filter(|_| shim_lives(folder)) {
        match watched(fd) {
            Ok(fd) => {
                let _ended = fd.readable().await;
            }
            Err(error) => tracing::error!("cannot watch the shim {}: {error}", record.shim_pid),
        }
    }
    identity_of(record).runs() && !shim_lives(folder)
}

fn oom_kills(host: &Host, instance: &str) -> u64 {
    let usage = host.tree.as_ref().map(|tree| Meter::open(&tree.slice(instance)).read());
    usage.and_then(Result::ok).map_or(0, |usage| usage.oom_kills)
}

async fn end_of(folder: &Path, run: u64) -> (Option<i32>, String) {
    let until = Instant::now() + Duration::from_millis(SHIM_END_MS_MAX);
    loop {
        match spec::read::<ExitRecord>(folder, spec::EXIT_FILE) {
            Ok(Some(exit)) if exit.run == run => return (exit.reported_code(), exit.describe()),
            _ if Instant::now() > until => return (None, "ended; its shim left no word how".to_owned()),
            _ => tokio::time::sleep(Duration::from_millis(LOOK_MS)).await,
        }
    }
}

#[expect(
    deprecated,
    reason = "deprecated for descriptors that lie about themselves; this one is an OwnedFd, and the replacement is an unsafe fn"
)]
fn watched(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, tokio::io::Interest::READABLE)
}

/// The first process.
pub fn identity_of(record: &PidRecord) -> Identity {
    Identity { pid: record.pid, start_ticks: record.start_ticks }
}

/// Kills every process of an instance. Blocking.
pub fn kill(host: &Host, instance: &str, record: Option<&PidRecord>) -> Result<(), String> {
    // As it was started, not as instances are started now: the isolation may have been changed since.
    let has_slice = record.is_none_or(|record| record.slice_inode.is_some());
    if let Some(tree) = host.tree.as_ref().filter(|_| has_slice) {
        let slice = tree.slice(instance);
        return if slice.exists() { slice.kill().map_err(|error| error.to_string()) } else { Ok(()) };
    }
    let Some(record) = record else { return Ok(()) };
    let killed = identity_of(record).signal_group(Signal::KILL);
    for pid in process::descendants(record.shim_pid).into_iter().filter(|_| shim_lives(&host.folder(instance))) {
        let _gone_is_fine = process::signal(pid, Signal::KILL);
    }
    killed.map_err(|error| format!("cannot kill pid {}: {error}", record.pid))
}

/// Clears what an ended run left: processes, then the shim, then (`remove`) the slice. Blocking.
///
/// # Errors
/// What is still there.
pub fn clear(host: &Host, instance: &str, record: Option<&PidRecord>, remove: bool) -> Result<(), String> {
    let folder = host.folder(instance);
    let until = Instant::now() + Duration::from_millis(SHIM_END_MS_MAX);
    loop {
        kill(host, instance, record)?;
        if !shim_lives(&folder) {
            break;
        }
        if Instant::now() > until {
            return Err(format!("the shim of {instance} does not end"));
        }
        thread::sleep(Duration::from_millis(LOOK_MS));
    }
    if let Some(tree) = host.tree.as_ref().filter(|_| remove) {
        tree.slice(instance).remove().map_err(|error| error.to_string())?;
    }
    files::remove_if_there(&folder.join(spec::PID_FILE)).map_err(|error| error.to_string())
}

/// Whether a shim holds this instance's lock.
pub fn shim_lives(folder: &Path) -> bool {
    File::open(folder.join(spec::LOCK_FILE))
        .is_ok_and(|file| matches!(file.try_lock_shared(), Err(fs::TryLockError::WouldBlock)))
}
