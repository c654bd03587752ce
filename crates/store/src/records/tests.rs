//! Order, idempotence, torn tails, versions; blobs with right and wrong digests.

use super::*;
use model::Digest;
use std::io::Write;

#[test]
fn records_keep_order_and_ids_across_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let records = Records::open(folder.path()).expect("opens");
    assert_eq!(records.append(Kind::Audit, "a", b"one").expect("appends"), 1);
    assert_eq!(
        records.append_all(Kind::Audit, &[("b", b"two"), ("a", b"again"), ("c", b""), ("c", b"x")]).expect("appends"),
        [2, 1, 3, 3]
    );
    assert_eq!(records.append(Kind::Curve, "a", b"curve").expect("appends"), 1);
    assert!(matches!(Records::open(folder.path()), Err(RecordError::InUse { .. })));
    drop(records);
    let records = Records::open(folder.path()).expect("opens again");
    assert_eq!(records.append(Kind::Audit, "b", b"other").expect("appends"), 2);
    assert_eq!(records.append(Kind::Audit, "d", b"four").expect("appends"), 4);
    let got = records.get(Kind::Audit, "b").expect("reads").expect("is there");
    assert_eq!(got, Record { sequence: 2, id: "b".into(), bytes: b"two".to_vec() });
    let listed = records.list(Kind::Audit, 1, 2).expect("lists");
    assert_eq!(
        listed.iter().map(|record| (record.sequence, record.id.as_str())).collect::<Vec<_>>(),
        [(2, "b"), (3, "c")]
    );
    assert_eq!(records.list(Kind::Audit, 4, 10).expect("lists"), []);
    assert_eq!(records.get(Kind::Report, "b").expect("reads"), None);
    assert_eq!((records.last(Kind::Audit), records.last(Kind::Report)), (4, 0));
}

#[test]
fn a_wrong_digest_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let blobs = Blobs::open(folder.path()).expect("opens");
    let right = Digest::of(b"package");
    let mut writer = blobs.create().expect("begins");
    writer.write_all(b"pack").expect("writes");
    let refused = writer.finish(&right);
    assert!(matches!(refused, Err(BlobError::WrongDigest { expected, .. }) if expected == right));
    assert_eq!(std::fs::read_dir(folder.path().join("unfinished")).expect("reads").count(), 0);
    assert_eq!(blobs.path_of(&right), None);
    for _ in 0..2 {
        let mut writer = blobs.create().expect("begins");
        writer.write_all(b"package").expect("writes");
        let path = writer.finish(&right).expect("keeps");
        assert_eq!(std::fs::read(&path).expect("reads"), b"package");
        assert_eq!(blobs.path_of(&right), Some(path));
        assert_eq!(std::fs::read_dir(folder.path().join("unfinished")).expect("reads").count(), 0);
    }
}
