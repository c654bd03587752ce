//! `incident` before a server of canned answers: what a real one says only on a bad night.

use crate::{springtide, text};
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Output;

const STATUS: &str = r#"{"version": "1", "revision": 1, "hosts_connected": 0, "hosts": 0, "proxies": 0, "operations_open": 0,
    "settled": true, "entry_address": null, "started_at": 0, "detection_trouble": "detection does not run: it crashed"}"#;

/// What is answered to requests that begin so.
const ANSWERS: [(&str, &str); 3] = [
    ("GET /v1/incidents?", "[]"),
    ("GET /v1/status", STATUS),
    ("DELETE /v1/incidents/inc-7/silence", r#"{"revision": 9, "silences": ["inc-7-pay"], "until": 5}"#),
];

/// Runs the program before such a server, which ends with the test's process.
fn told(folder: &Path, args: &[&str]) -> Output {
    let listener = UnixListener::bind(folder.join("api.sock")).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut head = [0; 4096];
            let count = stream.read(&mut head).unwrap_or(0);
            let head = String::from_utf8_lossy(&head[..count]);
            let known = ANSWERS.iter().find(|(begin, _)| head.starts_with(begin));
            let (status, body) = known.map_or(("404 Not Found", ""), |(_, body)| ("200 OK", *body));
            let length = body.len();
            let _ = write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
        }
    });
    let ended = springtide(folder, args).env("SPRINGTIDE_SERVER", "api.sock").output().unwrap();
    assert!(ended.status.success(), "{args:?}: {}", text(&ended.stderr));
    ended
}

#[test]
fn a_list_says_when_nobody_watches() {
    let folder = tempfile::tempdir().unwrap();
    let ended = told(folder.path(), &["incident", "list"]);
    assert_eq!(text(&ended.stdout), "detection does not run: it crashed\nno incident goes on\n");
}

#[test]
fn for_programs_it_is_said_beside_the_list() {
    let folder = tempfile::tempdir().unwrap();
    let ended = told(folder.path(), &["incident", "list", "-o", "json"]);
    assert_eq!(text(&ended.stdout), "[]\n");
    assert_eq!(text(&ended.stderr), "detection does not run: it crashed\n");
}

#[test]
fn a_silence_is_ended_early() {
    let folder = tempfile::tempdir().unwrap();
    let ended = told(folder.path(), &["incident", "unsilence", "inc-7"]);
    assert_eq!(text(&ended.stdout), "inc-7: no longer silenced (inc-7-pay)\n");
}
