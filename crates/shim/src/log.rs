//! A log file of bounded size: when full it becomes `.1`, `.1` becomes `.2`, and the oldest goes.
//!
//! Never makes the instance wait: what cannot be written (a full disk) is dropped and counted.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A rotating log.
#[derive(Debug)]
pub struct RotatingLog {
    path: PathBuf,
    bytes_max: u64,
    files_max: u32,
    current: Option<(File, u64)>,
    dropped_bytes: u64,
}

/// Path of a rotated file; 0 is the current one.
pub fn rotated(path: &Path, age: u32) -> PathBuf {
    if age == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{age}"));
    name.into()
}

impl RotatingLog {
    /// A log at `path`; what is there is kept and continued.
    pub fn new(path: PathBuf, bytes_max: u64, files_max: u32) -> Self {
        Self { path, bytes_max: bytes_max.max(1), files_max: files_max.max(1), current: None, dropped_bytes: 0 }
    }

    /// Appends, rotating when full.
    pub fn append(&mut self, bytes: &[u8]) {
        if self.try_append(bytes).is_err() {
            self.dropped_bytes += bytes.len() as u64;
            self.current = None;
        }
    }

    fn try_append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.current.as_ref().is_some_and(|(_, size)| *size > 0 && size + bytes.len() as u64 > self.bytes_max) {
            self.rotate()?;
        }
        if self.current.is_none() {
            let file = OpenOptions::new().create(true).append(true).open(&self.path)?;
            let size = file.metadata()?.len();
            self.current = Some((file, size));
        }
        let (file, size) = self.current.as_mut().expect("opened above");
        if self.dropped_bytes > 0 {
            writeln!(file, "springtide: {} bytes of output could not be written and are lost", self.dropped_bytes)?;
            self.dropped_bytes = 0;
        }
        file.write_all(bytes)?;
        *size += bytes.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.current = None;
        for age in (0..self.files_max.saturating_sub(1)).rev() {
            match fs::rename(rotated(&self.path, age), rotated(&self.path, age + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        if self.files_max == 1 {
            fs::remove_file(&self.path)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_and_number_are_bounded_and_the_newest_bytes_kept() {
        let dir = tempfile::tempdir().expect("temp");
        let path = dir.path().join("output.log");
        let mut log = RotatingLog::new(path.clone(), 100, 3);
        for line in 0..100 {
            log.append(format!("line {line:04}\n").as_bytes());
        }
        let files: Vec<String> =
            (0..4).map(|age| fs::read_to_string(rotated(&path, age)).unwrap_or_default()).collect();
        assert!(files.iter().all(|text| text.len() <= 100) && files[3].is_empty());
        let all = format!("{}{}{}", files[2], files[1], files[0]);
        let wanted: String = (70..100).map(|line| format!("line {line:04}\n")).collect();
        assert_eq!(all, wanted);
    }

    #[test]
    fn what_cannot_be_written_is_counted() {
        let dir = tempfile::tempdir().expect("temp");
        let path = dir.path().join("logs/output.log");
        let mut log = RotatingLog::new(path.clone(), 1_000, 3);
        log.append(b"lost");
        fs::create_dir(dir.path().join("logs")).expect("temp");
        log.append(b"kept\n");
        let text = fs::read_to_string(path).expect("written");
        assert_eq!(text, "springtide: 4 bytes of output could not be written and are lost\nkept\n");
    }
}
