//! What will happen, by time; what was planned first comes first at equal times.

use super::slab::Id;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// The next task of a stream.
    Arrive(usize),
    /// An attempt reaches its copy.
    Deliver(Id),
    /// A worker is done with an attempt, unless it stood still meanwhile.
    Worked(Id),
    /// An answer reaches its caller.
    Answer(Id),
    /// A caller gives an attempt up, unless it was answered.
    Timeout(Id),
    /// A call is tried again.
    Retry(Id),
    /// A fault of the script hits a copy.
    Trouble { fault: usize, instance: u32 },
    /// A pause of a copy may be over.
    Resume { service: usize, instance: u32 },
}

struct Planned(u64, u64, Event);

impl PartialEq for Planned {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Planned {}
impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Planned {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

/// The events to come.
#[derive(Default)]
pub(super) struct Events {
    heap: BinaryHeap<Reverse<Planned>>,
    planned: u64,
}

impl Events {
    pub fn plan(&mut self, at_us: u64, event: Event) {
        self.planned += 1;
        self.heap.push(Reverse(Planned(at_us, self.planned, event)));
    }

    pub fn pop(&mut self) -> Option<(u64, Event)> {
        self.heap.pop().map(|Reverse(Planned(at_us, _, event))| (at_us, event))
    }
}
