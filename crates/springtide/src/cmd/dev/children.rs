//! The processes of a `dev` fleet: started, revived with back-off, stopped by id.

use anyhow::{Context, Result, bail};
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// Time from TERM to KILL.
const GRACE_MS: u64 = 8_000;
/// First wait before a dead process is started again; doubles to the maximum.
const REVIVE_MS_MIN: u64 = 100;
/// Longest wait before a dead process is started again.
const REVIVE_MS_MAX: u64 = 1_000;
/// A process that lived this long starts with the shortest wait again.
const STABLE_MS: u64 = 10_000;
/// Lines of a log shown when its process cannot start.
const LOG_LINES_SHOWN: usize = 8;

/// What to start.
#[derive(Clone)]
pub struct Child {
    /// Its name, also of its log.
    pub name: String,
    /// Arguments of the springtide program.
    pub args: Vec<OsString>,
    /// Started again, it listens for the fleet on the port it had at first: agents and proxies know no other.
    pub same_fleet_port: bool,
}

struct Running {
    what: Child,
    process: std::process::Child,
    started: Instant,
    revive_ms: u64,
    revive_at: Option<Instant>,
}

/// All processes.
pub struct Children {
    program: PathBuf,
    data: PathBuf,
    running: Vec<Running>,
}

impl Children {
    /// None yet; logs go to `data/logs`.
    pub fn new(data: &Path) -> Result<Self> {
        std::fs::create_dir_all(data.join("logs"))?;
        Ok(Self { program: std::env::current_exe()?, data: data.to_owned(), running: Vec::new() })
    }

    /// The folder of logs.
    pub fn logs(&self) -> PathBuf {
        self.data.join("logs")
    }

    /// The log of one.
    pub fn log(&self, name: &str) -> PathBuf {
        self.logs().join(format!("{name}.log"))
    }

    /// The process id of one.
    pub fn pid(&self, name: &str) -> Option<u32> {
        Some(self.running.iter().find(|running| running.what.name == name)?.process.id())
    }

    /// Starts one.
    pub fn start(&mut self, what: Child) -> Result<()> {
        let process = self.spawn(&what)?;
        let (started, revive_ms) = (Instant::now(), REVIVE_MS_MIN);
        self.running.push(Running { what, process, started, revive_ms, revive_at: None });
        Ok(())
    }

    fn spawn(&self, what: &Child) -> Result<std::process::Child> {
        let log = File::options().create(true).append(true).open(self.log(&what.name))?;
        let mut command = Command::new(&self.program);
        command.args(&what.args).args(["--parent", &std::process::id().to_string()]);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // A Ctrl-C at the terminal reaches `dev` alone, which then stops its children in order.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.spawn().with_context(|| format!("cannot start {}", what.name))
    }

    /// Fails with the end of its log when the process has died.
    pub fn fail_if_dead(&mut self, name: &str) -> Result<()> {
        let Some(running) = self.running.iter_mut().find(|running| running.what.name == name) else { return Ok(()) };
        let Some(status) = running.process.try_wait()? else { return Ok(()) };
        let log = std::fs::read_to_string(self.log(name)).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(LOG_LINES_SHOWN).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        bail!("{name} ended at start ({status}); the end of {}:\n{}", self.log(name).display(), tail.join("\n"))
    }

    /// The same for all.
    pub fn fail_if_any_dead(&mut self) -> Result<()> {
        let names: Vec<String> = self.running.iter().map(|running| running.what.name.clone()).collect();
        names.iter().try_for_each(|name| self.fail_if_dead(name))
    }

    /// Starts again what has died, each with its own growing wait.
    pub fn revive(&mut self) -> Result<()> {
        for at in 0..self.running.len() {
            let running = &mut self.running[at];
            if running.revive_at.is_none() {
                let Some(status) = running.process.try_wait()? else { continue };
                if running.started.elapsed() > Duration::from_millis(STABLE_MS) {
                    running.revive_ms = REVIVE_MS_MIN;
                }
                eprintln!("springtide: {} ended ({status}); starting it again", running.what.name);
                running.revive_at = Some(Instant::now() + Duration::from_millis(running.revive_ms));
                running.revive_ms = (running.revive_ms * 2).min(REVIVE_MS_MAX);
            }
            if running.revive_at.is_some_and(|due| due <= Instant::now()) {
                self.restart(at)?;
            }
        }
        Ok(())
    }

    fn restart(&mut self, at: usize) -> Result<()> {
        let mut what = self.running[at].what.clone();
        if what.same_fleet_port {
            self.keep_fleet_port(&mut what);
        }
        let process = self.spawn(&what)?;
        let running = &mut self.running[at];
        (running.process, running.started, running.revive_at) = (process, Instant::now(), None);
        Ok(())
    }

    fn keep_fleet_port(&self, what: &mut Child) {
        let ready = std::fs::read(self.data.join("server/server.json")).ok();
        let ready = ready.and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok());
        let fleet = ready.as_ref().and_then(|ready| ready["fleet"].as_str());
        let at = what.args.iter().position(|arg| arg == "--fleet").map(|flag| flag + 1);
        if let (Some(fleet), Some(at)) = (fleet, at) {
            what.args[at] = fleet.into();
        }
    }

    /// Stops all: TERM in reverse order of start, then KILL for who has not gone in time.
    pub fn stop_all(&mut self) {
        let mut running: Vec<Running> = self.running.drain(..).rev().collect();
        for child in &running {
            signal(child, rustix::process::Signal::TERM);
        }
        let deadline = Instant::now() + Duration::from_millis(GRACE_MS);
        while Instant::now() < deadline && running.iter_mut().any(|c| matches!(c.process.try_wait(), Ok(None))) {
            std::thread::sleep(Duration::from_millis(20));
        }
        for child in &mut running {
            if matches!(child.process.try_wait(), Ok(None)) {
                eprintln!("springtide: {} did not stop within {GRACE_MS} ms and is killed", child.what.name);
                signal(child, rustix::process::Signal::KILL);
            }
            // The process is ours and has been told to end: waiting only reaps it.
            drop(child.process.wait());
        }
    }
}

/// Signals a child that has not been reaped (its id cannot have been reused).
fn signal(child: &Running, signal: rustix::process::Signal) {
    if let Some(pid) = rustix::process::Pid::from_raw(child.process.id() as i32) {
        // A child that is already gone needs no signal.
        let _gone = rustix::process::kill_process(pid, signal);
    }
}

/// Set by TERM or Ctrl-C.
pub struct StopFlag {
    stopped: Receiver<()>,
    set: std::cell::Cell<bool>,
}

impl StopFlag {
    /// True once a signal came.
    pub fn is_set(&self) -> bool {
        if self.stopped.try_recv().is_ok() {
            self.set.set(true);
        }
        self.set.get()
    }

    /// Waits for a signal, at most so long.
    pub fn wait(&self, time: Duration) {
        if !self.set.get() && !matches!(self.stopped.recv_timeout(time), Err(RecvTimeoutError::Timeout)) {
            self.set.set(true);
        }
    }
}

/// Listens for TERM and Ctrl-C on a thread of its own.
pub fn stop_flag() -> Result<StopFlag> {
    use tokio::signal::unix::{SignalKind, signal};
    let (sender, stopped) = std::sync::mpsc::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut term, mut int) = {
        let _inside = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    std::thread::spawn(move || {
        runtime.block_on(async {
            loop {
                tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
                if sender.send(()).is_err() {
                    return;
                }
            }
        });
    });
    Ok(StopFlag { stopped, set: std::cell::Cell::new(false) })
}
