//! Exit codes and messages where no server is needed.

use crate::{run, springtide, text};
use std::io::Read;
use std::net::TcpListener;
use std::process::{Command, Stdio};

#[test]
fn exit_codes_tell_usage_manifests_and_reach_apart() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.yaml"), "kind: Region\nnmae: a\n").unwrap();
    std::fs::write(folder.path().join("good.yaml"), "kind: Region\nname: a\n").unwrap();
    let table: &[(&[&str], i32, &str)] = &[
        (&["get"], 2, "Usage: springtide get"),
        (&["get", "servcies"], 2, "did you mean service?"),
        (&["get", "services", "--server", "https://x"], 2, "give a socket's path or http://127.0.0.1:PORT"),
        (
            &["get", "services", "--server", "no.sock"],
            3,
            "no springtide server answers at no.sock: start one (`springtide dev`)",
        ),
        (&["apply", "-f", "none"], 2, "cannot read none"),
        (&["apply", "-f", "a.yaml"], 2, "a.yaml:2: nmae: unknown field `nmae`; did you mean `name`?"),
        (&["apply", "-f", "good.yaml", "--server", "no.sock"], 3, "no springtide server answers"),
        (&["query", "sum(rte(x[1m]))"], 2, "did you mean rate?\n  sum(rte(x[1m]))\n      ^^^\n"),
        (&["query", "up", "--range", "soon"], 2, "is no duration"),
        (&["query", "up", "--server", "no.sock"], 3, "no springtide server answers"),
        (&["simulate", "none.yaml"], 2, "cannot read none.yaml"),
        (&["simulate", "good.yaml"], 2, "good.yaml:1: kind: unknown field `kind`"),
        (&["load", "http://127.0.0.1:1/", "--steps", "x"], 2, "write RPS:SECONDS,RPS:SECONDS"),
    ];
    for (args, code, wanted) in table {
        let ended = run(folder.path(), args);
        let said = text(&ended.stderr);
        assert_eq!(ended.status.code(), Some(*code), "{args:?}: {said}");
        assert!(said.contains(wanted), "{args:?}: {said}");
    }
}

#[test]
fn doctor_gives_a_line_each_and_json() {
    let folder = tempfile::tempdir().unwrap();
    let free = testkit::address().to_string();
    let args = ["doctor", "--server", "no.sock", "--listen", &free, "-o", "json"];
    let ended = run(folder.path(), &args);
    let findings: serde_json::Value = serde_json::from_slice(&ended.stdout).expect("doctor prints JSON");
    let findings = findings.as_array().expect("a list");
    let mark = |name: &str| findings.iter().find(|one| one["check"] == name).map(|one| one["mark"].clone());
    assert_eq!(mark("version"), Some("ok".into()));
    assert_eq!(mark("server"), Some("warn".into()));
    assert_eq!(mark("data folder"), Some("ok".into()));
    let failed = findings.iter().any(|one| one["mark"] == "fail");
    assert_eq!(ended.status.code(), Some(i32::from(failed)));
    assert!(findings.iter().all(|one| one["mark"] == "ok" || !one["advice"].as_str().unwrap_or_default().is_empty()));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "doctor leaves nothing behind");
}

#[test]
fn a_rehearsal_is_the_same_each_time_and_needs_no_server() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scenarios/golden.yaml");
    let folder = tempfile::tempdir().unwrap();
    let once = || run(folder.path(), &["simulate", "--scheme", "springtide,dagor", "-o", "json", script]);
    let (first, second) = (once(), once());
    assert_eq!(first.status.code(), Some(0), "{}", text(&first.stderr));
    assert_eq!(first.stdout, second.stdout);
    let found: serde_json::Value = serde_json::from_slice(&first.stdout).expect("JSON");
    let schemes: Vec<&str> =
        found["runs"].as_array().unwrap().iter().filter_map(|run| run["scheme"].as_str()).collect();
    assert_eq!(schemes, ["springtide", "dagor"]);
    assert!(found["runs"][0]["all"]["ok"].as_u64() > Some(0));
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = springtide(folder.path(), &["doctor", "--server", "no.sock"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut said = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{said}");
    assert_eq!(said, "");
}

#[test]
fn load_measures_a_real_server() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/a", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            std::thread::spawn(move || answer(stream));
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let args = ["load", &url, "--rps", "50", "--seconds", "1", "--lag-ms", "60000", "-o", "json"];
    let ended = run(folder.path(), &args);
    let report: serde_json::Value = serde_json::from_slice(&ended.stdout).expect("load prints JSON");
    assert_eq!(ended.status.code(), Some(0), "{}", text(&ended.stderr));
    assert_eq!(report["offered"], 50, "{report}");
    assert_eq!(report["done"], 50, "{report}");
    let told = text(&ended.stderr);
    let sent =
        told.match_indices(" sent").filter_map(|(at, _)| told[..at].split_whitespace().last()?.parse::<u32>().ok());
    assert_eq!(sent.sum::<u32>(), 50, "each second is told beside the JSON: {told}");
}

/// Answers every request on a connection with 204.
fn answer(mut stream: std::net::TcpStream) {
    use std::io::Write;
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        seen.extend_from_slice(&buffer[..count]);
        while let Some(end) = seen.windows(4).position(|four| four == b"\r\n\r\n") {
            seen.drain(..end + 4);
            if stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").is_err() {
                return;
            }
        }
    }
}

#[test]
fn without_its_shim_beside_it_dev_says_what_to_install_and_starts_nothing() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let alone = folder.path().join("springtide");
    std::fs::copy(env!("CARGO_BIN_EXE_springtide"), &alone).unwrap();
    let ended = Command::new(&alone).arg("dev").current_dir(folder.path()).output().unwrap();
    let said = text(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{said}");
    let wanted = format!("the shim {} is not there", folder.path().join("springtide-shim").display());
    assert!(said.contains(&wanted) && said.contains("install it beside springtide"), "{said}");
    assert!(!folder.path().join(".springtide/logs").exists(), "parts were started");
}

/// An agent from before the shim became a program of its own goes on asking for it so, until it is restarted.
#[test]
fn an_older_agent_still_gets_its_shim() {
    let shim = std::path::Path::new(env!("CARGO_BIN_EXE_springtide")).with_file_name("springtide-shim");
    assert!(shim.exists(), "{} is not built: `cargo build` (or `cargo xtask test`) makes it", shim.display());
    let folder = tempfile::tempdir().unwrap();
    let ended = run(folder.path(), &["shim", "no-such-folder"]);
    let said = text(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.starts_with("shim of no-such-folder: "), "{said}");
}
