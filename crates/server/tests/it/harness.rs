//! A server in this process, its manifests, and waiting with a deadline.

use api::client::{Address, Client};
use api::http::{ApplyRequest, ApplyResponse, ManifestFile};
use model::Digest;
use server::{Config, Handle};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Longest wait for anything.
const WAIT_SECONDS_MAX: u64 = 40;

/// A server and its data folder.
pub struct Server {
    pub data: tempfile::TempDir,
    handle: Option<Handle>,
}

pub fn config(data: &Path) -> Config {
    Config {
        data: data.to_owned(),
        socket: socket(data),
        http: Some(([127, 0, 0, 1], 0).into()),
        http_tls: None,
        fleet: ([127, 0, 0, 1], 0).into(),
        mesh: None,
        remote_write: Vec::new(),
        remote_write_ca: None,
        detect_warm_s: None,
    }
}

pub fn socket(data: &Path) -> PathBuf {
    data.join("api.sock")
}

impl Server {
    pub async fn start() -> Self {
        let data = tempfile::tempdir().expect("a data folder");
        let handle = server::start(config(data.path())).await.expect("a server");
        Self { data, handle: Some(handle) }
    }

    pub fn handle(&self) -> &Handle {
        self.handle.as_ref().expect("the server runs")
    }

    pub fn client(&self) -> Client {
        Client::new(&Address::Socket(socket(self.data.path())))
    }

    pub async fn stop(&mut self) {
        self.handle.take().expect("the server runs").stop().await.expect("it stops well");
    }

    pub async fn restart(&mut self) {
        self.stop().await;
        self.restart_stopped().await;
    }

    pub async fn restart_stopped(&mut self) {
        self.handle = Some(server::start(config(self.data.path())).await.expect("a server again"));
    }
}

/// Waits until `check` gives something.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut check: impl FnMut() -> F) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(WAIT_SECONDS_MAX), "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Digest of the package that the manifests name.
pub fn package_bytes() -> Vec<u8> {
    b"the bytes of a package".to_vec()
}

pub fn digest() -> Digest {
    Digest::of(&package_bytes())
}

/// Facilities: two datacenters with `hosts` hosts each, named `host-<d>-<n>`.
pub fn facilities(hosts: u32) -> String {
    let mut text = "kind: Region\nname: south\n---\nkind: HostType\nname: small\ncpu: 64\nmemory: 64GiB\n".to_owned();
    for (d, datacenter) in ["north", "east"].iter().enumerate() {
        text += &format!("---\nkind: Datacenter\nname: {datacenter}\nregion: south\n");
        text += &format!("---\nkind: Rack\nname: rack-{datacenter}\ndatacenter: {datacenter}\n");
        for h in 0..hosts {
            text += &format!("---\nkind: Host\nname: host-{d}-{h}\nrack: rack-{datacenter}\nhost_type: small\n");
            text += &format!("address: 127.1.{d}.{}\n", h + 1);
        }
    }
    text
}

/// A service `pay` with `north` and `east` instances, and all it needs.
pub fn service(north: u32, east: u32) -> String {
    service_of("pay", north, east, "1")
}

pub fn service_of(name: &str, north: u32, east: u32, config: &str) -> String {
    format!(
        "kind: Business\nname: night\n---\nkind: Package\nname: worker\nversion: '1'\ndigest: {}\ncommand: [bin/worker]\n---\n\
         kind: ConfigSet\nname: worker-{name}\nfiles: {{ worker.conf: 'level {config} in ${{PLACE}}' }}\n---\n\
         kind: Environment\nname: env-{name}\nvariables: {{ PLACE: everywhere, COMMON: 'yes' }}\n\
         datacenters: {{ north: {{ PLACE: the-north }} }}\n---\n\
         kind: Service\nname: {name}\nbusiness: night\nlayer: logic\npackage: worker\nargs: [--fast]\n\
         config: worker-{name}\nenvironment: env-{name}\nshape: {{ cpu: 0.1, memory: 64MiB }}\nports: [http, admin]\n\
         health_check: {{ path: /healthz }}\nstop: {{ drain_ms: 200, grace_ms: 500 }}\ninstances: {{ north: {north}, east: {east} }}\n",
        digest()
    )
}

pub fn request(files: &[(&str, String)]) -> ApplyRequest {
    let files = files.iter().map(|(path, text)| ManifestFile { path: (*path).to_owned(), text: text.clone() });
    ApplyRequest { files: files.collect(), ..ApplyRequest::default() }
}

/// Uploads the package and applies.
pub async fn apply(client: &Client, files: &[(&str, String)]) -> ApplyResponse {
    client.put_package(digest().as_str(), package_bytes()).await.expect("uploaded");
    client.apply(&request(files)).await.expect("applied")
}

/// The service of the manifests, on four hosts.
pub async fn apply_pay(client: &Client, north: u32, east: u32) -> ApplyResponse {
    apply(client, &[("facilities.yaml", facilities(2)), ("pay.yaml", service(north, east))]).await
}

/// Waits until `service` has `count` healthy instances and no operation at work.
pub async fn settled(client: &Client, service: &str, count: u32) {
    until(&format!("{count} healthy instances of {service}"), || async {
        let services = client.services().await.ok()?;
        let at = services.into_iter().find(|at| at.name == service)?;
        (at.healthy == count && at.placed == count && at.wanted == count && at.operation.is_none()).then_some(())
    })
    .await;
}
