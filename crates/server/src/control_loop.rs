//! The control loop: one thread owns the snapshot, what was observed and `control`, and does what `control` decides.
//!
//! Everything else talks to it over one bounded channel: agents and proxies report, the API reads and decides. Commits
//! are made here and nowhere else, so a decision always sees the newest intent.

mod actions;
mod commit;
mod engine;
mod hooks;
mod policies;
mod reports;
mod turn;
pub mod world;

pub use engine::{Engine, Parts};
pub use policies::EXPIRY;

use crate::fleet::FleetInput;
use crate::http::problem::Failure;
use control::Commit;
use model::{OperationId, Revision, UnixMs};
use std::sync::{Arc, Mutex};
use tokio::sync::{mpsc, oneshot};
use world::World;

/// Inputs waiting for the loop; senders wait beyond it.
const INPUTS_QUEUED_MAX: usize = 4_096;

/// A read in the loop.
type Read = Box<dyn FnOnce(&World) + Send>;
/// A decision in the loop: made again when its guards no longer hold.
type Decide = Box<dyn FnMut(&World, UnixMs) -> Result<Commit, Failure> + Send>;

/// What the loop is told.
pub enum Input {
    /// From agents and proxies.
    Fleet(FleetInput),
    /// The API reads.
    Read(Read),
    /// The API decides.
    Decide(Decide, oneshot::Sender<Result<Revision, Failure>>),
    /// A hook ended.
    HookDone {
        /// Its idempotency key.
        key: String,
        /// Failure, in words.
        result: Result<(), String>,
    },
    /// A health report is in the records, or could not be put there.
    ReportDone {
        /// Its operation.
        operation: OperationId,
        /// Id of the record.
        result: Result<String, String>,
    },
}

/// The way to the loop. Cheap to clone.
#[derive(Clone)]
pub struct Loop {
    to: mpsc::Sender<Input>,
}

/// The loop has ended: the server is going down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server is shutting down")]
pub struct Ended;

impl From<Ended> for Failure {
    fn from(ended: Ended) -> Self {
        crate::http::problem::internal(ended.to_string())
    }
}

impl Loop {
    /// A way to a loop that does not run yet, and what the loop is to read.
    pub fn new() -> (Self, mpsc::Receiver<Input>) {
        let (to, inputs) = mpsc::channel(INPUTS_QUEUED_MAX);
        (Self { to }, inputs)
    }

    /// Tells the loop something; waits while it is behind.
    pub async fn tell(&self, input: Input) -> Result<(), Ended> {
        self.to.send(input).await.map_err(|_| Ended)
    }

    /// Reads the newest state.
    pub async fn read<T: Send + 'static>(&self, read: impl FnOnce(&World) -> T + Send + 'static) -> Result<T, Ended> {
        let (to, answer) = oneshot::channel();
        let read: Read = Box::new(move |world| {
            // The reader may have gone away; then nobody needs the answer.
            let _ = to.send(read(world));
        });
        self.tell(Input::Read(read)).await?;
        answer.await.map_err(|_| Ended)
    }

    /// Decides on the newest state and commits; answers with the revision and what was decided. `decide` runs again when
    /// it was overtaken. An empty commit changes nothing and is answered with the current revision.
    pub async fn decide<T: Send + 'static>(
        &self,
        mut decide: impl FnMut(&World, UnixMs) -> Result<(Commit, T), Failure> + Send + 'static,
    ) -> Result<(Revision, T), Failure> {
        let decided = Arc::new(Mutex::new(None));
        let keep = decided.clone();
        let decide: Decide = Box::new(move |world, now| {
            let (commit, value) = decide(world, now)?;
            *keep.lock().expect("no holder of this lock panics") = Some(value);
            Ok(commit)
        });
        let (to, answer) = oneshot::channel();
        self.tell(Input::Decide(decide, to)).await?;
        let revision = answer.await.map_err(|_| Ended)??;
        let value = decided.lock().expect("no holder of this lock panics").take();
        Ok((revision, value.expect("a commit was decided before it was made")))
    }
}
