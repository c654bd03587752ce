//! Listening sockets: bound, accepted from, and left without losing a connection.
//!
//! A socket that the next process took over (see `handover`) is simply let go of: its queue lives on there. Any other is
//! retired first, since closing a listener resets what waits in its backlog (ADR 0004).

use crate::connection;
use crate::request::Side;
use crate::worker::{Stage, Worker};
use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, Type};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Connections that wait in the kernel for each listener.
const BACKLOG: i32 = 4_096;
/// Pause after a failed accept (out of file descriptors, mostly).
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
/// Time for handshakes under way to end before a listener is closed.
const RETIRE: Duration = Duration::from_millis(50);
/// Classic BPF for a listening socket, whose packets begin at the TCP header: drop if the SYN flag is set.
const DROP_SYN: [SockFilter; 5] = [
    SockFilter::new(0x30, 0, 0, 13),       // load byte 13: the flags
    SockFilter::new(0x54, 0, 0, 0x02),     // and SYN
    SockFilter::new(0x15, 0, 1, 0x02),     // equal? next, else skip one
    SockFilter::new(0x06, 0, 0, 0),        // drop
    SockFilter::new(0x06, 0, 0, u32::MAX), // pass whole
];

/// Why and how a worker stops accepting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// It goes on.
    No,
    /// The proxy ends; whoever comes later meets another process or nobody.
    End,
    /// Another process accepts from these very sockets.
    HandedOver {
        /// Those of the entry.
        entry: bool,
        /// Those of the mesh.
        mesh: bool,
    },
}

impl Stop {
    fn kept_by_next(self, side: Side) -> bool {
        match self {
            Self::HandedOver { entry, mesh } => {
                if side == Side::Entry {
                    entry
                } else {
                    mesh
                }
            }
            Self::No | Self::End => false,
        }
    }
}

/// Binds a listener that other workers, and the next proxy process, can share.
pub fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Accepts until told to stop.
pub async fn accept(worker: Rc<Worker>, listener: TcpListener, side: Side, mut stop: watch::Receiver<Stop>) {
    let why = loop {
        tokio::select! {
            biased;
            stop = stop.wait_for(|stop| *stop != Stop::No) => break stop.map_or(Stop::End, |stop| *stop),
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => connection::serve(&worker, stream, peer.ip(), side),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    };
    worker.drain.advance(Stage::Stopping);
    if !why.kept_by_next(side) {
        retire(&worker, &listener, side).await;
    }
}

/// The listener first stops taking part in new handshakes (a SYN that is dropped is sent again, and then meets the next
/// process), then everything under way is accepted.
async fn retire(worker: &Rc<Worker>, listener: &TcpListener, side: Side) {
    if let Err(error) = SockRef::from(listener).attach_filter(&DROP_SYN) {
        tracing::warn!(%error, "cannot keep new connections from a closing listener: some may be reset");
    }
    let began = Instant::now();
    while began.elapsed() < RETIRE {
        accept_waiting(worker, listener, side).await;
        tokio::time::sleep(RETIRE / 10).await;
    }
    accept_waiting(worker, listener, side).await;
}

async fn accept_waiting(worker: &Rc<Worker>, listener: &TcpListener, side: Side) {
    while let Ok(Some((stream, peer))) = waiting(listener).await {
        connection::serve(worker, stream, peer.ip(), side);
    }
}

async fn waiting(listener: &TcpListener) -> io::Result<Option<(TcpStream, SocketAddr)>> {
    poll_fn(|cx| match listener.poll_accept(cx) {
        Poll::Ready(accepted) => Poll::Ready(accepted.map(Some)),
        Poll::Pending => Poll::Ready(Ok(None)),
    })
    .await
}
