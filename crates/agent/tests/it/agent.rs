//! An agent as a child process, and what an assignment for it looks like.

use crate::fleet::{Listener, TOKEN};
use api::fleet::{Assignment, HealthCheck, Intent, Phase};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

pub struct Agent {
    pub name: String,
    pub dir: tempfile::TempDir,
    pub isolation: &'static str,
    pub server: String,
    process: Option<Child>,
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

impl Agent {
    pub fn new(listener: &Listener, isolation: &'static str) -> Self {
        let dir = tempfile::tempdir().expect("temp");
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).expect("ours");
        let name = format!("it-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        Self { name, dir, isolation, server: format!("http://{}", listener.address), process: None }
    }

    pub async fn started(listener: &Listener) -> Self {
        let mut agent = Self::new(listener, "auto");
        agent.start();
        listener.fleet.connected(1).await;
        agent
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub fn command(&self, entry: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_springtide-agent"));
        command.args([entry, "--host", &self.name, "--server", &self.server, "--isolation", self.isolation, "--data"]);
        command.arg(self.data()).args(["--cgroup-root", &format!("springtide-it/{}", self.name)]);
        command.env("SPRINGTIDE_TOKEN", TOKEN).stdin(Stdio::null());
        let log = std::fs::File::options().create(true).append(true).open(self.dir.path().join("agent.log"));
        let log = log.expect("temp");
        command.stdout(log.try_clone().expect("a file")).stderr(log);
        command
    }

    pub fn start(&mut self) {
        self.process = Some(self.command("agent").spawn().expect("the agent was built"));
    }

    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("started").id()
    }

    /// Resident memory of the agent.
    pub fn resident_kib(&self) -> u64 {
        resident_kib(self.pid())
    }

    /// kill -9.
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("started");
        process.kill().expect("ours");
        process.wait().expect("ours");
    }

    /// Ends it as systemd would.
    pub fn terminate(&mut self) {
        let mut process = self.process.take().expect("started");
        let asked = Command::new("kill").arg(process.id().to_string()).status().expect("kill exists");
        assert!(asked.success() && process.wait().expect("ours").success());
    }

    /// Cgroup folders of ours, anywhere.
    pub fn slices(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for hierarchy in hierarchies() {
            let ours = hierarchy.join("springtide-it").join(&self.name);
            found.extend(std::fs::read_dir(ours).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
        found.retain(|path| path.is_dir());
        found
    }

    /// Processes that have our data folder on their command line: shims and, by their program, instances.
    pub fn processes(&self) -> Vec<u32> {
        let needle = self.dir.path().to_string_lossy().into_owned();
        let all = std::fs::read_dir("/proc").expect("proc").flatten();
        let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let has = |pid: &u32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(&needle)
        };
        pids.filter(|pid| Some(*pid) != self.process.as_ref().map(Child::id)).filter(has).collect()
    }

    /// Stops the agent, then its instances by `stop-all`, and sees to it that nothing is left.
    pub fn end(mut self) {
        if self.process.is_some() {
            self.kill();
        }
        let stopped = self.command("stop-all").status().expect("the agent was built");
        assert!(stopped.success(), "{}", self.log());
        assert_eq!(self.slices(), Vec::<PathBuf>::new(), "cgroups leak");
        assert_eq!(self.processes(), Vec::<u32>::new(), "processes leak");
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("agent.log")).unwrap_or_default()
    }
}

/// Where cgroups are mounted here: one place on v2, one per controller before it.
pub fn hierarchies() -> Vec<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").expect("proc");
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    fields.filter(|of| of[2].starts_with("cgroup")).map(|of| PathBuf::from(of[1])).collect()
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Only after a failed test is there anything left.
        if let Some(mut process) = self.process.take() {
            eprintln!("agent log:\n{}", self.log());
            let _best_effort = (process.kill(), process.wait());
            let _best_effort = self.command("stop-all").status();
        }
    }
}

/// Resident memory of a process.
pub fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("proc(5)");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// The fixture, packed; the same bytes each time.
pub fn package() -> Vec<u8> {
    static PACKED: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    let pack = || {
        let mut tar = tar::Builder::new(Vec::new());
        tar.append_path_with_name(env!("CARGO_BIN_EXE_agent-fixture"), "bin/fixture").expect("it was built");
        zstd::encode_all(&tar.into_inner().expect("in memory")[..], 1).expect("in memory")
    };
    PACKED.get_or_init(pack).clone()
}

/// Puts the fixture on the server; gives its digest.
pub fn publish(listener: &Listener) -> String {
    let packed = package();
    let digest = model::Digest::of(&packed).to_string();
    listener.fleet.seen().packages.insert(digest.clone(), packed);
    digest
}

pub fn assignment(listener: &Listener, instance: &str) -> Assignment {
    let address = testkit::address();
    let port = address.port().into();
    Assignment {
        instance: instance.into(),
        service: "fixture".into(),
        layer: "logic".into(),
        business: "tests".into(),
        datacenter: "dc1".into(),
        intent: Intent::Running.into(),
        package_digest: publish(listener),
        config_digest: "one".into(),
        command: vec!["bin/fixture".into(), "for ${SPRINGTIDE_INSTANCE}".into()],
        cpu_millis: 500,
        memory_bytes: 64 << 20,
        pids_max: 20,
        ports: [("http".to_owned(), port)].into(),
        address: address.ip().to_string(),
        health_check: Some(HealthCheck {
            path: "/healthz".into(),
            port,
            interval_ms: 100,
            timeout_ms: 1_000,
            failures_max: 2,
            start_ms_max: 10_000,
        }),
        drain_ms: 0,
        grace_ms: 2_000,
        ..Default::default()
    }
}

/// Where a fixture listens.
pub fn url(assignment: &Assignment, path: &str) -> String {
    format!("http://{}:{}{path}", assignment.address, assignment.ports["http"])
}

/// Asks a running fixture.
pub async fn ask(assignment: &Assignment, path: &str) -> String {
    reqwest::get(url(assignment, path)).await.expect("it runs").text().await.expect("text")
}

/// Brings one instance up; gives its pid.
pub async fn bring_up(listener: &Listener, assignment: &Assignment, revision: u64) -> u32 {
    listener.fleet.set(revision, vec![assignment.clone()], &[]).await;
    listener.fleet.phase(&assignment.instance, Phase::Healthy).await.pid
}
