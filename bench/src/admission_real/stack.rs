//! The processes of one cell: the service in a slice with a quota on one core, and our proxy before it.

use super::Args;
use super::schemes::{Control, Row};
use crate::proxy_bench::peers::{Kind, Peer, only};
use agent::cgroup::{Limits, Meter, Slice, Tree};
use anyhow::{Context, Result, bail};
use rustix::thread::{sched_getaffinity, sched_setaffinity};
use springtide_bench::fleet::{Guard, built};
use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Time for the service to listen.
const PATIENCE: Duration = Duration::from_secs(15);
/// Memory of the service's slice: queues of thousands fit.
const MEMORY_BYTES: u64 = 512 << 20;
/// Processes and threads of it.
const PIDS_MAX: u32 = 64;

/// The cgroups of this run.
pub struct Slices {
    tree: Tree,
}

impl Slices {
    /// Makes their parent.
    pub fn open() -> Result<Self> {
        let root = format!("springtide-bench/{}", std::process::id());
        Ok(Self { tree: Tree::open(&root).context("the service needs a cgroup with a CPU quota")? })
    }

    /// Which cgroups this machine has.
    pub fn layout(&self) -> &'static str {
        self.tree.layout().as_str()
    }
}

impl Drop for Slices {
    fn drop(&mut self) {
        self.tree.close();
    }
}

/// A running cell. Its parts end in the order of its fields.
pub struct Stack {
    proxy: Peer,
    service: Service,
}

/// The service in its slice.
struct Service {
    address: SocketAddr,
    _process: Guard,
    _slice: Slot,
    meter: Meter,
}

/// A slice that goes when the cell does.
struct Slot(Slice);

impl Drop for Slot {
    fn drop(&mut self) {
        if let Err(error) = self.0.kill().and_then(|()| self.0.remove()) {
            eprintln!("the service's slice stays behind: {error}");
        }
    }
}

impl Stack {
    /// Starts the service and the proxy for a row; files go to `folder`.
    pub fn start(args: &Args, slices: &Slices, row: Row, capacity_rps: f64, folder: &Path) -> Result<Self> {
        let command = |address: SocketAddr| match row.control() {
            Some(control) => plain(args, control, capacity_rps, address),
            None => with_sdk(args, address, folder),
        };
        let service = Service::start(args, slices, command, folder)?;
        let kind = if row.proxy_protects() { Kind::Ours } else { Kind::Unprotected };
        let proxy = Peer::start(kind, args.proxy_core, service.address, folder)?;
        Ok(Self { proxy, service })
    }

    /// Where calls go.
    pub fn entry(&self) -> SocketAddr {
        self.proxy.address
    }

    /// The path that both kinds of service answer.
    pub fn path() -> &'static str {
        "/draw"
    }

    /// CPU that the service and the proxy have used, in seconds.
    pub fn cpu_seconds(&mut self) -> Result<(f64, f64)> {
        Ok((self.service.meter.read()?.cpu_usage_us as f64 / 1e6, self.proxy.cpu_seconds()?))
    }
}

impl Service {
    fn start(
        args: &Args,
        slices: &Slices,
        command: impl FnOnce(SocketAddr) -> Result<Command>,
        folder: &Path,
    ) -> Result<Self> {
        let slice = slices.tree.slice("service");
        slice.create(&Limits { cpu_millis: args.quota_millis, memory_bytes: MEMORY_BYTES, pids_max: PIDS_MAX })?;
        let slot = Slot(slice);
        let address = testkit::address();
        let mut command = command(address)?;
        let log = File::create(folder.join("service.log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // A child inherits the core it was started on, and so do its threads.
        let before = sched_getaffinity(None)?;
        sched_setaffinity(None, &only(args.service_core))?;
        let child = command.spawn();
        sched_setaffinity(None, &before)?;
        let mut process = Guard(child.with_context(|| format!("cannot start {:?}", command.get_program()))?);
        for file in slot.0.join_files() {
            fs::write(&file, process.0.id().to_string()).with_context(|| format!("cannot join {}", file.display()))?;
        }
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            if process.0.try_wait()?.is_some() || began.elapsed() > PATIENCE {
                let log = fs::read_to_string(folder.join("service.log")).unwrap_or_default();
                bail!("the service does not listen on {address}:\n{log}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let meter = Meter::open(&slot.0);
        Ok(Self { address, _process: process, _slice: slot, meter })
    }
}

/// The benchmark's own service.
fn plain(args: &Args, control: Control, capacity_rps: f64, address: SocketAddr) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    let name = clap::ValueEnum::to_possible_value(&control).context("every control has a name")?;
    command.arg("admission-service").arg("--address").arg(address.to_string()).arg("--control").arg(name.get_name());
    command.arg("--cpu-us").arg(args.cpu_us.to_string()).arg("--deadline-ms").arg(super::DEADLINE_MS.to_string());
    command.arg("--capacity-rps").arg(capacity_rps.to_string()).arg("--seed").arg(args.seed.to_string());
    Ok(command)
}

/// The sample business's `lottery`, which has the SDK: as many microseconds for each draw, and nobody wins.
fn with_sdk(args: &Args, address: SocketAddr, folder: &Path) -> Result<Command> {
    let config = folder.join("config");
    fs::create_dir_all(&config)?;
    let knobs = serde_json::json!({
        "cpu_us": args.cpu_us, "win_rate": 0.0, "workers": 1, "call_timeout_ms": super::DEADLINE_MS,
    });
    fs::write(config.join("lottery.json"), knobs.to_string())?;
    let mut command = Command::new(built("red-packet")?);
    command.arg("lottery").env("SPRINGTIDE_ADDRESS", address.ip().to_string());
    command.env("PORT_HTTP", address.port().to_string()).env("SPRINGTIDE_CONFIG", config);
    command.env("SPRINGTIDE_SERVICE", "web").env_remove("SPRINGTIDE_MESH");
    Ok(command)
}
