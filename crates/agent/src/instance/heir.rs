//! The output of an instance that outlives its shim.
//!
//! Its shim reads the pipe that the instance writes to; were that the only reader, a killed shim would end the instance at
//! its next line (SIGPIPE, or an error that programs do not expect). So the agent holds a reading end from the start,
//! without reading, and when the shim is gone it keeps the log in its place.
//! Absent on purpose: the case that the agent is down, too, while the shim dies.

use shim::log::RotatingLog;
use shim::spec::{self, PidRecord, Spec};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Bytes moved to the log at a time.
const COPY_BYTES: usize = 16 * 1024;

/// A reading end of an instance's output.
#[derive(Debug)]
pub struct Heir {
    pipe: File,
    folder: PathBuf,
    limits: (u64, u32),
}

impl Heir {
    /// The reading end of a run's output; absent when the instance writes elsewhere, or may not be looked at.
    pub fn of(folder: &Path, record: &PidRecord) -> Option<Self> {
        let spec: Spec = spec::read(folder, spec::SPEC_FILE).ok()??;
        // To open a pipe through /proc is to open it anew, in the direction asked for.
        let path = format!("/proc/{}/fd/1", record.pid);
        let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        let pipe = OpenOptions::new().read(true).custom_flags(nonblocking).open(path).ok()?;
        let is_pipe = pipe.metadata().is_ok_and(|about| about.file_type().is_fifo());
        // Asked after: while it runs, the pid was its own.
        let is_its_own = super::launch::identity_of(record).runs();
        let limits = (spec.log_bytes_max, spec.log_files_max);
        (is_pipe && is_its_own).then(|| Self { pipe, folder: folder.to_owned(), limits })
    }

    /// Keeps the log from here on, on a thread of its own, until all who write have gone.
    pub fn read_on(self) {
        let folder = self.folder.display().to_string();
        let spawned = std::thread::Builder::new().name("log-heir".to_owned()).spawn(move || {
            let folder = self.folder.clone();
            if let Err(error) = self.copy() {
                tracing::warn!("the log of {} is not kept any more: {error}", folder.display());
            }
        });
        if let Err(error) = spawned {
            tracing::warn!("the log of {folder} is not kept any more: {error}");
        }
    }

    fn copy(mut self) -> io::Result<()> {
        rustix::fs::fcntl_setfl(&self.pipe, rustix::fs::OFlags::empty())?;
        let mut log = RotatingLog::new(self.folder.join(spec::LOG_FILE), self.limits.0, self.limits.1);
        let mut buffer = vec![0; COPY_BYTES];
        loop {
            match self.pipe.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(read) => log.append(&buffer[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}
