//! A real server process of its own, without a fleet: killed and started again on the same folder and ports.

use crate::fleet;
use anyhow::{Context, Result, bail};
use api::client::Client;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Time in which it must answer.
const UP_SECONDS_MAX: u64 = 30;

/// The server.
pub struct Server {
    child: Child,
    folder: tempfile::TempDir,
    fleet: SocketAddr,
    /// Client of its API.
    pub client: Client,
    /// Where the API and the war room answer over TCP.
    pub http: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be dead already.
        let _ = self.kill();
    }
}

impl Server {
    /// Starts one in a folder of its own.
    pub async fn start() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("springtide-").tempdir()?;
        // The same ports again after each kill: proxies come back to where they were.
        let (fleet, http) = (testkit::address(), testkit::address());
        let client = Client::at_socket(&folder.path().join("api.sock"));
        let child = spawn(folder.path(), fleet, http)?;
        let mut server = Self { child, folder, fleet, client, http };
        server.ready().await?;
        Ok(server)
    }

    /// Where proxies connect, and their token.
    pub fn place(&self) -> Result<(String, String)> {
        let token = std::fs::read_to_string(self.folder.path().join("data/fleet-token"))?;
        Ok((format!("http://{}", self.fleet), token.trim().to_owned()))
    }

    /// The token of its API.
    pub fn api_token(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.folder.path().join("data/api-token"))?.trim().to_owned())
    }

    /// Its folder, with `data` and `server.log`.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Runs the command line against it as a user would; gives what it printed.
    pub fn cli(&self, args: &[&str]) -> Result<String> {
        let socket = self.folder.path().join("api.sock");
        let output = Command::new(fleet::program()?).args(args).env("SPRINGTIDE_SERVER", socket).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            bail!("springtide {} ended with {}:\n{text}{errors}", args.join(" "), output.status);
        }
        Ok(text)
    }

    /// kill -9.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Starts it again on the same folder.
    pub async fn start_again(&mut self) -> Result<()> {
        self.child = spawn(self.folder.path(), self.fleet, self.http)?;
        self.ready().await
    }

    async fn ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(UP_SECONDS_MAX);
        while self.client.status().await.is_err() {
            if let Some(status) = self.child.try_wait()? {
                let log = std::fs::read_to_string(self.folder.path().join("server.log")).unwrap_or_default();
                bail!("the server ended ({status}):\n{log}");
            }
            if Instant::now() > deadline {
                bail!("the server does not answer within {UP_SECONDS_MAX} s");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }
}

fn spawn(folder: &Path, fleet: SocketAddr, http: SocketAddr) -> Result<Child> {
    let log = std::fs::File::options().create(true).append(true).open(folder.join("server.log"))?;
    let mut command = Command::new(fleet::program()?);
    command.args(["server", "--data", "data", "--socket", "api.sock", "--fleet", &fleet.to_string()]);
    command.args(["--http", &http.to_string()]);
    command.current_dir(folder).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    command.spawn().context("cannot start the server")
}
