//! Reads an instance's log for the server: the last lines, then what comes, across rotations.

use crate::host::Host;
use crate::up::Up;
use api::fleet::{LogChunk, LogRequest, agent_up};
use shim::log::rotated;
use shim::spec::LOG_FILE;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Requests served at a time.
pub const LOG_REQUESTS_MAX: usize = 64;
/// Bytes in one message.
const CHUNK_BYTES: usize = 32 * 1024;
/// Most bytes of history sent.
const TAIL_BYTES_MAX: u64 = 8 << 20;
/// Rotated files looked at.
const ROTATED_MAX: u32 = 16;
/// Pause between two looks for new bytes, in milliseconds.
const FOLLOW_MS: u64 = 100;

/// Answers one request; ends when all is sent, or, following, with the instance or with the receiver.
pub async fn serve(host: Arc<Host>, request: LogRequest, out: mpsc::Sender<Up>) {
    let id = request.id;
    let result = stream(&host, &request, &out).await;
    let error = result.err().map(|error| error.to_string()).unwrap_or_default();
    let last = LogChunk { id, data: Vec::new(), end: true, error };
    // The stream may be gone; then nobody waits for the end.
    let _nobody_there = out.send(agent_up::Message::Log(last).into()).await;
}

async fn stream(host: &Host, request: &LogRequest, out: &mpsc::Sender<Up>) -> io::Result<()> {
    let path = find(host, &request.instance)?;
    let mut reader = Follower::open(path, request.tail_lines)?;
    loop {
        let data = reader.next_chunk()?;
        if !data.is_empty() {
            let chunk = LogChunk { id: request.id, data, end: false, error: String::new() };
            if out.send(agent_up::Message::Log(chunk).into()).await.is_err() {
                return Ok(());
            }
        } else if !request.follow || !host.folder(&request.instance).exists() {
            return Ok(());
        } else {
            tokio::time::sleep(Duration::from_millis(FOLLOW_MS)).await;
        }
    }
}

fn find(host: &Host, instance: &str) -> io::Result<PathBuf> {
    let unknown = || io::Error::other(format!("no instance {instance:?} on host {}, nor its log", host.name));
    // A checked name cannot lead out of the folder.
    model::InstanceId::new(instance).map_err(|_| unknown())?;
    let folders = [host.folder(instance), host.stopped_folder(instance)];
    folders.into_iter().find(|folder| folder.exists()).map(|folder| folder.join(LOG_FILE)).ok_or_else(unknown)
}

/// Reads history, oldest first, then the current file as it grows and turns over.
struct Follower {
    path: PathBuf,
    /// Files with history still to read, newest first.
    history: Vec<File>,
    current: Option<File>,
}

impl Follower {
    fn open(path: PathBuf, tail_lines: u32) -> io::Result<Self> {
        let mut files = Vec::new();
        let (mut lines_left, mut bytes_left) = (u64::from(tail_lines), TAIL_BYTES_MAX);
        let all = tail_lines == 0;
        for age in 0..ROTATED_MAX {
            let Ok(mut file) = File::open(rotated(&path, age)) else { break };
            let length = file.metadata()?.len();
            let start = length.saturating_sub(bytes_left);
            let (at, found) = if all { (start, 0) } else { tail_start(&mut file, start, length, lines_left)? };
            file.seek(SeekFrom::Start(at))?;
            files.push(file);
            bytes_left -= length - at;
            lines_left -= found.min(lines_left);
            if bytes_left == 0 || (!all && lines_left == 0) {
                break;
            }
        }
        let current = if files.is_empty() { None } else { Some(files.remove(0)) };
        Ok(Self { path, history: files, current })
    }

    /// The next bytes; empty when there are none at the moment.
    fn next_chunk(&mut self) -> io::Result<Vec<u8>> {
        while let Some(file) = self.history.last_mut() {
            let chunk = read_chunk(file)?;
            if !chunk.is_empty() {
                return Ok(chunk);
            }
            self.history.pop();
        }
        if let Some(file) = &mut self.current {
            let chunk = read_chunk(file)?;
            if !chunk.is_empty() {
                return Ok(chunk);
            }
            let inode = file.metadata()?.ino();
            let turned_over = fs::metadata(&self.path).is_ok_and(|meta| meta.ino() != inode);
            if !turned_over {
                return Ok(Vec::new());
            }
            // Written between the read above and the turn: nothing may be skipped.
            let rest = read_chunk(file)?;
            if !rest.is_empty() {
                return Ok(rest);
            }
        }
        self.current = File::open(&self.path).ok();
        self.current.as_mut().map_or(Ok(Vec::new()), read_chunk)
    }
}

fn read_chunk(file: &mut File) -> io::Result<Vec<u8>> {
    let mut chunk = Vec::with_capacity(CHUNK_BYTES);
    file.take(CHUNK_BYTES as u64).read_to_end(&mut chunk)?;
    Ok(chunk)
}

/// Where the last `lines` lines begin, not before `start`; and how many lines there are from there.
fn tail_start(file: &mut File, start: u64, length: u64, lines: u64) -> io::Result<(u64, u64)> {
    let (mut end, mut found) = (length, 0);
    let mut block = vec![0; CHUNK_BYTES];
    while end > start {
        let size = (end - start).min(CHUNK_BYTES as u64);
        let block = &mut block[..size as usize];
        file.seek(SeekFrom::Start(end - size))?;
        file.read_exact(block)?;
        for (index, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            let after = end - size + index as u64 + 1;
            // The newline that ends the last line begins no line.
            if after < length {
                found += 1;
                if found == lines {
                    return Ok((after, found));
                }
            }
        }
        end -= size;
    }
    Ok((start, found + u64::from(length > start)))
}

#[cfg(test)]
mod tests;
