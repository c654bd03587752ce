//! Rolls to a new segment over what failed ones left; the log as its users meet it is in `tests/it/embedded.rs`.

use super::*;

fn writer(folder: &Path) -> Writer {
    Writer {
        folder: folder.to_owned(),
        name: "lane".to_owned(),
        bytes_max: 1 << 30,
        index: Arc::default(),
        file: create(folder, 0).expect("created"),
        number: 0,
        length: MAGIC.len() as u64,
    }
}

#[test]
fn a_roll_gets_past_what_a_failed_one_left() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut writer = writer(folder.path());
    // As after ENOSPC, or a crash, between the file's creation and the sync of its first bytes.
    for (number, left) in [(1, &b""[..]), (2, &MAGIC[..3]), (3, &MAGIC[..])] {
        std::fs::write(segment::path_of(folder.path(), number), left).expect("written");
        writer.roll().expect("there is space again");
        assert_eq!(writer.number, number);
        assert_eq!(std::fs::read(segment::path_of(folder.path(), number)).expect("readable"), MAGIC);
    }
}

#[test]
fn a_roll_never_writes_over_records() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut writer = writer(folder.path());
    let path = segment::path_of(folder.path(), 1);
    let mut bytes = MAGIC.to_vec();
    segment::write(&Event::Revived(7).into(), &mut bytes);
    std::fs::write(&path, &bytes).expect("written");
    assert!(writer.roll().is_err());
    assert_eq!(std::fs::read(&path).expect("readable"), bytes);
}
