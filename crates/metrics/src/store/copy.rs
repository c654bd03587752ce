//! What a backup takes: everything on disk at this moment, and what is in memory only written there first.
//!
//! Absent on purpose: the log. A snapshot of the head has all that the log had until then, and nobody writes to it any more.

use super::Store;
use super::block::Block;
use super::disk::head_path;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::PoisonError;

/// Files from which [`Store::open`] gives back what a store held, and the time of what they hold.
#[derive(Debug, Default)]
pub struct Copied {
    /// Name in the store's folder, and the file, opened so that it can be read when it is gone from there.
    pub files: Vec<(String, File)>,
    /// Time of the oldest and of the newest point; absent when there is none.
    pub span_ms: Option<(u64, u64)>,
}

impl Copied {
    fn add(&mut self, path: &Path) -> io::Result<()> {
        let name = path.file_name().and_then(|name| name.to_str()).expect("the store gave it its name");
        self.files.push((name.to_owned(), File::open(path)?));
        Ok(())
    }

    fn span(&mut self, block: &Block) {
        if block.header.points > 0 {
            let (first, last) = (block.header.first_ms, block.header.last_ms);
            self.span_ms = Some(self.span_ms.map_or((first, last), |(from, to)| (from.min(first), to.max(last))));
        }
    }
}

impl Store {
    /// Writes what no sealed hour has as a snapshot of the head, and gives it with all sealed hours. A store that keeps
    /// nothing on disk has no files.
    ///
    /// # Errors
    /// The snapshot cannot be written or read: a full disk, most likely.
    pub fn copy(&self) -> io::Result<Copied> {
        let mut copy = Copied::default();
        let Some(disk) = &self.disk else { return Ok(copy) };
        // Held to the end: whatever is sealed, snapshotted or expired meanwhile would be there twice, or not at all.
        let _upkeep = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let number = self.snapshot(disk)?;
        for block in disk.blocks() {
            copy.add(&block.path)?;
            copy.span(&block);
        }
        let head = head_path(&disk.folder, number);
        copy.add(&head)?;
        copy.span(&Block::open(&head, false).map_err(io::Error::other)?);
        Ok(copy)
    }
}
