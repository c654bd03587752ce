//! Packs what a package's `source` names: the same files give the same bytes, wherever and whenever they are packed.
//!
//! Order is by name, times are zero, owners are root, and of the permissions only "may be executed" is kept.

use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tar::{Builder, EntryType, Header};

/// Most files and folders in a package.
const ENTRIES_MAX: usize = 100_000;
/// Most bytes in a package, before compression.
const BYTES_MAX: u64 = 4 << 30;
/// Level of compression: fast, and fixed, since the digest depends on it.
const ZSTD_LEVEL: i32 = 3;
/// What a ready package ends in.
const READY: &str = ".tar.zst";

/// The bytes of the package that `source` names: a file, a folder, or a ready `.tar.zst`.
///
/// # Errors
/// What is wrong with the source, for people.
pub fn pack(source: &Path) -> Result<Vec<u8>, String> {
    let fault = |error: io::Error| format!("cannot pack {}: {error}", source.display());
    let found = std::fs::metadata(source).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            format!("{} does not exist; build it first, or name the right path", source.display())
        }
        _ => fault(error),
    })?;
    if found.is_file() && source.to_string_lossy().ends_with(READY) {
        return std::fs::read(source).map_err(fault);
    }
    let encoder = zstd::Encoder::new(Vec::new(), ZSTD_LEVEL).map_err(fault)?;
    let mut writer = Writer { tar: Builder::new(encoder), entries: 0, bytes: 0 };
    if found.is_dir() {
        writer.folder(source, Path::new("")).map_err(fault)?;
    } else {
        let name = source.file_name().ok_or_else(|| format!("{} has no file name", source.display()))?;
        writer.file(source, Path::new(name)).map_err(fault)?;
    }
    writer.tar.into_inner().and_then(zstd::Encoder::finish).map_err(fault)
}

struct Writer {
    tar: Builder<zstd::Encoder<'static, Vec<u8>>>,
    entries: usize,
    bytes: u64,
}

impl Writer {
    fn folder(&mut self, from: &Path, at: &Path) -> io::Result<()> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(from)? {
            names.push(entry?.file_name());
        }
        names.sort();
        for name in names {
            let (from, at) = (from.join(&name), at.join(&name));
            let kind = std::fs::symlink_metadata(&from)?.file_type();
            if kind.is_dir() {
                self.entry(EntryType::Directory, 0o755, 0, &at, io::empty())?;
                self.folder(&from, &at)?;
            } else if kind.is_file() {
                self.file(&from, &at)?;
            } else if kind.is_symlink() {
                self.link(&from, &at)?;
            } else {
                return Err(io::Error::other(format!("{} is neither file, folder nor link", from.display())));
            }
        }
        Ok(())
    }

    fn file(&mut self, from: &Path, at: &Path) -> io::Result<()> {
        let file = std::fs::File::open(from)?;
        let found = file.metadata()?;
        let mode = if found.permissions().mode() & 0o111 == 0 { 0o644 } else { 0o755 };
        self.entry(EntryType::Regular, mode, found.len(), at, file.take(found.len()))
    }

    fn link(&mut self, from: &Path, at: &Path) -> io::Result<()> {
        let target = std::fs::read_link(from)?;
        if !stays_inside(at, &target) {
            let message = format!("{} links to {}, outside of the package", from.display(), target.display());
            return Err(io::Error::other(message));
        }
        self.count(0)?;
        let mut header = header(EntryType::Symlink, 0o777, 0);
        self.tar.append_link(&mut header, at, target)
    }

    fn entry(&mut self, kind: EntryType, mode: u32, size: u64, at: &Path, data: impl Read) -> io::Result<()> {
        self.count(size)?;
        let mut header = header(kind, mode, size);
        self.tar.append_data(&mut header, at, data)
    }

    fn count(&mut self, size: u64) -> io::Result<()> {
        self.entries += 1;
        self.bytes += size;
        if self.entries > ENTRIES_MAX || self.bytes > BYTES_MAX {
            return Err(io::Error::other(format!("it has more than {ENTRIES_MAX} files or {BYTES_MAX} bytes")));
        }
        Ok(())
    }
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// True when a link at `at` leads nowhere above the package.
fn stays_inside(at: &Path, target: &Path) -> bool {
    use std::path::Component::*;
    let mut depth = at.parent().map_or(0, |parent| parent.components().count());
    for part in target.components() {
        match part {
            Normal(_) => depth += 1,
            CurDir => {}
            ParentDir if depth > 0 => depth -= 1,
            ParentDir | RootDir | Prefix(_) => return false,
        }
    }
    true
}

/// A source's path, relative to the manifest that names it.
pub fn beside(manifest: &str, source: &str) -> PathBuf {
    Path::new(manifest).parent().unwrap_or(Path::new("")).join(source)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn sample(folder: &Path, backwards: bool) {
        let mut names = ["a/one", "a/two", "z", "bin/run"];
        if backwards {
            names.reverse();
        }
        for name in names {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, name).unwrap();
        }
        fs::set_permissions(folder.join("bin/run"), fs::Permissions::from_mode(if backwards { 0o700 } else { 0o755 }))
            .unwrap();
        std::os::unix::fs::symlink("../z", folder.join("a/link")).unwrap();
    }

    #[test]
    fn the_same_files_give_the_same_bytes() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        sample(one.path(), false);
        sample(other.path(), true);
        let old = fs::File::open(other.path().join("z")).unwrap();
        old.set_modified(std::time::UNIX_EPOCH).unwrap();
        let packed = pack(one.path()).unwrap();
        assert_eq!(packed, pack(other.path()).unwrap());
        let mut archive = tar::Archive::new(zstd::Decoder::new(packed.as_slice()).unwrap());
        let entries: Vec<(String, u32, u64)> = archive
            .entries()
            .unwrap()
            .map(Result::unwrap)
            .map(|entry| {
                (
                    entry.path().unwrap().display().to_string(),
                    entry.header().mode().unwrap(),
                    entry.header().mtime().unwrap(),
                )
            })
            .collect();
        let wanted = [
            ("a", 0o755),
            ("a/link", 0o777),
            ("a/one", 0o644),
            ("a/two", 0o644),
            ("bin", 0o755),
            ("bin/run", 0o755),
            ("z", 0o644),
        ];
        assert_eq!(entries, wanted.map(|(name, mode)| (name.to_owned(), mode, 0)));
        fs::write(one.path().join("z"), "changed").unwrap();
        assert_ne!(pack(one.path()).unwrap(), packed);
    }

    #[test]
    fn a_file_is_packed_alone_and_a_ready_package_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("app"), "x").unwrap();
        let packed = pack(&folder.path().join("app")).unwrap();
        let ready = folder.path().join("app.tar.zst");
        fs::write(&ready, &packed).unwrap();
        assert_eq!(pack(&ready).unwrap(), packed);
    }

    #[test]
    fn what_cannot_be_packed_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let missing = pack(&folder.path().join("no")).unwrap_err();
        assert!(missing.ends_with("does not exist; build it first, or name the right path"), "{missing}");
        std::os::unix::fs::symlink("../../etc/passwd", folder.path().join("out")).unwrap();
        assert!(pack(folder.path()).unwrap_err().contains("outside of the package"));
    }
}
