//! Listens, serves, and on TERM finishes what it has begun before it ends.

use crate::roles::App;
use anyhow::{Context, Result, bail};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Connections at a time; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 4_096;
/// Time for requests in flight after TERM; an instance has 10 s before KILL.
const STOP_MS_MAX: u64 = 8_000;
/// Pause after a failed accept (no file descriptor left).
const ACCEPT_PAUSE_MS: u64 = 50;

/// Serves until TERM or Ctrl-C.
pub async fn serve(app: App, address: SocketAddr) -> Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    println!("listening on {}", listener.local_addr()?);
    let app = Arc::new(app);
    let (stop, stopped) = watch::channel(false);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(Arc::clone(&app), stream, stopped.clone()));
                }
                Err(error) => {
                    eprintln!("cannot accept: {error}");
                    tokio::time::sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
                }
            },
            Some(_) = connections.join_next() => {}
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    drop(listener);
    println!("stopping with {} connections open", connections.len());
    stop.send_replace(true);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(Duration::from_millis(STOP_MS_MAX), drained).await.is_err() {
        bail!("{} connections were still busy {STOP_MS_MAX} ms after TERM", connections.len());
    }
    Ok(())
}

async fn connection(app: Arc<App>, stream: TcpStream, mut stopped: watch::Receiver<bool>) {
    // Without it answers would wait for more bytes; a socket that is gone already shows at the first read.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let app = Arc::clone(&app);
        async move { Ok::<_, std::convert::Infallible>(app.answer(request).await) }
    });
    let connection = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // A peer that breaks off is its own business: the result is of no use here.
    tokio::select! {
        _ = connection.as_mut() => {}
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}
