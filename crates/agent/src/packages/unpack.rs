//! Unpacks a tar.zst into a fresh folder, and refuses whatever could touch anything outside it.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use tar::EntryType;

/// Most entries of a package.
pub const ENTRIES_MAX: u64 = 200_000;
/// Most bytes a package may unpack to.
pub const UNPACKED_BYTES_MAX: u64 = 16 << 30;
/// Largest window a package may ask of the decompressor, as a power of two (128 MiB: `zstd --ultra -22`).
const WINDOW_LOG_MAX: u32 = 27;

/// Why a package was refused.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// It is no tar.zst, or it cannot be written.
    #[error("cannot unpack the package: {0}; it must be a tar.zst")]
    Io(#[from] io::Error),
    /// An entry that no package needs.
    #[error("the package holds {path:?}, {what}; packages hold folders, files and links that stay inside")]
    Refused {
        /// The entry.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Too large.
    #[error("the package unpacks to more than {bytes_max} bytes or {entries_max} entries")]
    TooLarge {
        /// Bytes allowed.
        bytes_max: u64,
        /// Entries allowed.
        entries_max: u64,
    },
}

const TOO_LARGE: UnpackError = UnpackError::TooLarge { bytes_max: UNPACKED_BYTES_MAX, entries_max: ENTRIES_MAX };

/// Unpacks `packed` into the existing, empty folder `into`. Blocking.
pub fn unpack(packed: impl Read, into: &Path) -> Result<(), UnpackError> {
    let mut decoder = zstd::stream::read::Decoder::new(packed)?;
    decoder.window_log_max(WINDOW_LOG_MAX)?;
    let mut archive = tar::Archive::new(decoder);
    let mut unpacking = Unpacking { into, links: BTreeSet::new(), bytes_left: UNPACKED_BYTES_MAX };
    for (count, entry) in archive.entries()?.enumerate() {
        if count as u64 >= ENTRIES_MAX {
            return Err(TOO_LARGE);
        }
        unpacking.take(entry?)?;
    }
    Ok(())
}

struct Unpacking<'a> {
    into: &'a Path,
    /// Symbolic links made so far: nothing is ever written through one.
    links: BTreeSet<PathBuf>,
    bytes_left: u64,
}

impl Unpacking<'_> {
    fn take(&mut self, mut entry: tar::Entry<'_, impl Read>) -> Result<(), UnpackError> {
        let raw = entry.path()?.into_owned();
        let refused = |what| UnpackError::Refused { path: raw.clone(), what };
        let path = inside(&raw).ok_or_else(|| refused("a path that leads outside"))?;
        if path.ancestors().any(|ancestor| self.links.contains(ancestor)) {
            return Err(refused("a path through a link"));
        }
        let target = self.into.join(&path);
        let kind = entry.header().entry_type();
        match kind {
            EntryType::Directory => fs::create_dir_all(&target)?,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                make_parent(&target)?;
                let executable = entry.header().mode()? & 0o111 != 0;
                self.write_file(&mut entry, &target, executable)?;
            }
            EntryType::Symlink => {
                let link = entry.link_name()?.ok_or_else(|| refused("a link without a target"))?.into_owned();
                if !link_stays_inside(&path, &link) {
                    return Err(refused("a link that leads outside"));
                }
                make_parent(&target)?;
                symlink(&link, &target)?;
                self.links.insert(path);
            }
            EntryType::Link => {
                let link = entry.link_name()?.ok_or_else(|| refused("a link without a target"))?.into_owned();
                let link = inside(&link).ok_or_else(|| refused("a hard link that leads outside"))?;
                if link.ancestors().any(|ancestor| self.links.contains(ancestor)) {
                    return Err(refused("a hard link through a link"));
                }
                make_parent(&target)?;
                fs::hard_link(self.into.join(link), &target)?;
            }
            // Comments of the archive itself.
            EntryType::XGlobalHeader => {}
            _ => return Err(refused("a device, pipe or other special file")),
        }
        Ok(())
    }

    /// Owner, set-uid bits and odd modes are not taken over: any user may read, none may write.
    fn write_file(&mut self, from: &mut impl Read, target: &Path, executable: bool) -> Result<(), UnpackError> {
        let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(target)?;
        let copied = io::copy(&mut from.take(self.bytes_left + 1), &mut file)?;
        self.bytes_left = self.bytes_left.checked_sub(copied).ok_or(TOO_LARGE)?;
        file.set_permissions(fs::Permissions::from_mode(if executable { 0o755 } else { 0o644 }))?;
        Ok(())
    }
}

fn make_parent(target: &Path) -> io::Result<()> {
    target.parent().map_or(Ok(()), fs::create_dir_all)
}

/// The path without `.`; `None` when it is absolute or has `..`.
fn inside(path: &Path) -> Option<PathBuf> {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => clean.push(part),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(clean)
}

/// `..` only at the front and only as often as there are folders above: those are real folders, so each step up is what it
/// seems; a later `..` could follow another link and end anywhere.
fn link_stays_inside(path: &Path, link: &Path) -> bool {
    let depth = path.components().count().saturating_sub(1);
    let ups = link.components().take_while(|c| matches!(c, Component::ParentDir | Component::CurDir));
    let up_count = ups.clone().filter(|c| matches!(c, Component::ParentDir)).count();
    let rest = link.components().skip(ups.count());
    up_count <= depth && rest.into_iter().all(|c| matches!(c, Component::Normal(_) | Component::CurDir))
}

#[cfg(test)]
mod tests;
