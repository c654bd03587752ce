//! The origin: the cheapest thing that answers HTTP/1.1, so that the proxy before it is what is measured.
//!
//! It reads nothing but where a request ends; requests have no body and come one at a time on a connection.

use anyhow::Result;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Bytes of each answer's body.
pub const BODY_BYTES: usize = 1024;
/// Connections that wait in the kernel.
const CONNECTIONS_QUEUED_MAX: i32 = 4_096;
/// Largest head of a request.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Serves on a free port, on a thread of its own that ends with the process.
pub fn start() -> Result<SocketAddr> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    // A proxy may open all its connections at once: the usual queue of 128 would drop some, and cost it a second.
    rustix::net::listen(&listener, CONNECTIONS_QUEUED_MAX)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    std::thread::Builder::new().name("origin".into()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async { serve(TcpListener::from_std(listener)?).await })
    })?;
    Ok(address)
}

async fn serve(listener: TcpListener) -> std::io::Result<()> {
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\nserver: origin\r\ncontent-type: application/octet-stream\r\ncontent-length: {BODY_BYTES}\r\n\r\n"
    )
    .into_bytes();
    answer.resize(answer.len() + BODY_BYTES, b'x');
    let answer: &'static [u8] = answer.leak();
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(connection(stream, answer));
    }
}

async fn connection(mut stream: TcpStream, answer: &'static [u8]) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut head = Vec::with_capacity(HEAD_BYTES_MAX);
    loop {
        if stream.read_buf(&mut head).await? == 0 || head.len() > HEAD_BYTES_MAX {
            return Ok(());
        }
        if head.ends_with(b"\r\n\r\n") {
            head.clear();
            stream.write_all(answer).await?;
        }
    }
}
