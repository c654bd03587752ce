//! The proxies under test, each one worker on the measured core: ours, nginx, HAProxy, Envoy.
//!
//! Their configurations are in `bench/proxy/`; ours serves a saved routing state.

use crate::proxy_bench::state;
use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Time for a proxy to listen, and to end.
const PATIENCE: Duration = Duration::from_secs(15);
/// Where `cargo xtask bench proxy` puts Envoy.
const ENVOY_FOLDER: &str = "target/tools/envoy/lib";

/// Ours with or without protection, or a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `springtide proxy`.
    Ours,
    /// The same with protection switched off.
    Unprotected,
    /// nginx.
    Nginx,
    /// HAProxy.
    HaProxy,
    /// Envoy.
    Envoy,
}

impl Kind {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "springtide",
            Self::Unprotected => "springtide, protection off",
            Self::Nginx => "nginx",
            Self::HaProxy => "haproxy",
            Self::Envoy => "envoy",
        }
    }
}

/// A running proxy; dropped, it ends.
pub struct Peer {
    /// Which.
    pub kind: Kind,
    /// Where it listens.
    pub address: SocketAddr,
    child: Child,
}

impl Peer {
    /// Starts it on `core`, in front of `origin`, with its files in `folder`.
    pub fn start(kind: Kind, core: usize, origin: SocketAddr, folder: &Path) -> Result<Self> {
        let address = testkit::address();
        let mut command = command(kind, address, origin, folder)?;
        let log = File::create(folder.join(format!("{kind:?}.log")))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // A child inherits the core it was started on, and so do its threads.
        let before = sched_getaffinity(None)?;
        sched_setaffinity(None, &only(core))?;
        let child = command.spawn();
        sched_setaffinity(None, &before)?;
        let child = child.with_context(|| format!("cannot start {:?}: {}", command.get_program(), hint(kind)))?;
        let mut peer = Self { kind, address, child };
        peer.await_listening(folder)?;
        Ok(peer)
    }

    fn await_listening(&mut self, folder: &Path) -> Result<()> {
        let began = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            let ended = self.child.try_wait()?;
            if ended.is_some() || began.elapsed() > PATIENCE {
                let log = fs::read_to_string(folder.join(format!("{:?}.log", self.kind))).unwrap_or_default();
                bail!("{} does not listen on {} ({ended:?}):\n{log}", self.kind.name(), self.address);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// CPU time of all its threads and children so far, in seconds (the scheduler's own count, in nanoseconds).
    pub fn cpu_seconds(&self) -> Result<f64> {
        let mut ns = 0;
        for pid in self.pids()? {
            for task in fs::read_dir(format!("/proc/{pid}/task"))? {
                let text = fs::read_to_string(task?.path().join("schedstat"))?;
                ns += text.split(' ').next().context("schedstat begins with the time run")?.parse::<u64>()?;
            }
        }
        Ok(ns as f64 / 1e9)
    }

    /// Resident memory of all its processes, in MiB.
    pub fn resident_mib(&self) -> Result<f64> {
        let mut kib = 0;
        for pid in self.pids()? {
            let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
            let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
            kib += line.split_whitespace().next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
        }
        Ok(kib as f64 / 1024.0)
    }

    fn pids(&self) -> Result<Vec<u32>> {
        let parent = self.child.id();
        let mut pids = vec![parent];
        for entry in fs::read_dir("/proc")?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let of = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
            if of == Some(parent) {
                pids.push(pid);
            }
        }
        Ok(pids)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // TERM, not KILL: nginx's worker is ended by its master.
        let told = Pid::from_raw(self.child.id() as i32).map(|pid| kill_process(pid, Signal::TERM));
        let began = Instant::now();
        while told.is_some() && began.elapsed() < PATIENCE {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One core.
pub fn only(core: usize) -> CpuSet {
    let mut set = CpuSet::new();
    set.set(core);
    set
}

fn hint(kind: Kind) -> &'static str {
    match kind {
        Kind::Ours | Kind::Unprotected => "build it: cargo build --release -p springtide",
        Kind::Nginx | Kind::HaProxy | Kind::Envoy => "`cargo xtask bench proxy` installs it",
    }
}

fn command(kind: Kind, address: SocketAddr, origin: SocketAddr, folder: &Path) -> Result<Command> {
    let configured = |template: &str, name: &str| -> Result<PathBuf> {
        let text = template
            .replace("{port}", &address.port().to_string())
            .replace("{origin}", &origin.to_string())
            .replace("{origin_port}", &origin.port().to_string())
            .replace("{folder}", &folder.to_string_lossy());
        let path = folder.join(name);
        fs::write(&path, text)?;
        Ok(path)
    };
    Ok(match kind {
        Kind::Ours | Kind::Unprotected => ours(kind, address, origin, folder)?,
        Kind::Nginx => {
            let config = configured(include_str!("../../proxy/nginx.conf"), "nginx.conf")?;
            let mut command = Command::new("/usr/sbin/nginx");
            command.arg("-c").arg(config).arg("-p").arg(folder).arg("-e").arg(folder.join("nginx-error.log"));
            command
        }
        Kind::HaProxy => {
            let config = configured(include_str!("../../proxy/haproxy.cfg"), "haproxy.cfg")?;
            let mut command = Command::new("/usr/sbin/haproxy");
            command.arg("-db").arg("-f").arg(config);
            command
        }
        Kind::Envoy => {
            let config = configured(include_str!("../../proxy/envoy.yaml"), "envoy.yaml")?;
            let mut command = Command::new(envoy()?);
            command.arg("-c").arg(config);
            command.args(["--concurrency", "1", "--log-level", "error", "--disable-hot-restart"]);
            command
        }
    })
}

fn ours(kind: Kind, address: SocketAddr, origin: SocketAddr, folder: &Path) -> Result<Command> {
    let data = folder.join(format!("{kind:?}"));
    fs::create_dir_all(&data)?;
    state::write(&data.join("routing.state"), origin)?;
    let token = folder.join("token");
    fs::write(&token, "bench")?;
    let program = std::env::current_exe()?.with_file_name("springtide");
    ensure!(program.exists(), "{} is not there: {}", program.display(), hint(kind));
    let mut command = Command::new(program);
    // Nobody listens there: it runs on its saved state.
    command.args(["proxy", "--name", "bench", "--server", "http://127.0.0.1:1", "--mesh", "127.0.0.1:0"]);
    command.arg("--entry").arg(address.to_string()).arg("--data").arg(data).arg("--token-file").arg(token);
    command.args(["--threads", "1"]).env("SPRINGTIDE_LOG", "error");
    if kind == Kind::Unprotected {
        command.args(["--protection", "off"]);
    }
    Ok(command)
}

/// The program inside the Python package; its launcher would be a second process.
fn envoy() -> Result<PathBuf> {
    for version in fs::read_dir(ENVOY_FOLDER).into_iter().flatten().flatten() {
        let program = version.path().join("site-packages/envoy/_bin/envoy");
        if program.exists() {
            return Ok(program);
        }
    }
    bail!("no Envoy below {ENVOY_FOLDER}: {}", hint(Kind::Envoy))
}
