//! Log requests on their way: an agent's chunks find the HTTP client that waits for them.

use api::fleet::LogChunk;
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::mpsc;

/// Log requests open at once.
const REQUESTS_MAX: usize = 1_024;
/// Chunks waiting for one reader; a reader that lets them pile up is cut off.
const CHUNKS_QUEUED_MAX: usize = 1_024;

/// A piece of a log, or why there is no more.
pub type Piece = Result<Bytes, std::io::Error>;

#[derive(Debug, Default)]
struct State {
    last: u64,
    open: HashMap<u64, mpsc::Sender<Piece>>,
}

/// The open requests. Cheap to clone: clones share.
#[derive(Debug, Clone, Default)]
pub struct Logs(Arc<Mutex<State>>);

impl Logs {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no holder of this lock panics")
    }

    /// Opens a request: its id and its pieces. `None` when too many are open.
    pub fn open(&self) -> Option<(u64, mpsc::Receiver<Piece>)> {
        let mut state = self.state();
        if state.open.len() >= REQUESTS_MAX {
            return None;
        }
        let (to, pieces) = mpsc::channel(CHUNKS_QUEUED_MAX);
        state.last += 1;
        let id = state.last;
        state.open.insert(id, to);
        Some((id, pieces))
    }

    /// Ends a request.
    pub fn close(&self, id: u64) {
        self.state().open.remove(&id);
    }

    /// Takes a chunk from an agent; chunks of ended requests are dropped.
    pub fn take(&self, chunk: LogChunk) {
        let mut state = self.state();
        let Some(to) = state.open.get(&chunk.id) else { return };
        let mut kept = true;
        if !chunk.error.is_empty() {
            kept &= to.try_send(Err(std::io::Error::other(chunk.error))).is_ok();
        }
        if !chunk.data.is_empty() {
            kept &= to.try_send(Ok(chunk.data.into())).is_ok();
        }
        if chunk.end || !kept {
            state.open.remove(&chunk.id);
        }
    }
}
