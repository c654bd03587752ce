//! `springtide dev`: a whole small fleet on this machine in one command.
//!
//! Control plane, agents and proxies are real processes, as on a fleet; this one starts them, restarts what dies,
//! and at Ctrl-C stops exactly those and every instance they started. Killed hard, it leaves the instances running,
//! and the next `dev` on the same folder adopts them.

mod children;
mod fleet;

use anyhow::{Context, Result, bail};
use children::Children;
use clap::Parser;
use fleet::Fleet;
use model::{Kind, Resource};
use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Time in which the server must be ready.
const SERVER_READY_MS_MAX: u64 = 20_000;
/// Longest path of a Unix socket on Linux, without its closing zero (`sockaddr_un`, unix(7)).
const SOCKET_BYTES_MAX: usize = 107;
/// Time in which all agents and proxies must have connected.
const FLEET_READY_MS_MAX: u64 = 20_000;

/// Run a small fleet on this machine: control plane, agents and access proxy
#[derive(clap::Args, Clone)]
#[command(
    after_help = "Examples:\n  springtide dev\n  springtide dev --datacenters 1 --hosts 2 --entry 127.0.0.1:9000\n\nThen, in another terminal:\n  springtide get hosts\n  springtide apply -f examples/red-packet/manifests"
)]
pub struct Args {
    /// Folder of everything it keeps
    #[arg(long, default_value = "./.springtide")]
    data: PathBuf,
    /// Datacenters
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=8))]
    datacenters: u8,
    /// Hosts in each datacenter
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=100))]
    hosts: u8,
    /// CPU of each host, in cores (may add up to more than this machine has)
    #[arg(long, default_value = "2")]
    host_cpu: String,
    /// Memory of each host
    #[arg(long, default_value = "2GiB")]
    host_memory: String,
    /// Where traffic from outside enters
    #[arg(long, default_value = "127.0.0.1:8080", value_parser = super::address)]
    entry: SocketAddr,
    /// Where services call one another
    #[arg(long, default_value = "127.0.0.1:8081", value_parser = super::address)]
    mesh: SocketAddr,
    /// Also serve the API on this loopback address (token in DATA/server/api-token)
    #[arg(long, value_parser = super::address)]
    http: Option<SocketAddr>,
    /// Send all series there, by Prometheus' remote write (may be given again)
    #[arg(long, value_name = "URL")]
    remote_write: Vec<server::Receiver>,
    /// PEM file of the authorities that certificates of https receivers may be of; else those that the system trusts
    #[arg(long, value_name = "FILE", requires = "remote_write")]
    remote_write_ca: Option<PathBuf>,
    /// Worker threads of the proxy
    #[arg(long, default_value_t = 1)]
    proxy_threads: usize,
    /// How instances are kept apart
    #[arg(long, value_enum, default_value_t = super::run::Isolation::Auto)]
    isolation: super::run::Isolation,
    /// Seconds of traffic before detection says anything of a series; fewer mean more false incidents
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u16).range(5..=3_600))]
    detect_warm_s: u16,
    /// Leave the instances running at the end
    #[arg(long)]
    keep: bool,
}

/// Runs the fleet until TERM or Ctrl-C.
pub fn main(args: Args) -> Result<()> {
    let data = std::path::absolute(&args.data).context("cannot tell where --data is")?;
    check_place(&data)?;
    std::fs::create_dir_all(&data).with_context(|| format!("cannot make {}", data.display()))?;
    let data = data.canonicalize()?;
    // Through a link, or by the umask, the place may be another than it seemed.
    check_place(&data)?;
    let _lock = lock(&data)?;
    agent::check_shim(&super::run::shim_program()?)?;
    check_free(args.entry, "--entry")?;
    check_free(args.mesh, "--mesh")?;
    args.http.map_or(Ok(()), |http| check_free(http, "--http"))?;
    let stop = children::stop_flag()?;
    let mut fleet = Fleet::new(&args, &data);
    let mut children = Children::new(&data)?;
    let outcome = serve(&args, &data, &mut fleet, &mut children, &stop);
    children.stop_all();
    if args.keep {
        return outcome;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // No server is left to fetch from: stopping needs none. What went wrong first is what the user must hear.
    outcome.and(runtime.block_on(fleet.stop_instances("http://127.0.0.1:9")))
}

fn serve(
    args: &Args,
    data: &Path,
    fleet: &mut Fleet,
    children: &mut Children,
    stop: &children::StopFlag,
) -> Result<()> {
    let socket = socket(data);
    children.start(fleet.server(&socket))?;
    let server = await_server(data, children, stop)?;
    let client = api::client::Client::at_socket(&socket);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let known =
        runtime.block_on(client.resources(Kind::Host.as_str())).context("cannot ask for the hosts there are")?;
    fleet.adopt(known.iter().filter_map(|view| match &view.resource {
        Resource::Host(host) => Some(host),
        _ => None,
    }));
    runtime.block_on(client.apply(&fleet.manifest())).context("cannot declare the fleet")?;
    for child in fleet.agents(&server).into_iter().chain(fleet.proxies(&server)) {
        children.start(child)?;
    }
    await_fleet(&runtime, &client, fleet, children, stop)?;
    announce(args, data, fleet);
    while !stop.is_set() {
        children.revive()?;
        stop.wait(Duration::from_millis(200));
    }
    println!("springtide: stopping");
    Ok(())
}

/// One `dev` a folder: a second one says who is there.
fn lock(data: &Path) -> Result<File> {
    let path = data.join("dev.lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path)?;
    if file.try_lock().is_err() {
        bail!(
            "{} is in use by another `springtide dev`: stop that one, or choose another folder with --data",
            data.display()
        );
    }
    Ok(file)
}

/// The API's socket.
fn socket(data: &Path) -> PathBuf {
    data.join("springtide.sock")
}

/// A folder that cannot do is refused before anything starts.
fn check_place(data: &Path) -> Result<()> {
    let bytes = socket(data).as_os_str().len();
    if bytes > SOCKET_BYTES_MAX {
        bail!(
            "{} has {bytes} bytes, and the path of a Unix socket takes {SOCKET_BYTES_MAX}: choose a shorter folder with --data",
            socket(data).display()
        );
    }
    // Only root's instances run as another user, who has to reach their packages.
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let Some(closed) = closed_to_others(data) else { return Ok(()) };
    bail!(
        "instances run as the user nobody, who cannot enter {0}: choose another folder, such as --data /var/tmp/springtide, \
         or let others pass through it (chmod o+x {0})",
        closed.display()
    )
}

/// The first folder on the way to `path` that other users cannot enter; what is not there yet is not looked at.
fn closed_to_others(path: &Path) -> Option<&Path> {
    let mut way: Vec<&Path> = path.ancestors().collect();
    way.reverse();
    way.into_iter().find(|folder| std::fs::metadata(folder).is_ok_and(|found| found.permissions().mode() & 0o001 == 0))
}

/// A taken port is said now, not by a proxy that keeps dying.
fn check_free(address: SocketAddr, flag: &str) -> Result<()> {
    match TcpListener::bind(address) {
        Ok(_) => Ok(()),
        Err(error) => bail!("cannot listen on {address} ({error}): choose another address with {flag}"),
    }
}

fn await_server(data: &Path, children: &mut Children, stop: &children::StopFlag) -> Result<String> {
    let path = data.join("server/server.json");
    let pid = children.pid("server").context("the server was started")?;
    let deadline = Instant::now() + Duration::from_millis(SERVER_READY_MS_MAX);
    while Instant::now() < deadline && !stop.is_set() {
        children.fail_if_dead("server")?;
        let ready =
            std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok());
        if let Some(ready) = ready.filter(|ready| ready["pid"].as_u64() == Some(u64::from(pid))) {
            let fleet = ready["fleet"].as_str().context("server.json names the fleet listener")?;
            return Ok(format!("http://{fleet}"));
        }
        stop.wait(Duration::from_millis(20));
    }
    bail!("the server was not ready within {SERVER_READY_MS_MAX} ms; its log: {}", children.log("server").display())
}

fn await_fleet(
    runtime: &tokio::runtime::Runtime,
    client: &api::client::Client,
    fleet: &Fleet,
    children: &mut Children,
    stop: &children::StopFlag,
) -> Result<()> {
    let deadline = Instant::now() + Duration::from_millis(FLEET_READY_MS_MAX);
    while Instant::now() < deadline && !stop.is_set() {
        children.fail_if_any_dead()?;
        let status = runtime.block_on(client.status())?;
        if status.hosts_connected >= fleet.host_count() && status.proxies >= 1 {
            return Ok(());
        }
        stop.wait(Duration::from_millis(50));
    }
    if stop.is_set() {
        return Ok(());
    }
    bail!("not all agents connected within {FLEET_READY_MS_MAX} ms; logs: {}", children.logs().display())
}

fn announce(args: &Args, data: &Path, fleet: &Fleet) {
    let socket = socket(data);
    println!("springtide: {} hosts in {} datacenters are up", fleet.host_count(), args.datacenters);
    println!("  entry traffic   http://{}", args.entry);
    println!("  API             {}", socket.display());
    if let Some(http) = args.http {
        println!("  war room        http://{http} (its token: {}/server/api-token)", data.display());
    }
    println!("  logs            {}/logs", data.display());
    println!("next, in another terminal:");
    // Without it, commands look in their own folder.
    if std::env::current_dir().is_ok_and(|here| here.join(".springtide") != data) {
        println!("  export SPRINGTIDE_SERVER={}", socket.display());
    }
    println!("  springtide apply -f examples/red-packet/manifests");
    println!("  springtide top");
    println!("Ctrl-C here stops everything{}", if args.keep { " but the instances" } else { ", instances included" });
}

/// The arguments with their defaults, for callers inside the program.
#[derive(Parser)]
struct Defaults {
    #[command(flatten)]
    args: Args,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_dev_on_the_same_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let first = lock(folder.path()).unwrap();
        let refused = lock(folder.path()).unwrap_err().to_string();
        assert!(refused.contains("in use by another `springtide dev`"), "{refused}");
        drop(first);
        lock(folder.path()).unwrap();
    }

    #[test]
    fn a_taken_entry_port_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let refused = check_free(taken.local_addr().unwrap(), "--entry").unwrap_err().to_string();
        assert!(refused.contains("--entry"), "{refused}");
    }

    #[test]
    fn a_folder_that_cannot_do_is_refused_with_advice() {
        let folder = tempfile::tempdir().unwrap();
        let closed = folder.path().join("closed");
        std::fs::create_dir(&closed).unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(closed_to_others(&closed.join("not/there/yet")), Some(closed.as_path()));
        if rustix::process::geteuid().is_root() {
            let refused = check_place(&closed.join("data")).unwrap_err().to_string();
            assert!(refused.contains("nobody, who cannot enter") && refused.contains("--data"), "{refused}");
        }
        let long = check_place(&folder.path().join("x".repeat(120))).unwrap_err().to_string();
        assert!(long.contains("choose a shorter folder with --data"), "{long}");
        std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(closed_to_others(&closed), None);
    }

    #[test]
    fn the_fleet_manifest_has_each_host_once() {
        let args = Defaults::parse_from(["dev"]).args;
        let manifest = fleet::Fleet::new(&args, Path::new("/tmp")).manifest();
        let files: Vec<_> = manifest.files.into_iter().map(|file| (file.path, file.text)).collect();
        let declared = model::manifest::parse(&files).unwrap();
        assert_eq!(declared.iter().filter(|d| d.resource.kind() == model::Kind::Host).count(), 6);
    }

    fn hosts(fleet: &Fleet) -> Vec<model::Host> {
        let files: Vec<_> = fleet.manifest().files.into_iter().map(|file| (file.path, file.text)).collect();
        let declared = model::manifest::parse(&files).unwrap().into_iter();
        let host = |declared: model::Declared| match declared.resource {
            Resource::Host(host) => Some(host),
            _ => None,
        };
        declared.filter_map(host).collect()
    }

    #[test]
    fn a_folder_restored_elsewhere_keeps_the_addresses_of_its_hosts() {
        let args = Defaults::parse_from(["dev"]).args;
        let more = Defaults::parse_from(["dev", "--hosts", "4"]).args;
        let before = hosts(&Fleet::new(&args, Path::new("/tmp/d1")));
        let mut moved = Fleet::new(&more, Path::new("/tmp/d3"));
        assert_ne!(hosts(&moved)[0].address, before[0].address, "folders differ");
        moved.adopt(&before);
        let after = hosts(&moved);
        assert_eq!(after.len(), 8);
        assert!(before.iter().all(|host| after.contains(host)), "{after:?}");
    }

    #[test]
    fn a_port_alone_is_told_what_an_address_is() {
        let refused = Defaults::try_parse_from(["dev", "--entry", "18083"]).err().expect("no address").to_string();
        assert!(refused.contains("give an address and a port, such as 127.0.0.1:18083"), "{refused}");
        let refused = super::super::address("localhost:80").expect_err("a name is none");
        assert!(refused.contains("such as 127.0.0.1:8080"), "{refused}");
        assert_eq!(super::super::address("[::1]:9"), Ok("[::1]:9".parse().unwrap()));
    }
}
