//! The access log: one JSON object a line for each request, or for a share of them; off unless asked for.
//!
//! A request never waits for it: workers hand lines to one writing thread through a bounded queue, and what does not fit
//! is dropped and counted. Queries, cookies and bodies are left out on purpose: they are people's.

use crate::headers::{Peer, REJECT};
use crate::request::Side;
use http::{HeaderMap, Request, Response, Version, header};
use serde_json::json;
use std::cell::Cell;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Lines that wait for the writing thread.
const LINES_QUEUED_MAX: usize = 8_192;
/// Longest host or path that is written; longer ones are cut.
const TEXT_BYTES_MAX: usize = 1_024;
/// Size at which a file is put aside, when nothing is said.
pub const BYTES_MAX_DEFAULT: u64 = 100 << 20;
/// Files put aside that are kept: `.1` is the newest.
pub const FILES_MAX: u32 = 5;
/// 2^64 divided by the golden ratio: lines are taken evenly, not by chance.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// What is logged, and where.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The file; `-` for standard output.
    pub to: PathBuf,
    /// Share of requests, 0 to 1.
    pub share: f64,
    /// Size at which the file is put aside.
    pub bytes_max: u64,
}

enum Message {
    Line(Box<Line>),
    Reopen,
}

/// The writing thread.
#[derive(Debug)]
pub struct AccessLog {
    queue: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
    taken_below: u64,
    thread: JoinHandle<()>,
}

impl AccessLog {
    /// Opens the file and starts the thread.
    pub fn start(settings: Settings, dropped: Arc<AtomicU64>) -> io::Result<Self> {
        let taken_below = (settings.share.clamp(0.0, 1.0) * u64::MAX as f64) as u64;
        let (queue, lines) = sync_channel(LINES_QUEUED_MAX);
        let mut sink = Sink::open(settings)?;
        let counted = Arc::clone(&dropped);
        let thread = std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || write_lines(&lines, &mut sink, &counted))?;
        Ok(Self { queue, dropped, taken_below, thread })
    }

    /// A worker's end of it.
    pub fn pen(&self) -> Pen {
        let (queue, dropped) = (self.queue.clone(), Arc::clone(&self.dropped));
        Pen { queue, dropped, taken_below: self.taken_below, turn: Cell::new(rand::random()) }
    }

    /// Opens the file anew: somebody else may have moved it.
    pub fn reopen(&self) {
        // A full queue is being written: the file is opened anew when it grows too large at the latest.
        let _ = self.queue.try_send(Message::Reopen);
    }

    /// Waits until all lines are written, once all pens are gone.
    pub fn finish(self) {
        drop(self.queue);
        if self.thread.join().is_err() {
            tracing::error!("the access log's thread panicked");
        }
    }
}

/// A worker's end of the log.
pub struct Pen {
    queue: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
    taken_below: u64,
    turn: Cell<u64>,
}

impl Pen {
    /// A line for this request, if it is among those taken.
    pub fn begin<B>(&self, request: &Request<B>, side: Side, peer: &Peer, began: Instant) -> Option<Box<Line>> {
        let turn = self.turn.get().wrapping_add(GOLDEN);
        self.turn.set(turn);
        if turn >= self.taken_below && self.taken_below != u64::MAX {
            return None;
        }
        let host = request.uri().authority().map(|authority| authority.as_str());
        let host = host.or_else(|| text(request.headers(), header::HOST)).unwrap_or_default();
        Some(Box::new(Line {
            queue: self.queue.clone(),
            dropped: Arc::clone(&self.dropped),
            at: SystemTime::now(),
            began,
            duration_us: 0,
            side: if side == Side::Entry { "entry" } else { "mesh" },
            protocol: protocol(request.version()),
            peer: peer.text.clone(),
            method: request.method().clone(),
            host: cut(host),
            path: cut(request.uri().path()),
            service: "".into(),
            instance: "".into(),
            status: 0,
            reject: String::new(),
            bytes: 0,
            whole: false,
        }))
    }
}

/// What is known of a request; written when dropped, which is when its answer has been passed on, or was given up.
pub struct Line {
    queue: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
    at: SystemTime,
    began: Instant,
    duration_us: u64,
    side: &'static str,
    protocol: &'static str,
    peer: http::HeaderValue,
    method: http::Method,
    host: String,
    path: String,
    /// The service called; empty when no route matched.
    pub service: Arc<str>,
    /// The instance that was chosen; empty when the proxy itself answered.
    pub instance: Arc<str>,
    status: u16,
    reject: String,
    /// Bytes of the answer's body that were passed on.
    pub bytes: u64,
    /// All of it was.
    pub whole: bool,
}

impl Line {
    /// What the head of the answer says.
    pub fn answered<B>(&mut self, response: &Response<B>) {
        self.status = response.status().as_u16();
        self.reject = text(response.headers(), REJECT).map(cut).unwrap_or_default();
    }

    /// Hands it to the writing thread.
    pub fn send(mut line: Box<Self>) {
        let (queue, dropped) = (line.queue.clone(), Arc::clone(&line.dropped));
        line.duration_us = line.began.elapsed().as_micros() as u64;
        if queue.try_send(Message::Line(line)).is_err() {
            dropped.fetch_add(1, Relaxed);
        }
    }

    fn json(&self) -> String {
        let us = self.at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64);
        let mut line = json!({
            "time_unix_us": us,
            "side": self.side,
            "protocol": self.protocol,
            "peer": self.peer.to_str().unwrap_or_default(),
            "method": self.method.as_str(),
            "host": self.host,
            "path": self.path,
            "service": self.service.as_ref(),
            "instance": self.instance.as_ref(),
            "status": self.status,
            "duration_us": self.duration_us,
            "bytes": self.bytes,
        });
        if !self.reject.is_empty() {
            line["reject"] = json!(self.reject);
        }
        if !self.whole {
            line["aborted"] = json!(true);
        }
        line.to_string()
    }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn cut(text: &str) -> String {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    }
}

fn write_lines(lines: &Receiver<Message>, sink: &mut Sink, dropped: &AtomicU64) {
    let mut told = 0;
    while let Ok(first) = lines.recv() {
        let mut next = Some(first);
        // What waits is written as one; then it is flushed, so that the last line of a quiet hour is there.
        while let Some(message) = next {
            let written = match message {
                Message::Line(line) => sink.write(&line.json()),
                Message::Reopen => sink.reopen(),
            };
            if let Err(error) = written {
                if dropped.fetch_add(1, Relaxed) == told {
                    tracing::error!(%error, path = %sink.settings.to.display(), "access log not written");
                }
                told = dropped.load(Relaxed);
            }
            next = lines.try_recv().ok();
        }
        let gone = dropped.load(Relaxed);
        if gone > told {
            tracing::warn!(lines = gone - told, "access log lines dropped: they came faster than they are written");
            told = gone;
        }
        if let Err(error) = sink.out.flush() {
            tracing::debug!(%error, "access log not flushed");
        }
    }
}

/// The file, and how large it is.
struct Sink {
    settings: Settings,
    out: BufWriter<Box<dyn Write + Send>>,
    bytes: u64,
}

impl Sink {
    fn open(settings: Settings) -> io::Result<Self> {
        let (out, bytes): (Box<dyn Write + Send>, u64) = if settings.to == Path::new("-") {
            (Box::new(io::stdout()), 0)
        } else {
            let file: File = OpenOptions::new().create(true).append(true).open(&settings.to)?;
            let bytes = file.metadata()?.len();
            (Box::new(file), bytes)
        };
        Ok(Self { settings, out: BufWriter::new(out), bytes })
    }

    fn write(&mut self, line: &str) -> io::Result<()> {
        if self.bytes + line.len() as u64 >= self.settings.bytes_max && self.settings.to != Path::new("-") {
            self.out.flush()?;
            self.put_aside()?;
            self.reopen()?;
        }
        self.out.write_all(line.as_bytes())?;
        self.out.write_all(b"\n")?;
        self.bytes += line.len() as u64 + 1;
        Ok(())
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.out.flush()?;
        *self = Self::open(self.settings.clone())?;
        Ok(())
    }

    /// `x` becomes `x.1`, `x.1` becomes `x.2`; the oldest goes.
    fn put_aside(&self) -> io::Result<()> {
        let numbered = |number: u32| {
            let mut name = self.settings.to.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        for number in (1..FILES_MAX).rev() {
            if numbered(number).exists() {
                fs::rename(numbered(number), numbered(number + 1))?;
            }
        }
        fs::rename(&self.settings.to, numbered(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_put_aside_and_the_oldest_goes() {
        let folder = tempfile::tempdir().expect("a folder");
        let to = folder.path().join("access.log");
        let mut sink = Sink::open(Settings { to: to.clone(), share: 1.0, bytes_max: 20 }).expect("opened");
        for number in 0..20 {
            sink.write(&format!("line {number:>4}")).expect("written");
        }
        sink.out.flush().expect("flushed");
        let mut names: Vec<_> = fs::read_dir(folder.path()).expect("a folder").flatten().collect();
        names.sort_by_key(fs::DirEntry::file_name);
        assert_eq!(names.len(), FILES_MAX as usize + 1);
        assert!(fs::read_to_string(&to).expect("there").contains("line   19"));
        assert!(fs::read_to_string(to.with_extension("log.1")).expect("there").contains("line   17"));
        fs::rename(&to, folder.path().join("elsewhere")).expect("moved by another");
        sink.reopen().expect("opened anew");
        sink.write("after").expect("written");
        sink.out.flush().expect("flushed");
        assert_eq!(fs::read_to_string(&to).expect("there"), "after\n");
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let long = format!("{}é", "a".repeat(TEXT_BYTES_MAX - 1));
        assert_eq!(cut(&long).len(), TEXT_BYTES_MAX - 1);
    }
}
