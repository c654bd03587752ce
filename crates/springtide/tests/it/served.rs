//! The commands against a real server: what is applied can be seen, changed, scaled, audited and deleted.

use crate::{run, springtide, text};
use std::io::Read;
use std::path::Path;
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

/// Time in which the server must answer.
const READY: Duration = Duration::from_secs(20);

/// A server in a folder of its own, stopped when dropped.
pub struct Server {
    child: Child,
    folder: tempfile::TempDir,
    fleet: String,
}

impl Server {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // The same address when the server starts again.
        let fleet = testkit::address().to_string();
        let child = Self::spawn(folder.path(), &fleet);
        let mut server = Self { child, folder, fleet };
        server.wait();
        server
    }

    fn spawn(folder: &Path, fleet: &str) -> Child {
        let args = ["server", "--data", "data", "--socket", "api.sock", "--fleet", fleet];
        let log = std::fs::File::create(folder.join("server.log")).unwrap();
        springtide(folder, &args).stdout(Stdio::null()).stderr(log).stdin(Stdio::null()).spawn().unwrap()
    }

    fn wait(&mut self) {
        let begun = Instant::now();
        while run(self.folder.path(), &["audit", "--server", "api.sock"]).status.code() != Some(0) {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none() && begun.elapsed() < READY, "the server is not ready:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Kills the server hard and starts it again on the same folder.
    pub fn kill_and_restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = Self::spawn(self.folder.path(), &self.fleet);
        self.wait();
    }

    /// Where agents connect.
    pub fn fleet(&self) -> &str {
        &self.fleet
    }

    pub fn log(&self) -> String {
        let mut text = String::new();
        let _ = std::fs::File::open(self.folder.path().join("server.log"))
            .and_then(|mut file| file.read_to_string(&mut text));
        text
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder().join(name), text).unwrap();
    }

    /// The package that `FLEET` names: a program that runs, and answers nothing.
    pub fn write_app(&self) {
        std::fs::create_dir(self.folder().join("app")).unwrap();
        self.write("app/run.sh", "#!/bin/sh\nexec sleep 1000\n");
        let run = self.folder().join("app/run.sh");
        std::fs::set_permissions(run, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }

    pub fn run(&self, args: &[&str]) -> Output {
        let mut command = springtide(self.folder(), args);
        command.env("SPRINGTIDE_SERVER", "api.sock").stdin(Stdio::null()).output().unwrap()
    }

    /// Runs a command that must succeed, and gives its output.
    pub fn told(&self, args: &[&str]) -> String {
        let ended = self.run(args);
        assert!(ended.status.success(), "{args:?}: {}\n{}\n{}", text(&ended.stdout), text(&ended.stderr), self.log());
        text(&ended.stdout)
    }

    pub fn refused(&self, args: &[&str], code: i32) -> String {
        let ended = self.run(args);
        assert_eq!(ended.status.code(), Some(code), "{args:?}: {}{}", text(&ended.stdout), text(&ended.stderr));
        text(&ended.stderr)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A host, and a service that wants nothing yet.
pub const FLEET: &str = "\
kind: Region
name: cn
---
kind: Datacenter
name: east
region: cn
---
kind: Rack
name: e1
datacenter: east
---
kind: HostType
name: small
cpu: 4
memory: 8GiB
---
kind: Host
name: host-a
rack: e1
host_type: small
address: 127.1.1.1
---
kind: Business
name: shop
---
kind: Package
name: app
version: 1.0
source: app
command: [run.sh]
---
kind: Service
name: web
business: shop
layer: access
package: app
shape: 1C1G
ports: [http]
instances: {east: 0}
";

#[test]
fn what_is_applied_is_seen_changed_and_deleted() {
    let server = Server::start();
    server.write_app();
    server.write("fleet.yaml", FLEET);

    let planned = server.told(&["plan", "-f", "fleet.yaml"]);
    assert!(planned.contains("+ Service web\n") && planned.contains("8 changes: 8 to create"), "{planned}");
    assert_eq!(server.told(&["get", "services", "-o", "json"]).trim(), "[]", "a plan changes nothing");

    let applied = server.told(&["apply", "-f", "fleet.yaml"]);
    assert!(applied.contains("uploaded app 1.0") && applied.contains("applied at revision"), "{applied}");
    let again = server.told(&["apply", "-f", "fleet.yaml"]);
    assert!(again.contains("nothing to change (8 as declared)") && !again.contains("uploaded"), "{again}");

    let json: serde_json::Value = serde_json::from_str(&server.told(&["get", "service", "web", "-o", "json"])).unwrap();
    assert_eq!((&json["resource"]["kind"], &json["status"]["wanted"]), (&"Service".into(), &0.into()), "{json}");
    let table = server.told(&["get", "hosts"]);
    assert!(table.starts_with("NAME") && table.contains("host-a"), "{table}");
    assert!(server.told(&["describe", "service", "web"]).contains("web"));

    let yaml = server.told(&["get", "service", "web", "-o", "yaml"]);
    server.write("web.yaml", &yaml.replace("http", "main"));
    let changed = server.told(&["apply", "-f", "web.yaml", "--no-wait"]);
    assert!(changed.contains("~ Service web") && changed.contains("\"http\" → \"main\""), "{changed}");

    let audit = server.told(&["audit", "-o", "json"]);
    let audit: serde_json::Value = serde_json::from_str(&audit).unwrap();
    let last = audit.as_array().and_then(|entries| entries.last()).expect("changes are audited");
    assert_eq!((&last["what"], &last["who"]), (&"Service web".into(), &"unix:root".into()), "{last}");

    let refused = server.refused(&["delete", "host-type", "small"], 1);
    assert!(refused.contains("Host host-a refers to HostType small"), "{refused}");
    assert!(server.told(&["delete", "service", "web"]).starts_with("Service web deleted\n"));
    let gone = server.refused(&["get", "service", "web"], 1);
    assert!(gone.contains("web"), "{gone}");
}

#[test]
fn the_server_s_refusals_keep_their_place() {
    let server = Server::start();
    server.write("bad.yaml", "kind: Datacenter\nname: east\nregion: cn\n---\nkind: Rack\nname: r\ndatacenter: eats\n");
    let said = server.refused(&["apply", "-f", "bad.yaml"], 2);
    assert!(said.contains("bad.yaml:3: region: no Region is called `cn`"), "{said}");
    assert!(said.contains("bad.yaml:7: datacenter: no Datacenter is called `eats`; did you mean `east`?"), "{said}");
    assert!(said.ends_with("springtide: 2 faults; nothing was changed\n"), "{said}");
    assert!(server.refused(&["scale", "web", "--to", "3"], 1).contains("web"));
    assert!(server.refused(&["operation", "show", "op-99"], 1).contains("op-99"));
}
