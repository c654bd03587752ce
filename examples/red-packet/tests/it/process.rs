//! Roles as processes, and a mesh: a real HTTP forwarder by `Host` header, as the proxy's mesh listener is one.

use crate::http;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);

/// Polls until the condition holds.
pub fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// One running role; dropping it kills it.
pub struct Role {
    pub address: SocketAddr,
    pub child: Child,
}

impl Drop for Role {
    fn drop(&mut self) {
        // It may have ended already, as its test wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Role {
    /// TERM, as the agent's shim sends it.
    pub fn terminate(&self) {
        let pid = rustix::process::Pid::from_raw(self.child.id() as i32).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }

    pub fn ended(&mut self) -> ExitStatus {
        until("the process ends", || self.child.try_wait().unwrap())
    }
}

/// A folder for config and data, a mesh, and the roles that were started.
pub struct Stage {
    folder: TempDir,
    mesh: Mesh,
}

impl Stage {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), mesh: Mesh::start() }
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// Calls made through the mesh: service called, caller, user.
    pub fn calls(&self) -> Vec<(String, String, String)> {
        self.mesh.shared.lock().unwrap().calls.clone()
    }

    /// The command of a role, as an instance gets it.
    pub fn command(&self, role: &str, config: &str, address: SocketAddr) -> Command {
        let (ip, port) = (address.ip().to_string(), address.port());
        let configs = self.folder.path().join(format!("config-{role}-{port}"));
        std::fs::create_dir_all(&configs).unwrap();
        std::fs::write(configs.join(format!("{role}.json")), config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_red-packet"));
        command.arg(role).env_clear().stdout(Stdio::null());
        command.envs([("SPRINGTIDE_SERVICE", role), ("SPRINGTIDE_ADDRESS", &ip)]);
        command.env("SPRINGTIDE_INSTANCE", format!("{role}-1")).env("PORT_HTTP", port.to_string());
        command.env("SPRINGTIDE_MESH", self.mesh.address.to_string());
        command.env("SPRINGTIDE_CONFIG", configs).env("SPRINGTIDE_DATA", self.folder.path());
        command
    }

    /// Starts a role, waits until it is well, and lets the mesh route to it.
    pub fn start(&self, role: &str, config: &str) -> Role {
        let address = testkit::address();
        let mut started = Role { address, child: self.command(role, config, address).spawn().unwrap() };
        until("a role answers", || {
            assert!(started.child.try_wait().unwrap().is_none(), "{role} ended");
            http::call(address, "GET", "/healthz", "", "").is_ok_and(|answer| answer.status == 200).then_some(())
        });
        self.mesh.shared.lock().unwrap().routes.insert(role.to_owned(), address);
        started
    }
}

#[derive(Default)]
struct Shared {
    routes: BTreeMap<String, SocketAddr>,
    calls: Vec<(String, String, String)>,
}

struct Mesh {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Mesh {
    fn start() -> Self {
        let shared = Arc::new(Mutex::new(Shared::default()));
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (tell, told) = std::sync::mpsc::channel();
        let routes = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                tell.send(listener.local_addr().unwrap()).unwrap();
                tokio::select! { () = accept(listener, routes) => {}, _ = stopped => {} }
            });
        });
        Self { address: told.recv().unwrap(), shared, stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap();
    }
}

async fn accept(listener: tokio::net::TcpListener, shared: Arc<Mutex<Shared>>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let service = service_fn(move |request| forward(request, Arc::clone(&shared)));
            // Callers break off when their test ends.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn forward(request: Request<Incoming>, shared: Arc<Mutex<Shared>>) -> hyper::Result<Response<Full<Bytes>>> {
    let header = |name: &str| request.headers().get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
    let service = header("host");
    let call = (service.clone(), header("x-springtide-caller"), header("x-user-id"));
    let target = {
        let mut shared = shared.lock().unwrap();
        shared.calls.push(call);
        shared.routes.get(&service).copied()
    };
    let stream = match target {
        Some(target) => tokio::net::TcpStream::connect(target).await.ok(),
        None => None,
    };
    let Some(stream) = stream else {
        let mut answer = Response::new(Full::new(Bytes::from_static(b"no such service")));
        *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        if target.is_none() {
            answer.headers_mut().insert("x-springtide-reject", "no-endpoint".parse().unwrap());
        }
        return Ok(answer);
    };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let (parts, body) = sender.send_request(request).await?.into_parts();
    Ok(Response::from_parts(parts, Full::new(body.collect().await?.to_bytes())))
}
