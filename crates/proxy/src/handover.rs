//! Upgrade without a dropped connection: the next process takes the listening sockets over, not only their addresses.
//!
//! The running proxy listens on a Unix socket in its data folder (mode 0600). A new process started on the same folder
//! asks there, gets every listening socket (SCM_RIGHTS), takes over the saved state, accepts, and says so; only then does
//! the old one stop accepting and drain. Both hold the same sockets, so nothing that waits in a queue is lost. If the new
//! one dies before it is ready, the old one goes on as if nothing had been asked. Connections are not handed over: the
//! old process ends them.
//!
//! Words on the wire, one byte each: `1` the version; `e` or `m` with a socket of the entry or the mesh; `.` no more.
//! Back: `r` ready, and a bit set of the sides whose sockets were kept (1 entry, 2 mesh).

use crate::listener::Stop;
use crate::request::Side;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;
use tokio::sync::watch;

/// Version of these words.
const VERSION: u8 = b'1';
const ENTRY: u8 = b'e';
const MESH: u8 = b'm';
const END: u8 = b'.';
const READY: u8 = b'r';
const KEPT_ENTRY: u8 = 1;
const KEPT_MESH: u8 = 2;
/// Sockets taken over, at most: those of the most workers on both sides.
const SOCKETS_MAX: usize = 2 * crate::THREADS_MAX;
/// Longest wait for the next word of the other process: it may stand still for a moment, and only then is it stuck.
const WORD_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest that a new process may take until it is ready.
pub const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// The listening sockets of a running proxy, and which side each is.
pub type Sockets = Vec<(Side, TcpListener)>;

/// What was taken over; dropping it unsaid leaves the old process in charge.
#[derive(Debug)]
pub struct Taken {
    /// The sockets.
    pub sockets: Sockets,
    stream: UnixStream,
}

impl Taken {
    /// Tells the old process that this one accepts, on the sides whose sockets it kept. One that died meanwhile needs not
    /// be told.
    pub fn ready(mut self, entry: bool, mesh: bool) -> io::Result<()> {
        let kept = if entry { KEPT_ENTRY } else { 0 } | if mesh { KEPT_MESH } else { 0 };
        match self.stream.write_all(&[READY, kept]) {
            Err(error) if is_death(&error) => {
                tracing::warn!("the proxy that ran before died during the hand-over; this one serves");
                Ok(())
            }
            told => told,
        }
    }

    /// The old process died: nobody serves until this one does.
    pub fn is_orphaned(&self) -> bool {
        let mut word = [0];
        let read = rustix::net::recv(&self.stream, &mut word, RecvFlags::PEEK | RecvFlags::DONTWAIT);
        match read {
            Ok((_, bytes)) => bytes == 0,
            Err(error) => is_death(&error.into()),
        }
    }
}

/// The other side is no more.
fn is_death(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

/// Asks the proxy that listens at `path`; `None` when none does, or it dies while it is asked.
pub fn take(path: &Path) -> io::Result<Option<Taken>> {
    match ask(path) {
        Err(error) if is_death(&error) => {
            tracing::warn!(path = %path.display(), "the proxy that ran before died while it was asked for its sockets");
            Ok(None)
        }
        taken => taken,
    }
}

fn ask(path: &Path) -> io::Result<Option<Taken>> {
    let stream = match UnixStream::connect(path) {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    stream.set_read_timeout(Some(WORD_TIMEOUT))?;
    if receive(&stream)?.0 != VERSION {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the running proxy speaks another hand-over version"));
    }
    let mut sockets = Vec::new();
    while sockets.len() <= SOCKETS_MAX {
        let side = match receive(&stream)? {
            (END, _) => return Ok(Some(Taken { sockets, stream })),
            (ENTRY, Some(fd)) => (Side::Entry, fd),
            (MESH, Some(fd)) => (Side::Mesh, fd),
            _ => break,
        };
        sockets.push((side.0, TcpListener::from(side.1)));
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "the running proxy sent something else than its sockets"))
}

fn receive(stream: &UnixStream) -> io::Result<(u8, Option<OwnedFd>)> {
    let mut word = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let came = rustix::net::recvmsg(stream, &mut [IoSliceMut::new(&mut word)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    if came.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let fd = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    Ok((word[0], fd))
}

/// The side that gives: a thread that waits at the socket.
#[derive(Debug)]
pub struct Giver {
    path: PathBuf,
    /// While another process holds our sockets, they must not be retired: that would silence them there too.
    given: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Giver {
    /// Listens at `path`, taking its name from a predecessor. The thread ends with the hand-over or the process.
    pub fn start(path: PathBuf, sockets: Sockets, stop: watch::Sender<Stop>) -> io::Result<Self> {
        let new = path.with_extension(format!("{}.new", std::process::id()));
        let _ = std::fs::remove_file(&new);
        let listener = UnixListener::bind(&new)?;
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600))?;
        std::fs::rename(&new, &path)?;
        let given = Arc::new(AtomicBool::new(false));
        let shared = Arc::clone(&given);
        let thread = std::thread::Builder::new().name("handover".into()).spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if *stop.borrow() != Stop::No {
                    return;
                }
                shared.store(true, SeqCst);
                match give(stream, &sockets) {
                    Ok(handed) => {
                        tracing::info!("another process accepts now; this one drains");
                        stop.send_if_modified(|stop| std::mem::replace(stop, handed) == Stop::No);
                        return;
                    }
                    Err(error) => tracing::warn!(%error, "another process asked for the sockets and was never ready"),
                }
                shared.store(false, SeqCst);
            }
        })?;
        Ok(Self { path, given, thread })
    }

    /// Why this proxy stops, when it is told to: a socket that another process holds is not to be retired.
    pub fn end(&self) -> Stop {
        if self.given.load(SeqCst) { Stop::HandedOver { entry: true, mesh: true } } else { Stop::End }
    }

    /// Wakes the thread so that it sees the end and lets go of the sockets, and gives the name up.
    pub fn close(self) {
        if !self.given.load(SeqCst) {
            drop(UnixStream::connect(&self.path));
            // It neither panics nor waits once it was woken.
            let _ = self.thread.join();
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn give(mut stream: UnixStream, sockets: &Sockets) -> io::Result<Stop> {
    stream.set_write_timeout(Some(WORD_TIMEOUT))?;
    stream.write_all(&[VERSION])?;
    for (side, socket) in sockets {
        let word = [if *side == Side::Entry { ENTRY } else { MESH }];
        let fds = [socket.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&fds));
        rustix::net::sendmsg(&stream, &[IoSlice::new(&word)], &mut control, SendFlags::NOSIGNAL)?;
    }
    stream.write_all(&[END])?;
    stream.set_read_timeout(Some(READY_TIMEOUT + WORD_TIMEOUT))?;
    let mut answer = [0; 2];
    stream.read_exact(&mut answer)?;
    match answer {
        [READY, kept] => Ok(Stop::HandedOver { entry: kept & KEPT_ENTRY != 0, mesh: kept & KEPT_MESH != 0 }),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, format!("answer {answer:?}, expected ready"))),
    }
}
