//! A watched operation: the watch outlives the server, and ends as the operation does.

use crate::served::{FLEET, Server};
use crate::{springtide, text};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Time in which something awaited must happen.
const SOON: Duration = Duration::from_secs(20);

/// A process that is stopped when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An agent without cgroups, so that the test needs no permission.
fn agent(server: &Server) -> Running {
    let shim = std::path::Path::new(env!("CARGO_BIN_EXE_springtide")).with_file_name("springtide-shim");
    assert!(shim.exists(), "{} is not built: `cargo build` (or `cargo xtask test`) makes it", shim.display());
    let url = format!("http://{}", server.fleet());
    let args =
        ["agent", "--host", "host-a", "--data", "agent", "--isolation", "none", "--token-file", "data/fleet-token"];
    let log = std::fs::File::create(server.folder().join("agent.log")).unwrap();
    let mut command = springtide(server.folder(), &args);
    Running(command.args(["--server", &url]).stdout(Stdio::null()).stderr(log).stdin(Stdio::null()).spawn().unwrap())
}

fn eventually(what: &str, server: &Server, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < SOON, "{what} did not come about:\n{}", server.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The lines of a child's output, as they come.
fn lines(child: &mut Child) -> Receiver<String> {
    let out = BufReader::new(child.stdout.take().expect("piped"));
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in out.lines() {
            let Ok(line) = line else { return };
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

fn await_line(lines: &Receiver<String>, wanted: &str) {
    let begun = Instant::now();
    let mut seen = Vec::new();
    while begun.elapsed() < SOON {
        if let Ok(line) = lines.recv_timeout(Duration::from_millis(100)) {
            let found = line.contains(wanted);
            seen.push(line);
            if found {
                return;
            }
        }
    }
    panic!("no line with {wanted:?} among {seen:#?}");
}

#[test]
fn a_watch_outlives_the_server_and_ends_with_the_operation() {
    let mut server = Server::start();
    server.write_app();
    // Nothing answers the check, so the operation stays at its start until it is rolled back.
    let check = "health_check: {path: /, start_ms_max: 60000}\ninstances: {east: 0}";
    server.write("fleet.yaml", &FLEET.replace("instances: {east: 0}", check));
    server.told(&["apply", "-f", "fleet.yaml"]);
    let _agent = agent(&server);
    eventually("the agent's connection", &server, || server.told(&["get", "hosts"]).contains("connected"));
    let opened = server.told(&["scale", "web", "--to", "1", "--no-wait", "-o", "json"]);
    let opened: serde_json::Value = serde_json::from_str(&opened).unwrap();
    let id = opened["id"].as_str().expect("an operation has an id").to_owned();

    let mut command = springtide(server.folder(), &["operation", "watch", &id, "--server", "api.sock"]);
    let mut watch =
        Running(command.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap());
    let told = lines(&mut watch.0);
    await_line(&told, ": start, 0 of 1");
    server.kill_and_restart();
    eventually("the agent's return", &server, || server.told(&["get", "hosts"]).contains("connected"));
    server.told(&["operation", "rollback", &id]);
    await_line(&told, "rolled back");
    let code = watch.0.wait().unwrap().code();
    let mut said = Vec::new();
    watch.0.stderr.take().expect("piped").read_to_end(&mut said).unwrap();
    assert_eq!(code, Some(1), "{}", text(&said));
    assert!(text(&said).contains(&format!("{id}: rolled back")), "{}", text(&said));
    eventually("the end of the instance", &server, || server.told(&["get", "instances", "-o", "json"]).trim() == "[]");
}

#[test]
fn ctrl_c_ends_the_watch_and_not_the_operation() {
    let server = Server::start();
    server.write_app();
    let check = "health_check: {path: /, start_ms_max: 60000}\ninstances: {east: 0}";
    server.write("fleet.yaml", &FLEET.replace("instances: {east: 0}", check));
    server.told(&["apply", "-f", "fleet.yaml"]);
    let _agent = agent(&server);
    eventually("the agent's connection", &server, || server.told(&["get", "hosts"]).contains("connected"));

    let mut command = springtide(server.folder(), &["scale", "web", "--to", "1", "--server", "api.sock"]);
    let mut scale =
        Running(command.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap());
    let told = lines(&mut scale.0);
    await_line(&told, ": start, 0 of 1");
    let pid = rustix::process::Pid::from_child(&scale.0);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let mut said = Vec::new();
    scale.0.stderr.take().expect("piped").read_to_end(&mut said).unwrap();
    assert_eq!(scale.0.wait().unwrap().code(), Some(130), "{}", text(&said));
    assert!(text(&said).contains("it goes on at the server: springtide operation watch op-"), "{}", text(&said));
    let open = server.told(&["operation", "list", "--open", "-o", "json"]);
    let open: serde_json::Value = serde_json::from_str(&open).unwrap();
    let id = open[0]["id"].as_str().expect("the operation goes on").to_owned();
    server.told(&["operation", "rollback", &id]);
    // One that never served leaves the list at once; its operation waits until its agent has stopped it.
    let said = server.refused(&["operation", "watch", &id], 1);
    assert!(said.contains("rolled back"), "{said}");
}

#[test]
fn a_held_operation_ends_the_wait_and_an_apply_behind_it_says_so() {
    let server = Server::start();
    server.write_app();
    let check = "health_check: {path: /, start_ms_max: 1000}\ninstances: {east: 0}";
    let fleet = FLEET.replace("instances: {east: 0}", check);
    server.write("fleet.yaml", &fleet);
    server.told(&["apply", "-f", "fleet.yaml"]);
    let _agent = agent(&server);
    eventually("the agent's connection", &server, || server.told(&["get", "hosts"]).contains("connected"));
    let said = server.refused(&["scale", "web", "--to", "1", "--hold"], 1);
    assert!(said.contains("op-1: held at step start: "), "{said}");
    assert!(
        said.contains("springtide operation retry op-1, operation skip op-1, or operation rollback op-1"),
        "{said}"
    );
    let list = server.told(&["operation", "list"]);
    assert!(list.contains("held") && list.contains("at step start: ") && !list.contains("paused"), "{list}");
    let page = server.told(&["describe", "operation", "op-1"]);
    assert!(page.contains("held at step start, which failed"), "{page}");
    server.write("fleet.yaml", &fleet.replace("instances: {east: 0}", "instances: {east: 2}"));
    let said = server.refused(&["apply", "-f", "fleet.yaml", "--wait-seconds", "3"], 1);
    assert!(said.contains("not settled after 3 s: web waits for op-1, held at step start: "), "{said}");
    server.told(&["operation", "rollback", "op-1"]);
    // What was applied meanwhile may begin now; nothing of it is left behind.
    server.told(&["delete", "service", "web"]);
    eventually("the end of the instances", &server, || server.told(&["get", "instances", "-o", "json"]).trim() == "[]");
}

#[test]
fn what_is_deleted_or_pruned_is_watched_until_its_last_instance_is_gone() {
    let server = Server::start();
    server.write_app();
    // Without a health check it is healthy as soon as it runs.
    let fleet = FLEET.replace("instances: {east: 0}", "instances: {east: 1}");
    let (facilities, web) = fleet.rsplit_once("---\n").expect("the service comes last");
    server.write("fleet.yaml", facilities);
    server.write("web.yaml", web);
    server.told(&["apply", "-f", "fleet.yaml"]);
    let _agent = agent(&server);
    eventually("the agent's connection", &server, || server.told(&["get", "hosts"]).contains("connected"));
    for away in [&["delete", "service", "web"][..], &["apply", "-f", "fleet.yaml", "--prune", "--yes"]] {
        server.told(&["apply", "-f", "fleet.yaml", "-f", "web.yaml"]);
        assert_eq!(server.told(&["get", "instances", "-o", "json"]).matches("\"healthy\"").count(), 1);
        let said = server.told(away);
        assert!(said.contains("web: 1 → 0 instances") && said.contains("scale web"), "{away:?}: {said}");
        assert_eq!(
            server.told(&["get", "instances", "-o", "json"]).trim(),
            "[]",
            "{away:?} returned too early: {said}"
        );
        assert_eq!(server.told(&["operation", "list", "--open", "-o", "json"]).trim(), "[]", "{away:?}: {said}");
    }
}
