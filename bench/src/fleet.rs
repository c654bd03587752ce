//! A `springtide dev` fleet in a folder of its own, as a user starts it, and what benchmarks ask of it.

use crate::machine::{self, Process};
use anyhow::{Context, Result, bail};
use api::client::Client;
use model::{Operation, OperationPhase};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Time in which a fleet must be up.
const UP_SECONDS_MAX: u64 = 60;
/// Time in which a fleet must be gone.
const DOWN_SECONDS_MAX: u64 = 60;

/// A running fleet.
pub struct Fleet {
    dev: Child,
    size: Size,
    more: Vec<String>,
    folder: tempfile::TempDir,
    /// Client of its API.
    pub client: Client,
    /// Where traffic from outside enters.
    pub entry: SocketAddr,
    /// Where services call one another.
    pub mesh: SocketAddr,
    /// Where the API and the war room answer over TCP.
    pub http: SocketAddr,
}

/// How large a fleet.
#[derive(Clone, Copy)]
pub struct Size {
    /// Datacenters.
    pub datacenters: u8,
    /// Hosts in each.
    pub hosts: u8,
    /// CPU of each host, in cores.
    pub cpu: &'static str,
    /// Memory of each host.
    pub memory: &'static str,
}

/// A program of the workspace, built beside this one (tests run one folder deeper).
pub fn built(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own.parent().context("a program lies in a folder")?;
    let folder = if folder.ends_with("deps") { folder.parent().context("deps lies in a folder")? } else { folder };
    let path = folder.join(name);
    if !path.exists() {
        bail!("{} is not built: run this through cargo xtask", path.display());
    }
    Ok(path)
}

/// The springtide program.
pub fn program() -> Result<PathBuf> {
    built("springtide")
}

fn start_dev(size: &Size, folder: &Path, at: [SocketAddr; 3], more: &[String]) -> Result<Child> {
    let [entry, mesh, http] = at;
    let log = std::fs::File::options().create(true).append(true).open(folder.join("dev.log"))?;
    let mut command = Command::new(program()?);
    command
        .args(["dev", "--datacenters", &size.datacenters.to_string(), "--hosts", &size.hosts.to_string()])
        .args(["--host-cpu", size.cpu, "--host-memory", size.memory])
        .args(["--entry", &entry.to_string(), "--mesh", &mesh.to_string()])
        .args(["--http", &http.to_string(), "--data"])
        .arg(folder)
        .args(more)
        .env("SPRINGTIDE_FAILPOINT", folder.join("failpoint"))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    command.spawn().context("cannot start springtide dev")
}

impl Fleet {
    /// Starts one and waits until all its agents are connected.
    pub async fn start(size: &Size) -> Result<Self> {
        Self::start_with(size, &[]).await
    }

    /// The same, with more arguments of `springtide dev`.
    pub async fn start_with(size: &Size, more: &[&str]) -> Result<Self> {
        let more: Vec<String> = more.iter().map(|text| (*text).to_owned()).collect();
        let folder = tempfile::Builder::new().prefix("springtide-").tempdir()?;
        // Instances run unprivileged and must be able to reach their folders.
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let (entry, mesh, http) = (testkit::address(), testkit::address(), testkit::address());
        let client = Client::at_socket(&folder.path().join("springtide.sock"));
        let dev = start_dev(size, folder.path(), [entry, mesh, http], &more)?;
        let mut fleet = Self { dev, size: *size, more, folder, client, entry, mesh, http };
        fleet.await_up().await?;
        Ok(fleet)
    }

    /// Kills `springtide dev` with -9, waits until its parts have gone, and starts it again on the same folder.
    pub async fn kill_dev_and_start_again(&mut self) -> Result<()> {
        self.dev.kill()?;
        self.dev.wait()?;
        let deadline = Instant::now() + Duration::from_secs(DOWN_SECONDS_MAX);
        while ["server", "agent", "proxy"].iter().any(|part| self.part(part, None).is_some()) {
            if Instant::now() > deadline {
                bail!("the parts of a killed dev live on");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.dev = start_dev(&self.size, self.folder.path(), [self.entry, self.mesh, self.http], &self.more)?;
        self.await_up().await
    }

    /// Stops `springtide dev` from starting again what dies (by freezing it), or lets it.
    pub fn set_revival(&self, on: bool) -> Result<()> {
        let signal = if on { rustix::process::Signal::CONT } else { rustix::process::Signal::STOP };
        Ok(rustix::process::kill_process(self.dev_id()?, signal)?)
    }

    fn dev_id(&self) -> Result<rustix::process::Pid> {
        rustix::process::Pid::from_raw(self.dev.id() as i32).context("a process id is not 0")
    }

    /// Copies the manifests of an example into this fleet's folder, with the programs built beside this one as sources.
    pub fn copy_example(&self, name: &str) -> Result<PathBuf> {
        let from = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples")).join(name).join("manifests");
        let to = self.folder.path().join(name);
        std::fs::create_dir_all(&to)?;
        let built = built("red-packet")?.display().to_string();
        for entry in std::fs::read_dir(&from).with_context(|| from.display().to_string())? {
            let path = entry?.path();
            let text = std::fs::read_to_string(&path)?.replace("../../../target/release/red-packet", &built);
            std::fs::write(to.join(path.file_name().context("an entry of a folder has a name")?), text)?;
        }
        Ok(to)
    }

    async fn await_up(&mut self) -> Result<()> {
        let hosts = u32::from(self.size.datacenters) * u32::from(self.size.hosts);
        let deadline = Instant::now() + Duration::from_secs(UP_SECONDS_MAX);
        while Instant::now() < deadline {
            if let Some(status) = self.dev.try_wait()? {
                bail!("springtide dev ended ({status}):\n{}", self.dev_log());
            }
            match self.client.status().await {
                Ok(status) if status.hosts_connected == hosts && status.settled && status.proxies > 0 => return Ok(()),
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
        bail!("the fleet was not up within {UP_SECONDS_MAX} s:\n{}", self.dev_log())
    }

    fn dev_log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("dev.log")).unwrap_or_default()
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs the command line as a user would; gives what it printed.
    pub fn cli(&self, args: &[&str]) -> Result<String> {
        let socket = self.folder.path().join("springtide.sock");
        let output = Command::new(program()?).args(args).env("SPRINGTIDE_SERVER", socket).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            bail!("springtide {} ended with {}:\n{text}{errors}", args.join(" "), output.status);
        }
        Ok(text)
    }

    /// Writes manifests to a folder and applies them; what follows is awaited by [`Self::await_steady`].
    pub async fn apply(&self, manifests: &str) -> Result<()> {
        let folder = self.folder.path().join("manifests");
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("bench.yaml"), manifests)?;
        self.cli(&["apply", "-f", folder.to_str().context("the folder's name is text")?, "--no-wait"])?;
        Ok(())
    }

    /// Waits until the services have the instances they want, all healthy, and no operation is open.
    pub async fn await_steady(&self, seconds_max: u64) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(seconds_max);
        loop {
            let (services, status) = (self.client.services().await, self.client.status().await);
            if let (Ok(services), Ok(status)) = (&services, &status) {
                let well = services.iter().all(|s| s.wanted == s.healthy && s.wanted == s.placed);
                if well && status.operations_open == 0 && status.settled {
                    return Ok(());
                }
            }
            if Instant::now() > deadline {
                let operations = self.client.operations().await.unwrap_or_default();
                let failures: Vec<_> = operations.iter().flat_map(|operation| &operation.failures).collect();
                bail!("not steady within {seconds_max} s: {services:?}; failures: {failures:?}");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits for an operation's end, through restarts of the server.
    pub async fn await_operation(&self, id: &str, seconds_max: u64) -> Result<Operation> {
        let deadline = Instant::now() + Duration::from_secs(seconds_max);
        let mut last = None;
        while Instant::now() < deadline {
            if let Ok(operation) = self.client.operation(id).await {
                if operation.phase.is_final() {
                    return Ok(operation);
                }
                last = Some(operation);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("{id} did not end within {seconds_max} s: {last:#?}")
    }

    /// The living instance processes, by instance id: ids and process ids as the server lists them, life as the OS says.
    pub async fn instance_processes(&self) -> Result<Vec<(String, Process)>> {
        let instances = self.client.instances(None, None).await?;
        let alive = instances.into_iter().filter_map(|i| Some((i.instance.to_string(), Process::read(i.pid as i32)?)));
        Ok(alive.collect())
    }

    /// The process of one of its parts (`server`, `agent`, `proxy`), for an agent of the host named.
    pub fn part(&self, command: &str, host: Option<&str>) -> Option<Process> {
        let folder = self.folder.path().to_string_lossy().into_owned();
        let is_it = |process: &Process| {
            process.args.get(1).is_some_and(|word| word == command)
                && process.args.iter().any(|word| word.starts_with(&folder))
                && host.is_none_or(|host| process.args.iter().any(|word| word == host))
        };
        machine::processes(is_it).into_iter().next()
    }

    /// The part of its cgroups' path that no other fleet has.
    pub fn cgroup_part(&self) -> Result<String> {
        let folder = self.folder.path().canonicalize()?;
        let digest = model::Digest::of(folder.as_os_str().as_encoded_bytes());
        Ok(format!("springtide-dev-{}", &digest.hex()[..8]))
    }

    /// Stops it as Ctrl-C would; gives what it left behind (nothing, one hopes).
    pub async fn stop(mut self) -> Result<Vec<String>> {
        rustix::process::kill_process(self.dev_id()?, rustix::process::Signal::TERM)?;
        let deadline = Instant::now() + Duration::from_secs(DOWN_SECONDS_MAX);
        while self.dev.try_wait()?.is_none() {
            if Instant::now() > deadline {
                bail!("springtide dev did not stop within {DOWN_SECONDS_MAX} s:\n{}", self.dev_log());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let mut left: Vec<String> = Vec::new();
        left.extend(machine::cgroups(&self.cgroup_part()?).iter().map(|path| format!("cgroup {}", path.display())));
        let folder = self.folder.path().to_string_lossy().into_owned();
        let ours = |process: &Process| process.args.iter().any(|word| word.contains(&folder));
        left.extend(machine::processes(ours).iter().map(|process| format!("process {process:?}")));
        Ok(left)
    }
}

impl Drop for Fleet {
    /// A benchmark that fails midway still takes its fleet down.
    fn drop(&mut self) {
        if matches!(self.dev.try_wait(), Ok(None)) {
            if let Ok(pid) = self.dev_id() {
                let _gone = rustix::process::kill_process(pid, rustix::process::Signal::CONT);
                let _gone = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
            drop(self.dev.wait());
        }
    }
}

/// A plain process that ends with its guard.
pub struct Guard(pub Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // It may have ended by itself: then there is nothing to kill.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// One line on how an operation ended, or an error when not well.
pub fn succeeded(operation: &Operation) -> Result<()> {
    if operation.phase != OperationPhase::Succeeded {
        bail!("{} ended {:?}: {}", operation.id, operation.phase, operation.failures.join("; "));
    }
    Ok(())
}
