//! The servers under test: ours, VictoriaMetrics and Prometheus, each with its own folder, on loopback.

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use springtide_bench::fleet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Time for a server to answer, and to end.
const PATIENCE: Duration = Duration::from_secs(30);
/// Looks, three seconds apart, that must find the same before sealing is taken as done.
const SAME_LOOKS: u32 = 3;
/// Clock ticks a second, of /proc.
const TICKS: f64 = 100.0;

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Springtide,
    VictoriaMetrics,
    Prometheus,
}

/// All of them.
pub const KINDS: [Kind; 3] = [Kind::Springtide, Kind::VictoriaMetrics, Kind::Prometheus];

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Springtide => "springtide",
            Self::VictoriaMetrics => "victoria-metrics",
            Self::Prometheus => "prometheus",
        }
    }
}

/// Bytes on disk for each sample: what holds samples, and what holds their labels.
#[derive(Debug, Clone, Copy)]
pub struct DiskUse {
    pub samples: u64,
    pub bytes: u64,
}

impl DiskUse {
    pub fn per_sample(self) -> f64 {
        self.bytes as f64 / self.samples.max(1) as f64
    }
}

/// A running server; dropped, it ends and its folder goes.
pub struct Server {
    pub kind: Kind,
    address: SocketAddr,
    folder: tempfile::TempDir,
    child: Child,
    token: String,
    connection: Option<BufReader<TcpStream>>,
}

impl Server {
    /// Starts one with an empty folder.
    pub fn start(kind: Kind) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let address = testkit::address();
        let mut command = command(kind, address, folder.path())?;
        let log = File::create(folder.path().join("log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("cannot start {:?}", command.get_program()))?;
        let mut server = Self { kind, address, folder, child, token: String::new(), connection: None };
        server.await_ready()?;
        if kind == Kind::Springtide {
            server.token = fs::read_to_string(server.folder.path().join("data/api-token"))?.trim().to_owned();
        }
        Ok(server)
    }

    fn await_ready(&mut self) -> Result<()> {
        let path = if self.kind == Kind::VictoriaMetrics { "/health" } else { "/-/ready" };
        let path = if self.kind == Kind::Springtide { "/healthz" } else { path };
        let began = Instant::now();
        loop {
            if self.request("GET", path, &[]).is_ok_and(|(status, _)| status == 200) {
                return Ok(());
            }
            let ended = self.child.try_wait()?;
            if ended.is_some() || began.elapsed() > PATIENCE {
                let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
                bail!("{} is not ready ({ended:?}):\n{log}", self.kind.name());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// One request: writes go over the kept connection, questions, which come seldom, over one that nobody has closed yet.
    pub fn request(&mut self, method: &str, path: &str, body: &[u8]) -> Result<(u16, Vec<u8>)> {
        if body.is_empty() {
            self.connection = None;
        }
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let stream = TcpStream::connect(self.address)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(Duration::from_secs(60)))?;
                BufReader::new(stream)
            }
        };
        let mut head =
            format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n", self.address, body.len());
        if !self.token.is_empty() {
            head += &format!("Authorization: Bearer {}\r\n", self.token);
        }
        if !body.is_empty() {
            head += "Content-Encoding: snappy\r\nContent-Type: application/x-protobuf\r\n";
            head += "X-Prometheus-Remote-Write-Version: 0.1.0\r\n";
        }
        head += "\r\n";
        let stream = connection.get_mut();
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        let answer = answer(&mut connection)?;
        self.connection = Some(connection);
        Ok(answer)
    }

    /// Sends a request of remote write.
    pub fn write(&mut self, body: &[u8]) -> Result<()> {
        let (status, answer) = self.request("POST", "/api/v1/write", body)?;
        ensure!(status / 100 == 2, "{} answers {status}: {}", self.kind.name(), String::from_utf8_lossy(&answer));
        Ok(())
    }

    /// CPU that the process used since it started, user and system, all threads.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let fields: Vec<&str> = stat.rsplit_once(')').context("stat names its program")?.1.split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok()).context("stat has ticks");
        Ok((ticks(11)? + ticks(12)?) / TICKS)
    }

    /// Resident memory now and at its highest, in MiB.
    pub fn resident_mib(&self) -> Result<(f64, f64)> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let kib = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("");
            line.split_whitespace().next().and_then(|word| word.parse::<f64>().ok()).unwrap_or(0.0)
        };
        Ok((kib("VmRSS:") / 1_024.0, kib("VmHWM:") / 1_024.0))
    }

    /// A line of our own exposition.
    pub fn metric(&mut self, name: &str) -> Result<u64> {
        let (_, text) = self.request("GET", "/metrics", &[])?;
        let text = String::from_utf8(text)?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(line.with_context(|| format!("/metrics has no {name}"))?.parse()?)
    }

    /// Waits until ours has sealed what it will; gives others the same time that a round has at least.
    pub fn settle(&mut self, least: Duration) -> Result<()> {
        let began = Instant::now();
        let (mut before, mut same) = (0, 0);
        loop {
            std::thread::sleep(Duration::from_secs(3));
            if began.elapsed() < least {
                continue;
            }
            if self.kind != Kind::Springtide {
                return Ok(());
            }
            let sealed = self.metric("springtide_store_disk_points")?;
            // On a busy machine an hour's parts come seconds apart.
            same = if sealed > 0 && sealed == before { same + 1 } else { 0 };
            if same == SAME_LOOKS {
                return Ok(());
            }
            ensure!(began.elapsed() < Duration::from_secs(120), "nothing was sealed in two minutes");
            before = sealed;
        }
    }

    /// What sealed samples take on disk. The peers are asked to finish theirs first.
    pub fn disk(&mut self, samples: u64) -> Result<DiskUse> {
        match self.kind {
            Kind::Springtide => {
                let points = self.metric("springtide_store_disk_points")?;
                Ok(DiskUse { samples: points, bytes: self.metric("springtide_store_disk_bytes")? })
            }
            Kind::VictoriaMetrics => {
                self.request("GET", "/internal/force_flush", &[])?;
                self.request("GET", "/internal/force_merge", &[])?;
                self.await_steady()?;
                let data = self.folder.path().join("data");
                Ok(DiskUse { samples, bytes: bytes_of(&data.join("data")) + bytes_of(&data.join("indexdb")) })
            }
            Kind::Prometheus => {
                let (status, text) = self.request("POST", "/api/v1/admin/tsdb/snapshot", &[])?;
                ensure!(status == 200, "no snapshot: {}", String::from_utf8_lossy(&text));
                Ok(DiskUse { samples, bytes: bytes_of(&self.folder.path().join("data/snapshots")) })
            }
        }
    }

    /// Waits until the folder's size has not changed for some seconds.
    fn await_steady(&self) -> Result<()> {
        let (mut before, mut same) = (0, 0);
        for _ in 0..60 {
            std::thread::sleep(Duration::from_secs(1));
            let now = bytes_of(&self.folder.path().join("data"));
            same = if now == before { same + 1 } else { 0 };
            before = now;
            if same >= 4 {
                break;
            }
        }
        Ok(())
    }
}

fn command(kind: Kind, address: SocketAddr, folder: &Path) -> Result<Command> {
    let data: PathBuf = folder.join("data");
    let mut command = match kind {
        Kind::Springtide => {
            let mut command = Command::new(fleet::program()?);
            command.arg("server").arg("--data").arg(&data).arg("--socket").arg(folder.join("s"));
            command.args(["--http", &address.to_string(), "--fleet", "127.0.0.1:0"]);
            command
        }
        Kind::VictoriaMetrics => {
            let mut command = Command::new("victoria-metrics");
            command.arg("-storageDataPath").arg(&data).arg("-httpListenAddr").arg(address.to_string());
            command.args(["-loggerLevel", "ERROR"]);
            command
        }
        Kind::Prometheus => {
            let config = folder.join("prometheus.yml");
            fs::write(&config, "global: {}\n")?;
            let mut command = Command::new("prometheus");
            command.arg("--config.file").arg(config).arg("--storage.tsdb.path").arg(&data);
            command.arg(format!("--web.listen-address={address}"));
            command.args(["--web.enable-remote-write-receiver", "--web.enable-admin-api", "--log.level=error"]);
            command
        }
    };
    command.current_dir(folder);
    Ok(command)
}

fn answer(from: &mut BufReader<TcpStream>) -> Result<(u16, Vec<u8>)> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    let status = line.split(' ').nth(1).context("no status in the answer")?.parse()?;
    let (mut length, mut chunked) = (0, false);
    loop {
        line.clear();
        from.read_line(&mut line)?;
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
        chunked |= lower.starts_with("transfer-encoding:") && lower.contains("chunked");
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = Vec::new();
    if !chunked {
        body.resize(length, 0);
        from.read_exact(&mut body)?;
        return Ok((status, body));
    }
    loop {
        line.clear();
        from.read_line(&mut line)?;
        let size = usize::from_str_radix(line.trim(), 16)?;
        let begin = body.len();
        body.resize(begin + size, 0);
        from.read_exact(&mut body[begin..])?;
        line.clear();
        from.read_line(&mut line)?;
        if size == 0 {
            return Ok((status, body));
        }
    }
}

/// Bytes of all files under a folder; none when it is not there.
fn bytes_of(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let of = |entry: fs::DirEntry| match entry.metadata() {
        Ok(about) if about.is_dir() => bytes_of(&entry.path()),
        Ok(about) => about.len(),
        Err(_) => 0,
    };
    entries.map(of).sum()
}

impl Drop for Server {
    fn drop(&mut self) {
        let told = Pid::from_raw(self.child.id() as i32).map(|pid| kill_process(pid, Signal::TERM));
        let began = Instant::now();
        while told.is_some() && began.elapsed() < PATIENCE {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
