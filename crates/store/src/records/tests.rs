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

/// The only segment of the audit.
fn segment(folder: &Path) -> std::path::PathBuf {
    folder.join("audit").join(format!("{:020}.segment", 1))
}

#[test]
fn a_torn_tail_is_cut_at_every_length_and_nothing_else_is_lost() {
    let folder = tempfile::tempdir().expect("a folder");
    let records = Records::open(folder.path()).expect("opens");
    records.append_all(Kind::Audit, &[("a", b"one"), ("b", b"two")]).expect("appends");
    drop(records);
    let kept = std::fs::read(segment(folder.path())).expect("reads");
    let records = Records::open(folder.path()).expect("opens");
    records.append(Kind::Audit, "c", b"three").expect("appends");
    drop(records);
    let whole = std::fs::read(segment(folder.path())).expect("reads");
    for end in kept.len()..whole.len() {
        std::fs::write(segment(folder.path()), &whole[..end]).expect("writes");
        let records = Records::open(folder.path()).expect("opens");
        assert_eq!(records.last(Kind::Audit), 2, "cut at {end}");
        assert_eq!(std::fs::read(segment(folder.path())).expect("reads"), kept);
        assert_eq!(records.append(Kind::Audit, "d", b"next").expect("appends"), 3);
        drop(records);
        let torn = segment(folder.path()).with_extension(format!("torn-{}", kept.len()));
        if end > kept.len() {
            assert_eq!(std::fs::read(&torn).expect("is kept aside"), whole[kept.len()..end]);
        }
        let records = Records::open(folder.path()).expect("opens");
        assert_eq!(records.get(Kind::Audit, "d").expect("reads").expect("is there").bytes, b"next");
    }
}

#[test]
fn segments_roll_over_and_an_old_one_must_be_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let records = Records::open(folder.path()).expect("opens");
    let large = vec![7; SEGMENT_BYTES_MAX as usize / 2];
    for id in ["a", "b", "c", "d"] {
        records.append(Kind::Audit, id, &large).expect("appends");
    }
    let too_large = vec![0; FRAME_BYTES_MAX];
    assert!(matches!(records.append(Kind::Audit, "e", &too_large), Err(RecordError::TooLarge { .. })));
    drop(records);
    let records = Records::open(folder.path()).expect("opens");
    let listed = records.list(Kind::Audit, 0, 10).expect("lists");
    assert_eq!(listed.iter().map(|record| record.sequence).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert!(listed.iter().all(|record| record.bytes == large));
    drop(records);
    assert!(folder.path().join("audit").join(format!("{:020}.segment", 3)).is_file());
    let mut bytes = std::fs::read(segment(folder.path())).expect("reads");
    bytes[1_000] ^= 1;
    std::fs::write(segment(folder.path()), bytes).expect("writes");
    let refused = Records::open(folder.path()).err().expect("is refused");
    assert!(matches!(&refused, RecordError::Damaged { at: 8, .. }), "{refused}");
}

#[test]
fn a_newer_or_foreign_segment_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    drop(Records::open(folder.path()).expect("opens"));
    std::fs::write(segment(folder.path()), b"STRECRD\x02").expect("writes");
    assert!(matches!(Records::open(folder.path()), Err(RecordError::Newer { found: 2, known: 1, .. })));
    std::fs::write(segment(folder.path()), b"something else").expect("writes");
    assert!(matches!(Records::open(folder.path()), Err(RecordError::Damaged { at: 0, .. })));
    std::fs::write(segment(folder.path()), b"STREC").expect("writes");
    let records = Records::open(folder.path()).expect("a crash while the segment began");
    assert_eq!(records.append(Kind::Audit, "a", b"one").expect("appends"), 1);
}

#[test]
fn many_threads_append_without_loss() {
    let folder = tempfile::tempdir().expect("a folder");
    let records = Records::open(folder.path()).expect("opens");
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let records = &records;
            scope.spawn(move || {
                for n in 0..25 {
                    let id = format!("{thread}-{n}");
                    let sequence = records.append(Kind::Operation, &id, id.as_bytes()).expect("appends");
                    assert_eq!(records.get(Kind::Operation, &id).expect("reads").expect("is there").sequence, sequence);
                }
            });
        }
    });
    drop(records);
    let records = Records::open(folder.path()).expect("opens");
    let listed = records.list(Kind::Operation, 0, 1_000).expect("lists");
    assert!(listed.iter().zip(1..).all(|(record, n)| record.sequence == n && record.bytes == record.id.as_bytes()));
    assert_eq!(listed.len(), 100);
}

#[test]
fn unfinished_blobs_go_with_their_writer_or_at_the_next_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let blobs = Blobs::open(folder.path()).expect("opens");
    let unfinished = || std::fs::read_dir(folder.path().join("unfinished")).expect("reads").count();
    let mut writer = blobs.create().expect("begins");
    writer.write_all(b"half").expect("writes");
    let other = blobs.create().expect("begins");
    assert_eq!(unfinished(), 2);
    drop(writer);
    assert_eq!(unfinished(), 1);
    std::mem::forget(other);
    Blobs::open(folder.path()).expect("opens");
    assert_eq!(unfinished(), 0);
}
