//! Hostile archives.

use super::*;

fn pack(build: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    build(&mut builder);
    let tar = builder.into_inner().expect("in memory");
    zstd::encode_all(&tar[..], 1).expect("in memory")
}

/// Written by hand: the builder itself refuses hostile paths.
fn add(builder: &mut tar::Builder<Vec<u8>>, kind: EntryType, path: &str, link: &str, mode: u32, data: &[u8]) {
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(data.len() as u64);
    header.set_cksum();
    builder.append(&header, data).expect("in memory");
}

fn try_unpack(packed: &[u8]) -> (tempfile::TempDir, Result<(), UnpackError>) {
    let dir = tempfile::tempdir().expect("temp");
    let into = dir.path().join("a/b/into");
    fs::create_dir_all(&into).expect("temp");
    let result = unpack(packed, &into);
    (dir, result)
}

#[test]
fn files_folders_and_links_inside_arrive() {
    let packed = pack(|builder| {
        add(builder, EntryType::Directory, "./bin/", "", 0o700, b"");
        add(builder, EntryType::Regular, "./bin/run", "", 0o4711, b"#!/bin/sh\n");
        add(builder, EntryType::Regular, "lib/deep/data", "", 0o600, b"data");
        add(builder, EntryType::Symlink, "lib/deep/run", "../../bin/run", 0o777, b"");
        add(builder, EntryType::Link, "again", "lib/deep/data", 0o777, b"");
    });
    let (dir, result) = try_unpack(&packed);
    result.expect("nothing hostile");
    let into = dir.path().join("a/b/into");
    assert_eq!(fs::read(into.join("lib/deep/run")).expect("link works"), b"#!/bin/sh\n");
    assert_eq!(fs::read(into.join("again")).expect("link works"), b"data");
    let mode = |path: &str| fs::metadata(into.join(path)).expect("there").permissions().mode() & 0o7777;
    assert_eq!((mode("bin/run"), mode("lib/deep/data")), (0o755, 0o644));
}

#[test]
fn whatever_leads_outside_is_refused() {
    use EntryType::{Fifo, Link, Regular, Symlink};
    type Entries = &'static [(EntryType, &'static str, &'static str)];
    let cases: [(&str, Entries); 9] = [
        ("absolute", &[(Regular, "/tmp/x", "")]),
        ("up", &[(Regular, "a/../../x", "")]),
        ("absolute link", &[(Symlink, "a", "/etc")]),
        ("link up", &[(Symlink, "a/b", "../../x")]),
        ("link that goes up later", &[(Symlink, "d", "."), (Symlink, "s", "d/../x")]),
        ("through a link", &[(Symlink, "d", "."), (Regular, "d/x", "")]),
        ("over a link", &[(Symlink, "d", "x"), (Regular, "d", "")]),
        ("hard link outside", &[(Link, "a", "../../etc/passwd")]),
        ("pipe", &[(Fifo, "p", "")]),
    ];
    for (name, entries) in cases {
        let packed = pack(|builder| {
            for (kind, path, link) in entries {
                add(builder, *kind, path, link, 0o644, b"");
            }
        });
        let (dir, result) = try_unpack(&packed);
        assert!(matches!(result, Err(UnpackError::Refused { .. })), "{name}: {result:?}");
        let outside: Vec<_> = fs::read_dir(dir.path().join("a/b")).expect("there").flatten().collect();
        assert_eq!(outside.len(), 1, "{name}");
    }
}

#[test]
fn what_is_no_tar_zst_says_so() {
    let (_dir, result) = try_unpack(b"PK\x03\x04 a zip");
    assert!(result.expect_err("no zstd").to_string().contains("must be a tar.zst"));
    let cut = pack(|builder| add(builder, EntryType::Regular, "x", "", 0o644, &[7; 4_000]));
    assert!(try_unpack(&cut[..cut.len() / 2]).1.is_err());
}
