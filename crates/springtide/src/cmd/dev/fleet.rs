//! The small fleet: which processes, with which arguments, and the manifest that declares its hosts.

use super::Args;
use super::children::Child;
use crate::cmd::run::Isolation;
use anyhow::{Context, Result};
use api::http::{ApplyRequest, ManifestFile};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The fleet of one `dev`.
pub struct Fleet {
    args: Args,
    data: PathBuf,
    hosts: Vec<DevHost>,
}

struct DevHost {
    name: String,
    datacenter: String,
    rack: String,
    address: String,
}

/// Datacenters are called dc-a, dc-b, …
fn datacenter(index: u8) -> String {
    format!("dc-{}", char::from(b'a' + index))
}

impl Fleet {
    /// The fleet that `args` ask for.
    pub fn new(args: &Args, data: &Path) -> Self {
        // Any 127/8 address answers on Linux: each host gets a port space of its own, and so does each fleet.
        let network = network_of(data);
        let mut hosts = Vec::new();
        for d in 0..args.datacenters {
            for h in 1..=args.hosts {
                let datacenter = datacenter(d);
                let letter = char::from(b'a' + d);
                hosts.push(DevHost {
                    name: format!("host-{letter}{h}"),
                    rack: format!("{datacenter}-r{}", 1 + (h - 1) % 2),
                    address: format!("127.{network}.{}.{h}", d + 1),
                    datacenter,
                });
            }
        }
        Self { args: args.clone(), data: data.to_owned(), hosts }
    }

    /// Takes the addresses over that hosts have already: a folder that was moved, or restored from a backup, has others by
    /// its path, and an address cannot change while instances of that host are wanted.
    pub fn adopt<'a>(&mut self, known: impl IntoIterator<Item = &'a model::Host>) {
        for host in known {
            if let Some(ours) = self.hosts.iter_mut().find(|ours| ours.name == host.name.as_str()) {
                ours.address = host.address.to_string();
            }
        }
    }

    /// How many hosts.
    pub fn host_count(&self) -> u32 {
        self.hosts.len() as u32
    }

    /// The manifest of its facilities and hosts.
    pub fn manifest(&self) -> ApplyRequest {
        let mut text = String::from("kind: Region\nname: local\n");
        let mut racks: Vec<(&str, &str)> =
            self.hosts.iter().map(|h| (h.rack.as_str(), h.datacenter.as_str())).collect();
        racks.sort_unstable();
        racks.dedup();
        let mut document = |body: std::fmt::Arguments<'_>| write!(text, "---\n{body}\n").expect("a String takes all");
        for d in 0..self.args.datacenters {
            document(format_args!("kind: Datacenter\nname: {}\nregion: local", datacenter(d)));
        }
        for (rack, datacenter) in racks {
            document(format_args!("kind: Rack\nname: {rack}\ndatacenter: {datacenter}"));
        }
        let (cpu, memory) = (&self.args.host_cpu, &self.args.host_memory);
        document(format_args!("kind: HostType\nname: dev\ncpu: {cpu}\nmemory: {memory}"));
        for DevHost { name, rack, address, .. } in &self.hosts {
            document(format_args!("kind: Host\nname: {name}\nrack: {rack}\nhost_type: dev\naddress: {address}"));
        }
        ApplyRequest {
            files: vec![ManifestFile { path: "springtide dev".to_owned(), text }],
            ..ApplyRequest::default()
        }
    }

    /// The control plane.
    pub fn server(&self, socket: &Path) -> Child {
        let data = self.data.join("server");
        let mut args = words(&["server", "--fleet", "127.0.0.1:0", "--data"]);
        args.push(data.into());
        args.extend([OsString::from("--socket"), socket.into()]);
        args.extend(words(&["--detect-warm-s", &self.args.detect_warm_s.to_string()]));
        if let Some(http) = self.args.http {
            args.extend(words(&["--http", &http.to_string()]));
        }
        for to in &self.args.remote_write {
            args.extend(words(&["--remote-write", to.url().as_str()]));
        }
        if let Some(authorities) = &self.args.remote_write_ca {
            args.extend([OsString::from("--remote-write-ca"), authorities.into()]);
        }
        Child { name: "server".to_owned(), args, same_fleet_port: true }
    }

    /// An agent for each host.
    pub fn agents(&self, server: &str) -> Vec<Child> {
        self.hosts.iter().map(|host| self.agent(host, server)).collect()
    }

    fn agent(&self, host: &DevHost, server: &str) -> Child {
        let mut args = words(&["agent", "--host", &host.name, "--cgroup-root", &self.cgroup_root(&host.name)]);
        args.extend(self.control(server));
        args.extend([OsString::from("--data"), self.host_data(&host.name).into()]);
        if self.args.isolation == Isolation::None {
            args.extend(words(&["--isolation", "none"]));
        }
        Child { name: format!("agent-{}", host.name), args, same_fleet_port: false }
    }

    /// The access proxy, which carries entry and inner traffic.
    pub fn proxies(&self, server: &str) -> Vec<Child> {
        let (entry, mesh) = (self.args.entry.to_string(), self.args.mesh.to_string());
        let threads = self.args.proxy_threads.to_string();
        let mut args = words(&["proxy", "--name", "access-1", "--datacenter", "dc-a"]);
        args.extend(words(&["--entry", &entry, "--mesh", &mesh, "--threads", &threads]));
        args.extend(self.control(server));
        args.extend([OsString::from("--data"), self.data.join("proxy").into()]);
        vec![Child { name: "proxy".to_owned(), args, same_fleet_port: false }]
    }

    fn control(&self, server: &str) -> Vec<OsString> {
        let mut args = words(&["--server", server, "--token-file"]);
        args.push(self.data.join("server/fleet-token").into());
        args
    }

    fn host_data(&self, host: &str) -> PathBuf {
        self.data.join("hosts").join(host)
    }

    /// Two `dev`s on one machine must not share slices: the folder tells them apart.
    fn cgroup_root(&self, host: &str) -> String {
        format!("springtide-dev-{}/{host}", folder_mark(&self.data))
    }

    /// Stops every instance of every host and removes their slices.
    pub async fn stop_instances(&self, server: &str) -> Result<()> {
        let hosts = self.hosts.iter().map(|host| agent::stop_all(self.agent_config(host, server)));
        futures_util::future::join_all(hosts)
            .await
            .into_iter()
            .collect::<Result<(), _>>()
            .context("cannot stop instances")
    }

    fn agent_config(&self, host: &DevHost, server: &str) -> agent::Config {
        agent::Config {
            host: host.name.clone(),
            data: self.host_data(&host.name),
            server: server.to_owned(),
            token: String::new(),
            isolation: self.args.isolation.into(),
            cgroup_root: self.cgroup_root(&host.name),
            shim: Vec::new(),
            user: None,
        }
    }
}

/// The second byte of the hosts' addresses, 1 to 254.
fn network_of(data: &Path) -> u8 {
    let mark = u32::from_str_radix(&folder_mark(data), 16).expect("the mark is eight hex digits");
    (mark % 254) as u8 + 1
}

/// Eight hex digits that tell the fleet of one folder from that of another.
fn folder_mark(data: &Path) -> String {
    model::Digest::of(data.as_os_str().as_encoded_bytes()).hex()[..8].to_owned()
}

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}
