//! Places for requests at one endpoint, of one worker: a count, and a line of those who wait.

use std::cell::Cell;
use tokio::sync::Notify;

/// The places.
pub struct Slots {
    free: Cell<usize>,
    waiting: Cell<u32>,
    freed: Notify,
}

impl Slots {
    /// So many.
    pub fn new(places: usize) -> Self {
        Self { free: Cell::new(places), waiting: Cell::new(0), freed: Notify::new() }
    }

    /// Requests that wait.
    pub fn waiting(&self) -> u32 {
        self.waiting.get()
    }

    /// Takes one that is free now; whoever waits comes first.
    pub fn take(&self) -> bool {
        self.waiting.get() == 0 && self.take_free()
    }

    fn take_free(&self) -> bool {
        let free = self.free.get();
        if free > 0 {
            self.free.set(free - 1);
        }
        free > 0
    }

    /// Waits for one.
    pub async fn wait(&self) {
        let _waiting = Waiting::new(self);
        while !self.take_free() {
            self.freed.notified().await;
        }
    }

    /// Gives one back.
    pub fn give(&self) {
        self.free.set(self.free.get() + 1);
        if self.waiting.get() > 0 {
            self.freed.notify_one();
        }
    }
}

/// Counts a waiting request, also when its caller gives up.
struct Waiting<'a>(&'a Slots);

impl<'a> Waiting<'a> {
    fn new(slots: &'a Slots) -> Self {
        slots.waiting.set(slots.waiting.get() + 1);
        Self(slots)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.set(self.0.waiting.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    fn poll(wait: Pin<&mut impl Future<Output = ()>>) -> Poll<()> {
        wait.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn those_who_wait_are_served_in_their_order_before_those_who_come() {
        let slots = Slots::new(1);
        assert!(slots.take() && !slots.take());
        let (mut first, mut second) = (pin!(slots.wait()), Box::pin(slots.wait()));
        assert!(poll(first.as_mut()).is_pending() && poll(second.as_mut()).is_pending());
        assert_eq!(slots.waiting(), 2);
        slots.give();
        assert!(!slots.take(), "it is for the one who waits");
        assert!(poll(second.as_mut()).is_pending() || poll(first.as_mut()).is_pending(), "one of them at most");
        slots.give();
        let _ = (poll(first.as_mut()), poll(second.as_mut()));
        assert_eq!(slots.waiting(), 0, "both are served");
        assert!(!slots.take());
    }

    #[test]
    fn one_who_gives_up_leaves_the_place_to_the_next() {
        let slots = Slots::new(1);
        assert!(slots.take());
        let (mut first, mut second) = (Box::pin(slots.wait()), Box::pin(slots.wait()));
        assert!(poll(first.as_mut()).is_pending() && poll(second.as_mut()).is_pending());
        slots.give();
        drop(first);
        assert!(poll(second.as_mut()).is_ready(), "told, though the other was told first");
        slots.give();
        assert!(slots.take());
    }
}
