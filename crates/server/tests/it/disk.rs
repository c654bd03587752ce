//! A disk that is really full: a small tmpfs under the data folder. What is refused says why, nothing is half done, and all
//! goes on by itself when there is room.

use crate::agent::Agent;
use crate::harness::{apply_pay, config, package_bytes, request, settled, socket, until};
use api::client::{Address, Client, Error};
use api::http::OperationRequest;
use model::{Digest, OperationPhase};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A small disk of its own, unmounted when dropped.
struct Disk {
    folder: tempfile::TempDir,
}

impl Disk {
    fn of_mib(size: u32) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let options = format!("size={size}m,mode=700");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(folder.path()).status();
        assert!(mounted.expect("mount is part of util-linux").success(), "root may mount a tmpfs");
        Self { folder }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Takes all the room that is left but for `left` bytes.
    fn fill(&self, left: usize) -> PathBuf {
        let path = self.path().join("filler");
        let mut file = File::create(&path).expect("a file");
        let block = [0x5a; 4_096];
        while file.write_all(&block).is_ok() {}
        let bytes = file.metadata().expect("is there").len();
        file.set_len(bytes.saturating_sub(left as u64)).expect("cut");
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(self.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()) || std::thread::panicking(), "it was mounted");
    }
}

fn refused<T: std::fmt::Debug>(answer: Result<T, Error>) -> Option<String> {
    match answer {
        Ok(_) => None,
        Err(Error::Refused(problem, status)) if status.as_u16() == 507 => Some(problem.message),
        Err(other) => panic!("{other:?}"),
    }
}

fn scale(to: u32) -> OperationRequest {
    OperationRequest::Scale { service: "pay".to_owned(), to: Some(to), instances: BTreeMap::new() }
}

/// A change of about so many bytes, in config sets of 100 kB.
fn large(kilobytes: usize) -> String {
    let sets = (0..kilobytes.div_ceil(100))
        .map(|n| format!("---\nkind: ConfigSet\nname: large-{n}\nfiles: {{ 'a.conf': '{}' }}\n", "x".repeat(100_000)));
    sets.collect()
}

async fn large_sets(client: &Client) -> usize {
    let found = client.resources("ConfigSet").await.expect("listed");
    found.iter().filter(|view| view.resource.name().starts_with("large-")).count()
}

async fn well(client: &Client) {
    until("the disk to be well", || async { client.status().await.ok()?.trouble.is_none().then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_changes_and_all_goes_on_when_there_is_room() {
    let disk = Disk::of_mib(24);
    let handle = server::start(config(disk.path())).await.expect("a server");
    let client = Client::new(&Address::Socket(socket(disk.path())));
    apply_pay(&client, 1, 1).await;
    let agents = Agent::fleet(2, disk.path());
    settled(&client, "pay", 2).await;
    let before: Vec<BTreeSet<String>> = agents.iter().map(Agent::running).collect();

    // The store cannot grow: a change of several transactions is refused as a whole.
    let filler = disk.fill(600_000);
    let why = refused(client.apply(&request(&[("large.yaml", large(4_000))])).await).expect("no room for this");
    assert!(why.contains("the store cannot write, so nothing is changed") && why.contains("Make room"), "{why}");
    assert!(why.contains("store.redb: ") && why.contains("No space left on device"), "{why}");
    assert_eq!(large_sets(&client).await, 0);

    // No byte is left: uploads and every change are refused.
    disk.fill(0);
    let bytes = vec![7; 500_000];
    let digest = Digest::of(&bytes);
    let why = refused(client.put_package(digest.as_str(), bytes.clone()).await).expect("no room for this");
    assert!(why.contains("make room") && !client.has_package(digest.as_str()).await.expect("answers"), "{why}");
    let unfinished = std::fs::read_dir(disk.path().join("blobs/unfinished")).expect("is there").count();
    assert_eq!(unfinished, 0);
    let mut changes = 0;
    let why = loop {
        // A small commit may find a free page in the store's file, but its audit finds none.
        let environment = format!("kind: Environment\nname: little-{changes}\nvariables: {{ A: '{changes}' }}\n");
        match refused(client.apply(&request(&[("e.yaml", environment)])).await) {
            Some(why) => break why,
            None => changes += 1,
        }
        assert!(changes < 200, "the disk is not full");
    };
    assert!(why.contains("Make room on it: changes go on by themselves"), "{why}");
    assert!(refused(client.open_operation(&scale(4)).await).is_some());
    assert!(client.status().await.expect("still answers").trouble.is_some());
    let revision = client.status().await.expect("answers").revision;
    assert_eq!(agents.iter().map(Agent::running).collect::<Vec<_>>(), before, "no instance was touched");

    std::fs::remove_file(filler).expect("removed");
    well(&client).await;
    assert!(client.status().await.expect("answers").revision >= revision);
    client.put_package(digest.as_str(), bytes).await.expect("fits now");
    client.apply(&request(&[("large.yaml", large(4_000))])).await.expect("fits now");
    assert_eq!(large_sets(&client).await, 40);
    let operation = client.open_operation(&scale(4)).await.expect("opened");
    until("the end", || async {
        let operation = client.operation(operation.id.as_str()).await.ok()?;
        (operation.phase == OperationPhase::Succeeded).then_some(())
    })
    .await;
    settled(&client, "pay", 4).await;
    check_audit(&client, changes).await;
    handle.stop().await.expect("stops well");

    // Nothing of what was refused is there after a restart either.
    let handle = server::start(config(disk.path())).await.expect("a server again");
    assert_eq!(large_sets(&client).await, 40);
    assert!(client.has_package(Digest::of(&package_bytes()).as_str()).await.expect("answers"));
    handle.stop().await.expect("stops well");
}

/// Every change that was accepted is in the audit, once.
async fn check_audit(client: &Client, changes: usize) {
    let mut after = 0;
    let mut what = BTreeMap::new();
    loop {
        let page = client.audit(after, 1_000).await.expect("listed");
        let Some(last) = page.last() else { break };
        after = last.sequence;
        for entry in &page {
            *what.entry((entry.revision, entry.what.clone())).or_insert(0) += 1;
        }
    }
    assert!(what.values().all(|times| *times == 1), "an entry is there twice");
    let of = |prefix: &str| what.keys().filter(|(_, what)| what.starts_with(prefix)).count();
    assert_eq!((of("ConfigSet large-"), of("Environment little-")), (40, changes));
}

/// Lets a server fail to start, and checks that it changed no byte of `kept`, a part of its data folder or all of it.
async fn refused_start(data: &Path, kept: &Path, words: &[&str]) {
    let listing = |folder: &Path| -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            for path in std::fs::read_dir(folder).expect("reads").map(|entry| entry.expect("reads").path()) {
                match path.is_dir() {
                    true => folders.push(path),
                    false => drop(found.insert(path.clone(), std::fs::read(&path).unwrap_or_default())),
                }
            }
        }
        found
    };
    let before = listing(kept);
    let why = server::start(config(data)).await.err().expect("is refused").to_string();
    for word in words {
        assert!(why.contains(word), "{why:?} lacks {word:?}");
    }
    let after = listing(kept);
    let changed: Vec<&PathBuf> =
        after.iter().filter(|(path, bytes)| before.get(*path) != Some(*bytes)).map(|(path, _)| path).collect();
    assert!(changed.is_empty() && before.len() == after.len(), "{why}: changed {changed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_or_newer_folder_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path();
    let handle = server::start(config(data)).await.expect("a server");
    let client = Client::new(&Address::Socket(socket(data)));
    apply_pay(&client, 2, 2).await;
    handle.stop().await.expect("stops well");
    let store = data.join("store.redb");
    let good = std::fs::read(&store).expect("reads");

    for (what, bytes) in [
        ("empty", Vec::new()),
        ("cut in two", good[..good.len() / 2].to_vec()),
        ("another file", b"kind: Region\nname: south\n".repeat(500)),
        (
            "flipped",
            good.iter().enumerate().map(|(at, byte)| if at % 97 == 50 { byte ^ 0x10 } else { *byte }).collect(),
        ),
    ] {
        std::fs::write(&store, bytes).expect("writes");
        println!("a store that is {what}");
        refused_start(data, data, &["store.redb", "restore it from a backup"]).await;
    }
    // The version byte of redb's own pages, in both of its headers.
    let mut newer = good.clone();
    (newer[64], newer[192]) = (9, 9);
    std::fs::write(&store, newer).expect("writes");
    refused_start(data, data, &["store.redb", "format 9", "use the newer springtide"]).await;
    std::fs::write(&store, &good).expect("writes");

    // The layout of keys and values.
    {
        use store::{Op, RedbStore, Store, Txn};
        let opened = RedbStore::open(&store).expect("opens");
        let put = Op::Put { key: model::keys::FORMAT_VERSION.to_owned(), value: b"2".to_vec(), lease: None };
        opened.txn(Txn { compares: vec![], ops: vec![put] }).await.expect("commits");
    }
    let why = server::start(config(data)).await.err().expect("is refused").to_string();
    let words = [&data.display().to_string(), "layout version 2", "start the newer springtide"];
    assert!(words.iter().all(|word| why.contains(word)), "{why}");
    std::fs::write(&store, &good).expect("writes");

    let audit =
        std::fs::read_dir(data.join("records/audit")).expect("reads").next().expect("a segment").expect("reads").path();
    let whole = std::fs::read(&audit).expect("reads");
    let mut other = whole.clone();
    other[7] = 9;
    std::fs::write(&audit, other).expect("writes");
    // redb notes in its own file that it was open; that file is sound, and opened before the records.
    let records = data.join("records");
    refused_start(data, &records, &["audit", "format 9", "use the newer springtide"]).await;
    std::fs::write(&audit, b"nothing of the kind").expect("writes");
    refused_start(data, &records, &["audit", "is damaged", "restore it from a backup"]).await;
    std::fs::write(&audit, &whole).expect("writes");

    let handle = server::start(config(data)).await.expect("all is there again");
    assert_eq!(client.services().await.expect("listed").len(), 1);
    handle.stop().await.expect("stops well");
}
