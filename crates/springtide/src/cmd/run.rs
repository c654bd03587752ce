//! The long-running parts, each its own process: `server`, `agent`, `proxy`. The shim is a program of its own.

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Run the control plane
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  springtide server --data /var/lib/springtide --fleet 127.0.0.1:7400 --remote-write http://127.0.0.1:8428/api/v1/write\n  springtide server --http 0.0.0.0:7401 --http-tls-cert room.pem --http-tls-key room.key"
)]
pub struct ServerArgs {
    /// Folder of the store, the records and the packages
    #[arg(long, default_value = "/var/lib/springtide")]
    data: PathBuf,
    /// Unix socket of the API
    #[arg(long, default_value = "/run/springtide/springtide.sock")]
    socket: PathBuf,
    /// Also serve the API and the war room here (bearer token in DATA/api-token; beyond loopback only with TLS)
    #[arg(long, value_parser = super::address)]
    http: Option<SocketAddr>,
    /// PEM file of the certificate chain for --http, leaf first
    #[arg(long, requires = "http", requires = "http_tls_key")]
    http_tls_cert: Option<PathBuf>,
    /// PEM file of its private key
    #[arg(long, requires = "http_tls_cert")]
    http_tls_key: Option<PathBuf>,
    /// Where agents and proxies connect (port 0: any free one, written to DATA/server.json)
    #[arg(long, default_value = "127.0.0.1:7400", value_parser = super::address)]
    fleet: SocketAddr,
    /// Send all series there, by Prometheus' remote write (may be given again, for up to 8 receivers)
    #[arg(long, value_name = "URL")]
    remote_write: Vec<server::Receiver>,
    /// PEM file of the authorities that certificates of https receivers may be of; else those that the system trusts
    #[arg(long, value_name = "FILE", requires = "remote_write")]
    remote_write_ca: Option<PathBuf>,
    /// Seconds of traffic before detection says anything of a series; fewer mean more false incidents
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u16).range(5..=3_600))]
    detect_warm_s: u16,
    #[command(flatten)]
    parent: Parent,
}

/// Run the agent of one host
#[derive(clap::Args)]
#[command(
    after_help = "Example: springtide agent --host web-1 --server http://10.0.0.1:7400 --token-file /etc/springtide/token"
)]
pub struct AgentArgs {
    /// Name of the host, as in the CMDB
    #[arg(long)]
    host: String,
    /// Folder of packages, instances and logs
    #[arg(long, default_value = "/var/lib/springtide-agent")]
    data: PathBuf,
    /// Cgroup under which the slices are made
    #[arg(long, default_value = "springtide")]
    cgroup_root: String,
    /// How instances are kept apart
    #[arg(long, value_enum, default_value_t = Isolation::Auto)]
    isolation: Isolation,
    #[command(flatten)]
    control: Control,
    #[command(flatten)]
    parent: Parent,
}

/// How instances are kept apart.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Isolation {
    /// Cgroup slices, or an error that says what to grant
    Auto,
    /// Process groups only: no limits are enforced
    None,
}

/// Run a traffic proxy
#[derive(clap::Args)]
#[command(
    after_help = "Example: springtide proxy --name access-1 --server http://10.0.0.1:7400 --entry 127.0.0.1:8080"
)]
pub struct ProxyArgs {
    /// Name of this proxy
    #[arg(long)]
    name: String,
    /// Datacenter it stands in
    #[arg(long, default_value = "")]
    datacenter: String,
    /// Where traffic from outside enters
    #[arg(long, default_value = "127.0.0.1:8080", value_parser = super::address)]
    entry: SocketAddr,
    /// Where services call one another
    #[arg(long, default_value = "127.0.0.1:8081", value_parser = super::address)]
    mesh: SocketAddr,
    /// Worker threads
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// PEM file of the entry's certificate chain: the entry then speaks TLS only (SIGHUP reads it again)
    #[arg(long, requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// PEM file of its private key
    #[arg(long, requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Write one JSON line for each request to this file (`-`: standard output); SIGHUP opens it anew
    #[arg(long, value_name = "FILE")]
    access_log: Option<PathBuf>,
    /// Share of requests that the access log takes, 0 to 1
    #[arg(long, default_value_t = 1.0, value_parser = share, requires = "access_log")]
    access_log_share: f64,
    /// Size at which the access log is put aside (five old files are kept)
    #[arg(long, default_value_t = proxy::access_log::BYTES_MAX_DEFAULT, requires = "access_log")]
    access_log_bytes_max: u64,
    /// Folder of the last good routing state; a second proxy started on it takes over from the first
    #[arg(long, default_value = "/var/lib/springtide-proxy")]
    data: PathBuf,
    #[command(flatten)]
    protection: Protection,
    #[command(flatten)]
    control: Control,
    #[command(flatten)]
    parent: Parent,
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| format!("{text:?} is no share; expected a number from 0 to 1, such as 0.01"))
}

/// Keep one instance (an agent that was started before the shim became a program of its own still asks for it here)
#[derive(clap::Args)]
#[command(hide = true)]
pub struct ShimArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<OsString>,
}

/// Where the control plane is.
#[derive(clap::Args)]
struct Control {
    /// The server's fleet listener
    #[arg(long, default_value = "http://127.0.0.1:7400")]
    server: String,
    /// File with the fleet token (DATA/fleet-token of the server)
    #[arg(long)]
    token_file: PathBuf,
}

/// How a proxy protects services.
#[derive(clap::Args)]
struct Protection {
    /// Overload control, deadlines, retries and operators' policies; off: requests are only routed
    #[arg(long, value_enum, default_value = "on")]
    protection: Switch,
    /// Where the user of a request is found, the first that is there: header:NAME, cookie:NAME, query:NAME, address
    #[arg(long, default_value_t)]
    user: proxy::protect::UserSource,
    /// Most of a service that one tenant may have, as in header:x-tenant=20%
    #[arg(long)]
    tenant_cap: Option<proxy::protect::TenantLimit>,
    /// Where slowed requests wait: a folder, redis://HOST:PORT, or none [default: DATA/lane]
    #[arg(long)]
    slow_lane: Option<proxy::protect::LaneAt>,
}

/// On or off.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Switch {
    On,
    Off,
}

impl Protection {
    fn settings(self, data: &Path) -> Option<proxy::protect::Settings> {
        let lane = self.slow_lane.unwrap_or_else(|| proxy::protect::LaneAt::Folder(data.join("lane")));
        let settings = proxy::protect::Settings { user: self.user, tenant: self.tenant_cap, lane };
        (self.protection == Switch::On).then_some(settings)
    }
}

/// A process that this one must not outlive (`dev` starts its parts so).
#[derive(clap::Args)]
struct Parent {
    #[arg(long, hide = true)]
    parent: Option<i32>,
}

impl Parent {
    /// Asks the kernel for TERM when the parent dies; fails when it already has.
    fn bind(&self) -> Result<()> {
        use rustix::process::{Signal, getppid, set_parent_process_death_signal};
        let Some(parent) = self.parent else { return Ok(()) };
        set_parent_process_death_signal(Some(Signal::TERM)).context("cannot bind to the parent's life")?;
        if getppid().map(|pid| pid.as_raw_nonzero().get()) != Some(parent) {
            bail!("the parent process {parent} is gone");
        }
        Ok(())
    }
}

impl Control {
    fn token(&self) -> Result<String> {
        read_token(&self.token_file)
    }
}

/// Reads a token from its file.
pub fn read_token(path: &Path) -> Result<String> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the token {}: it is made by the server's first start", path.display()))?;
    Ok(text.trim().to_owned())
}

fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("SPRINGTIDE_LOG").unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
}

fn current_thread() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the async runtime")
}

/// `springtide server`.
pub fn server(args: ServerArgs) -> Result<()> {
    args.parent.bind()?;
    log_to_stderr();
    let http_tls = args.http_tls_cert.zip(args.http_tls_key).map(|(cert, key)| server::tls::Files { cert, key });
    let config = server::Config {
        data: args.data,
        socket: args.socket,
        http: args.http,
        http_tls,
        fleet: args.fleet,
        mesh: None,
        remote_write: args.remote_write,
        remote_write_ca: args.remote_write_ca,
        detect_warm_s: Some(args.detect_warm_s),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    Ok(runtime.block_on(server::run(config))?)
}

/// `springtide agent`.
pub fn agent(args: AgentArgs) -> Result<()> {
    args.parent.bind()?;
    become_lean(&args)?;
    log_to_stderr();
    let config = agent::Config {
        host: args.host,
        data: args.data,
        server: args.control.server.clone(),
        token: args.control.token()?,
        isolation: args.isolation.into(),
        cgroup_root: args.cgroup_root,
        shim: shim_program()?,
        user: None,
    };
    Ok(current_thread()?.block_on(agent::run(config))?)
}

/// Becomes the agent's own program where that lies beside this one, built of the same sources: with a tenth of the code and an allocator
/// that gives back, it takes less memory (bench agent-cost measures it). An agent runs on every host.
fn become_lean(args: &AgentArgs) -> Result<()> {
    use std::os::unix::process::CommandExt;
    let own = std::env::current_exe().context("cannot tell where this program is")?;
    let program = own.with_file_name(agent::PROGRAM);
    let build = std::process::Command::new(&program).arg("build").output();
    if !build.is_ok_and(|output| output.stdout.trim_ascii() == agent::BUILD.as_bytes()) {
        return Ok(());
    }
    let isolation = args.isolation.to_possible_value().expect("no variant is skipped");
    let mut command = std::process::Command::new(&program);
    command.args(["agent", "--host", &args.host, "--server", &args.control.server, "--cgroup-root", &args.cgroup_root]);
    command.args(["--isolation", isolation.get_name(), "--token-file"]).arg(&args.control.token_file);
    command.arg("--shim").args(shim_program()?);
    let error = command.arg("--data").arg(&args.data).exec();
    Err(error).with_context(|| format!("cannot run {}", program.display()))
}

/// `springtide proxy`.
pub fn proxy(args: ProxyArgs) -> Result<()> {
    args.parent.bind()?;
    log_to_stderr();
    std::fs::create_dir_all(&args.data).with_context(|| format!("cannot make {}", args.data.display()))?;
    let config = proxy::Config {
        name: args.name,
        server: args.control.server.clone(),
        token: args.control.token()?,
        datacenter: args.datacenter,
        entry: args.entry,
        mesh: args.mesh,
        threads: args.threads,
        state: args.data.join("routing.state"),
        protection: args.protection.settings(&args.data),
        tls: args.tls_cert.zip(args.tls_key).map(|(cert, key)| proxy::tls::Files { cert, key }),
        handover: Some(args.data.join("handover.sock")),
        access_log: args.access_log.map(|to| proxy::access_log::Settings {
            to,
            share: args.access_log_share,
            bytes_max: args.access_log_bytes_max,
        }),
    };
    Ok(proxy::run(config)?)
}

/// `springtide shim`: becomes the program beside this one.
pub fn shim(args: ShimArgs) -> Result<()> {
    use std::os::unix::process::CommandExt;
    let program = shim_program()?;
    agent::check_shim(&program)?;
    let error = std::process::Command::new(&program[0]).args(args.rest).exec();
    Err(error).with_context(|| format!("cannot run {}", program[0].display()))
}

/// The shim lies beside this program, also when this file was replaced by a newer one meanwhile.
pub fn shim_program() -> Result<Vec<OsString>> {
    let own = std::env::current_exe().context("cannot tell where this program is")?;
    Ok(vec![own.with_file_name(shim::PROGRAM).into()])
}

impl From<Isolation> for agent::Isolation {
    fn from(wanted: Isolation) -> Self {
        match wanted {
            Isolation::Auto => Self::Auto,
            Isolation::None => Self::None,
        }
    }
}
