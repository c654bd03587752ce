//! Operations and reconcilers: a snapshot, what was observed, an event and `now` in; actions out.
//!
//! Pure: no I/O, no clock, no thread; the simulator drives this very code. It decides, `server` executes.
//! Each action that changes intent is one transaction that carries its operation's journal entry with it, so an
//! effect and its memory land together or not at all; everything else is level-triggered and may be asked for again.

mod allowed;
mod apply;
mod attributes;
mod batch;
mod contract;
mod control;
mod draft;
mod endpoints;
mod gray;
mod hooks;
mod housekeep;
mod instances;
mod journal;
mod judge;
mod limits;
mod open;
mod place;
mod preview;
mod recall;
mod reconcile;
mod refusal;
mod rollback;
mod steer;
mod stress;
mod walk;
mod wanted;

pub use allowed::{Allowed, Verb, allowed};
pub use apply::apply;
pub use contract::{
    Action, Commit, Event, HookRun, HostObserved, HostState, InstanceObserved, Observed, Override, Phase, StressSample,
    Traffic, Write,
};
pub use control::Control;
pub use endpoints::{Endpoint, WEIGHT_FULL, endpoints};
pub use open::{open, undrain};
pub use preview::{Preview, preview};
pub use refusal::{NothingToDo, Refusal};
pub use steer::{Aim, pause, resume, retry, rollback, skip};
