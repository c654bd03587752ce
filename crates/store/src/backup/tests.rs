//! A backup gives back what went in, and no byte of it can be changed unnoticed.

use super::*;
use crate::{Op, RedbStore, Store, Txn};
use std::path::PathBuf;

struct Home {
    folder: tempfile::TempDir,
    digest: Digest,
}

async fn home() -> (Home, RedbStore, Records, Blobs) {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let store = RedbStore::open(&data.join("store.redb")).expect("a store");
    let records = Records::open(&data.join("records")).expect("records");
    let blobs = Blobs::open(&data.join("blobs")).expect("blobs");
    for n in 0..50 {
        let put = Op::Put { key: format!("/key/{:02}", n % 20), value: format!("value {n}").into_bytes(), lease: None };
        store.txn(Txn { compares: vec![], ops: vec![put] }).await.expect("commits");
        records.append(Kind::Audit, &format!("{n}-0"), format!("change {n}").as_bytes()).expect("kept");
    }
    let lease = store.lease_grant(60_000).await.expect("granted");
    let leased = Op::Put { key: "/leased".into(), value: vec![1], lease: Some(lease.id) };
    store.txn(Txn { compares: vec![], ops: vec![leased] }).await.expect("commits");
    records.append(Kind::Report, "op-1", &vec![b'x'; 100_000]).expect("kept");
    let bytes = (0..200_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>();
    let digest = Digest::of(&bytes);
    let mut blob = blobs.create().expect("begins");
    blob.write_all(&bytes).expect("written");
    blob.finish(&digest).expect("kept");
    std::fs::write(data.join("fleet-token"), "secret").expect("written");
    (Home { folder, digest }, store, records, blobs)
}

async fn backup(home: &Home, store: &RedbStore, records: &Records, blobs: &Blobs) -> (About, PathBuf) {
    let path = home.folder.path().join("a.backup");
    let source = Source {
        made_by: "test".to_owned(),
        made_at: 1_700_000_000_000,
        layout: 1,
        range: store.range("/").await.expect("reads"),
        records,
        through: Kind::ALL.map(|kind| (kind, records.last(kind))).into(),
        blobs,
        digests: vec![home.digest.clone()],
        files: vec![(
            "fleet-token".to_owned(),
            File::open(home.folder.path().join("data/fleet-token")).expect("is there"),
        )],
        series: Some(Span { from: 1_600_000_000_000, to: 1_700_000_000_000 }),
    };
    let about = write(source, File::create(&path).expect("a file")).expect("is made");
    (about, path)
}

#[tokio::test]
async fn what_goes_in_comes_out() {
    let (home, store, records, blobs) = home().await;
    let (about, path) = backup(&home, &store, &records, &blobs).await;
    assert_eq!((about.revision, about.keys, about.records["audit"]), (51, 20, 50));
    assert_eq!(verify(&path).expect("is whole"), about);
    let into = home.folder.path().join("new");
    std::fs::create_dir(&into).expect("a folder");
    assert_eq!(unpack(&path, &into).expect("unpacks"), about);
    let again = RedbStore::open(&into.join("store.redb")).expect("opens");
    let mut wanted = store.range("/").await.expect("reads");
    wanted.items.retain(|item| item.lease.is_none());
    assert_eq!(again.range("/").await.expect("reads"), wanted, "with every revision");
    let kept = Records::open(&into.join("records")).expect("opens");
    for kind in Kind::ALL {
        let all = |records: &Records| records.list(kind, 0, 1_000).expect("lists");
        assert_eq!(all(&kept), all(&records));
    }
    assert!(Blobs::open(&into.join("blobs")).expect("opens").path_of(&home.digest).is_some());
    assert_eq!(std::fs::read_to_string(into.join("fleet-token")).expect("is there"), "secret");
}

#[tokio::test]
async fn no_byte_can_be_changed_or_missing() {
    let (home, store, records, blobs) = home().await;
    let (about, path) = backup(&home, &store, &records, &blobs).await;
    let good = std::fs::read(&path).expect("reads");
    let refused = |bytes: &[u8], what: &str| {
        std::fs::write(&path, bytes).expect("writes");
        let error = verify(&path).err().unwrap_or_else(|| panic!("{what} went unnoticed"));
        assert!(matches!(error, Error::Damaged { .. } | Error::Newer { .. }), "{what}: {error}");
        assert!(error.to_string().contains("a.backup"), "{error}");
    };
    refused(&[], "nothing");
    refused(b"kind: Region", "another file");
    for keep in (1..good.len()).step_by(good.len() / 40) {
        refused(&good[..keep], &format!("a cut at {keep}"));
    }
    for at in (0..good.len()).step_by(good.len() / 150) {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        std::fs::write(&path, &bad).expect("writes");
        // A bit of the frame's head may say nothing; what is read is right then.
        assert!(verify(&path).map_or(true, |found| found == about), "a bit at {at}");
        let error = verify(&path).err();
        assert!(error.is_some() || at < 16, "a bit at {at} went unnoticed");
    }
    std::fs::write(&path, &good).expect("writes");
    assert_eq!(verify(&path).expect("is whole"), about);
}

#[tokio::test]
async fn a_backup_of_a_newer_version_and_a_missing_package_are_named() {
    let (home, store, records, blobs) = home().await;
    let path = home.folder.path().join("new.backup");
    let file = File::create(&path).expect("a file");
    let mut tar = tar::Builder::new(zstd::Encoder::new(file, 1).expect("a stream"));
    let about = br#"{"format": 2, "what": "else"}"#;
    let mut header = tar::Header::new_gnu();
    header.set_size(about.len() as u64);
    tar.append_data(&mut header, ABOUT, about.as_slice()).expect("written");
    tar.into_inner().and_then(zstd::Encoder::finish).expect("written");
    let error = verify(&path).expect_err("is refused");
    assert!(matches!(error, Error::Newer { found: 2, known: 1, .. }), "{error}");
    let source = Source {
        made_by: "test".to_owned(),
        made_at: 0,
        layout: 1,
        range: store.range("/").await.expect("reads"),
        records: &records,
        through: BTreeMap::new(),
        blobs: &blobs,
        digests: vec![Digest::of(b"gone")],
        files: vec![],
        series: None,
    };
    assert!(matches!(write(source, Vec::new()), Err(Error::NoBlob(_))));
}
