//! Small files that are replaced as a whole, never half.

use std::path::Path;

/// Writes `bytes` beside `path` and renames them into place.
pub fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let new = path.with_extension("new");
    std::fs::write(&new, bytes)?;
    std::fs::File::open(&new)?.sync_all()?;
    std::fs::rename(&new, path)
}
