//! The redb driver in processes that die, in a second process, and with a file that cannot grow.
//!
//! The child process is this test binary, run again with a variable set.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use store::records::{Blobs, Kind, RecordError, Records};
use store::{Error, Op, RedbStore, Store, Txn, TxnOutcome};

const CHILD: &str = "SPRINGTIDE_STORE_CHILD";
const FILE: &str = "SPRINGTIDE_STORE_FILE";

fn child(entry: &str, file: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command.args(["--exact", entry, "--nocapture", "--test-threads=1"]).env(CHILD, "1").env(FILE, file);
    command.stdout(Stdio::piped()).stdin(Stdio::piped());
    command
}

/// The file this process is to work on, when it is a child.
fn child_file() -> Option<std::path::PathBuf> {
    std::env::var_os(CHILD)?;
    std::env::var_os(FILE).map(Into::into)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

/// Two keys that must always agree, and one of its own.
fn pair(writer: usize, n: u64, filler: usize) -> Txn {
    let put = |key: String, value: String| Op::Put { key, value: value.into_bytes(), lease: None };
    let ops = vec![
        put(format!("/left/{writer}"), n.to_string()),
        put(format!("/right/{writer}"), n.to_string()),
        put(format!("/log/{writer}/{n:08}"), "x".repeat(filler)),
    ];
    Txn { compares: vec![], ops }
}

async fn write_on(store: std::sync::Arc<RedbStore>, writer: usize, from: u64) {
    for n in from.. {
        let outcome = store.txn(pair(writer, n, 100)).await.expect("commits");
        let TxnOutcome::Committed(revision) = outcome else { panic!("no condition was given") };
        // One write call a line: a kill cuts between lines only.
        let line = format!("acked {writer} {n} {revision}\n");
        std::io::stdout().write_all(line.as_bytes()).expect("the parent listens");
    }
}

/// Writes until killed. Only a child does anything here.
#[test]
fn child_writes() {
    let Some(file) = child_file() else { return };
    runtime().block_on(async {
        let store = std::sync::Arc::new(RedbStore::open(&file).expect("opens"));
        let from = store.range("/").await.expect("reads").revision + 1;
        let writers = (0..4).map(|writer| tokio::spawn(write_on(store.clone(), writer, from)));
        for writer in writers.collect::<Vec<_>>() {
            writer.await.expect("never ends");
        }
    });
}

/// Lets the child acknowledge `acks` transactions, kills it, and gives all that it acknowledged.
fn kill_after(mut child: Child, acks: usize) -> Vec<(usize, u64, u64)> {
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut acked = Vec::new();
    let mut killed = false;
    while let Some(Ok(line)) = lines.next() {
        let Some((_, ack)) = line.split_once("acked ") else { continue };
        let numbers: Vec<u64> = ack.split(' ').map(|n| n.parse().expect("a number")).collect();
        acked.push((numbers[0] as usize, numbers[1], numbers[2]));
        if acked.len() == acks && !killed {
            child.kill().expect("kills");
            killed = true;
        }
    }
    child.wait().expect("is gone");
    assert!(killed, "the child ended by itself after {} acks", acked.len());
    acked
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("store.redb");
    let mut acked = Vec::new();
    for acks in [1, 3, 17, 60, 8, 121] {
        let started = child("kill::child_writes", &file).spawn().expect("starts");
        acked.extend(kill_after(started, acks));
        let store = RedbStore::open(&file).expect("opens after the kill");
        let range = runtime().block_on(store.range("/")).expect("reads");
        let keys: std::collections::BTreeMap<_, _> = range.items.iter().map(|i| (i.key.as_ref(), i)).collect();
        for (writer, n, revision) in &acked {
            let log = keys.get(format!("/log/{writer}/{n:08}").as_str()).expect("an acknowledged write is there");
            assert_eq!(log.mod_revision, *revision);
        }
        for writer in 0..4 {
            let (left, right) = (keys.get(&*format!("/left/{writer}")), keys.get(&*format!("/right/{writer}")));
            assert_eq!(left.map(|i| (&i.value, i.mod_revision)), right.map(|i| (&i.value, i.mod_revision)), "half");
        }
        let revisions: std::collections::BTreeSet<_> = range.items.iter().map(|i| i.create_revision).collect();
        assert!(revisions.len() as u64 <= range.revision && revisions.last() <= Some(&range.revision));
        let logs: Vec<_> = range.items.iter().filter(|i| i.key.starts_with("/log/")).collect();
        assert_eq!(logs.len() as u64, range.revision, "each revision is one whole transaction");
    }
}

#[test]
fn a_second_process_is_told_that_the_file_is_in_use() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("store.redb");
    let mut first = child("kill::child_writes", &file).spawn().expect("starts");
    let mut lines = BufReader::new(first.stdout.take().expect("piped")).lines();
    assert!(lines.any(|line| line.expect("reads").contains("acked ")), "the child has the file");
    let refused = RedbStore::open(&file).err().expect("is refused");
    first.kill().expect("kills");
    first.wait().expect("is gone");
    assert!(matches!(refused, Error::InUse { .. }), "{refused}");
    RedbStore::open(&file).expect("free again");
}

/// Fills the disk it is allowed, then waits for more and goes on. Only a child does anything here.
#[test]
fn child_fills_the_disk() {
    let Some(file) = child_file() else { return };
    runtime().block_on(async {
        let store = RedbStore::open(&file).expect("opens");
        let mut written = 0;
        let failed = loop {
            match store.txn(pair(0, written + 1, 100_000)).await {
                Ok(_) => written += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(failed, Error::Io(_)), "{failed}");
        let range = store.range("/").await.expect("still reads");
        assert_eq!((range.revision, range.items.len() as u64), (written, written + 2), "as before the failure");
        assert!(store.txn(pair(0, 999, 100_000)).await.is_err(), "still no room");
        assert!(written > 3, "some fitted");
        println!("full {written}");
        std::io::stdin().read_line(&mut String::new()).expect("the parent gives room");
        let outcome = store.txn(pair(0, written + 1, 100_000)).await.expect("commits again");
        assert_eq!(outcome, TxnOutcome::Committed(written + 1));
        println!("again {}", written + 1);
    });
}

/// A process that may write files of 6,000 KiB, and meets real errors of real writes beyond.
fn limited(entry: &str, file: &Path) -> Child {
    let direct = child(entry, file);
    // Ignoring the limit's signal is inherited, as is the soft limit.
    let mut command = Command::new("bash");
    command.args(["-c", "trap '' XFSZ; ulimit -S -f 6000; exec \"$0\" \"$@\""]).arg(direct.get_program());
    command.args(direct.get_args()).env(CHILD, "1").env(FILE, file);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("starts")
}

/// Waits until the child says `full`, gives it room, waits until it says `again`; gives the numbers it said.
fn give_room(mut full: Child) -> (u64, u64) {
    let mut lines = BufReader::new(full.stdout.take().expect("piped")).lines().map(|line| line.expect("reads"));
    let number = |line: String| line.rsplit(' ').next().and_then(|n| n.parse::<u64>().ok()).expect("a number");
    let written = number(lines.find(|line| line.contains("full ")).expect("meets the limit"));
    let raised = Command::new("prlimit").args(["--pid", &full.id().to_string(), "--fsize=unlimited"]).status();
    assert!(raised.expect("prlimit is part of util-linux").success());
    full.stdin.take().expect("piped").write_all(b"go on\n").expect("the child listens");
    let again = number(lines.find(|line| line.contains("again ")).expect("goes on"));
    assert!(full.wait().expect("ends").success());
    (written, again)
}

#[test]
fn a_full_disk_refuses_and_loses_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("store.redb");
    let (written, again) = give_room(limited("kill::child_fills_the_disk", &file));
    assert_eq!(again, written + 1);
    let store = RedbStore::open(&file).expect("opens");
    let range = runtime().block_on(store.range("/")).expect("reads");
    assert_eq!((range.revision, range.items.len() as u64), (written + 1, written + 3));
}

/// Fills the log and the blobs with what is allowed, then goes on. Only a child does anything here.
#[test]
fn child_fills_the_records() {
    let Some(folder) = child_file() else { return };
    let records = Records::open(&folder.join("records")).expect("opens");
    let body = vec![7; 100_000];
    let append = |n: u64| records.append(Kind::Audit, &n.to_string(), &body);
    let mut written = 0;
    let failed = loop {
        match append(written + 1) {
            Ok(sequence) => written = sequence,
            Err(error) => break error,
        }
    };
    assert!(matches!(failed, RecordError::Io { .. }), "{failed}");
    assert!(append(999).is_err() && records.get(Kind::Audit, "999").expect("reads").is_none(), "still no room");
    let blobs = Blobs::open(&folder.join("blobs")).expect("opens");
    let mut blob = blobs.create().expect("begins");
    blob.write_all(&vec![1; 10_000_000]).expect_err("no room");
    drop(blob);
    assert_eq!(std::fs::read_dir(folder.join("blobs/unfinished")).expect("reads").count(), 0);
    println!("full {written}");
    std::io::stdin().read_line(&mut String::new()).expect("the parent gives room");
    assert_eq!(append(written + 1).expect("appends again"), written + 1);
    println!("again {}", written + 1);
}

#[test]
fn full_records_refuse_and_lose_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let (written, again) = give_room(limited("kill::child_fills_the_records", folder.path()));
    assert!(written > 3 && again == written + 1);
    let records = Records::open(&folder.path().join("records")).expect("opens");
    let listed = records.list(Kind::Audit, 0, 1_000).expect("lists");
    assert_eq!(listed.iter().map(|record| record.sequence).collect::<Vec<_>>(), (1..=again).collect::<Vec<_>>());
    assert!(listed.iter().all(|record| record.bytes.len() == 100_000));
    let files = std::fs::read_dir(folder.path().join("records/audit")).expect("reads").count();
    assert_eq!(files, 1, "no torn tail was left behind");
}
