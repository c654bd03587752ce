//! A timer with the kernel's precision: the runtime's own timers tick in whole milliseconds, too coarse for a send time.

use crate::plan::Error;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// One timer, armed again and again.
pub(crate) struct Timer {
    fd: AsyncFd<OwnedFd>,
}

impl Timer {
    pub(crate) fn new() -> Result<Self, Error> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let fd = timerfd_create(TimerfdClockId::Monotonic, flags)
            .map_err(|source| Error::Timer { source: source.into() })?;
        #[expect(deprecated, reason = "its successor is unsafe; an OwnedFd that is never replaced meets its contract")]
        let fd = AsyncFd::with_interest(fd, Interest::READABLE).map_err(|source| Error::Timer { source })?;
        Ok(Self { fd })
    }

    /// Waits. Dropping the future forgets the wait.
    pub(crate) async fn sleep(&mut self, length: Duration) -> Result<(), Error> {
        if length.is_zero() {
            return Ok(());
        }
        let value =
            Timespec { tv_sec: length.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: length.subsec_nanos().into() };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        // Arming also takes back an expiry that nobody waited for.
        timerfd_settime(&self.fd, TimerfdTimerFlags::empty(), &once)
            .map_err(|source| Error::Timer { source: source.into() })?;
        loop {
            let mut ready = self.fd.readable().await.map_err(|source| Error::Timer { source })?;
            let read = ready.try_io(|fd| Ok(rustix::io::read(fd, &mut [0_u8; 8])?));
            match read {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(source)) => return Err(Error::Timer { source }),
                Err(_not_yet) => {}
            }
        }
    }
}
