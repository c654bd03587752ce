//! The service under test: HTTP/1.1, one worker, first come, first served, a fixed cost of CPU for each call.
//!
//! Before its queue stands an overload control of the simulator, the very code: none, random shedding or DAGOR. As with
//! most servers, a caller who goes away leaves its call in the queue. Absent on purpose: bodies, pipelining, and the cost
//! of a web framework, so that saying no is as cheap here as it can be.

use super::schemes::Control;
use anyhow::{Context, Result, bail};
use rustix::time::{ClockId, clock_gettime};
use sim::rng::Rng;
use sim::scheme::{Guard, Head, Queue, Refusal};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::hint::black_box;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::LocalSet;

/// Calls that may wait; more are turned away. The simulator's services have the same bound.
const QUEUE_MAX: usize = 10_000;
/// Largest head of a request.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Connections at a time.
const CONNECTIONS_MAX: usize = 8_192;
/// Rounds of arithmetic between two looks at the clock: about a microsecond.
const ROUNDS_PER_LOOK: u64 = 400;

/// The service of `bench admission-real`
#[derive(clap::Args)]
pub struct Args {
    /// Where to listen
    #[arg(long)]
    address: SocketAddr,
    /// The overload control before its queue
    #[arg(long)]
    control: Control,
    /// CPU of each call, in microseconds
    #[arg(long)]
    cpu_us: u64,
    /// Time that a call has from its arrival, in milliseconds
    #[arg(long)]
    deadline_ms: u64,
    /// What random shedding is told that the service can do
    #[arg(long)]
    capacity_rps: f64,
    /// Seed of random shedding
    #[arg(long)]
    seed: u64,
}

/// Serves until it is killed.
pub async fn run(args: Args) -> Result<bool> {
    let listener =
        TcpListener::bind(args.address).await.with_context(|| format!("cannot listen on {}", args.address))?;
    let (work, orders) = mpsc::sync_channel(1);
    let (done, mut ended) = tokio::sync::mpsc::channel(1);
    let cpu_us = args.cpu_us;
    std::thread::Builder::new().name("worker".into()).spawn(move || {
        while orders.recv().is_ok() {
            burn(cpu_us);
            if done.blocking_send(()).is_err() {
                return;
            }
        }
    })?;
    let scheme = args.control.scheme();
    let line = Line {
        guard: scheme.guard(0, 1, args.capacity_rps),
        waiting: VecDeque::new(),
        at_work: None,
        work,
        rng: Rng::new(args.seed, 0),
        began: Instant::now(),
    };
    let desk = Rc::new(Desk { line: RefCell::new(line), scheme, deadline_us: args.deadline_ms * 1_000 });
    let local = LocalSet::new();
    let accepting = Rc::clone(&desk);
    local.spawn_local(async move {
        let open = Rc::new(());
        while let Ok((stream, _)) = listener.accept().await {
            if Rc::strong_count(&open) <= CONNECTIONS_MAX {
                let (desk, open) = (Rc::clone(&accepting), Rc::clone(&open));
                tokio::task::spawn_local(async move {
                    // A peer that breaks off is its own business.
                    let _ = connection(stream, &desk).await;
                    drop(open);
                });
            }
        }
    });
    local
        .run_until(async {
            while ended.recv().await.is_some() {
                desk.line.borrow_mut().ended();
            }
        })
        .await;
    bail!("the worker ended")
}

/// What connections share.
struct Desk {
    line: RefCell<Line>,
    scheme: Box<dyn sim::scheme::Scheme>,
    deadline_us: u64,
}

/// A call in the queue or at work.
struct Waiting {
    head: Head,
    arrived_us: u64,
    tell: oneshot::Sender<Result<(), Refusal>>,
}

/// The queue, its guard and its worker.
struct Line {
    guard: Box<dyn Guard>,
    waiting: VecDeque<Waiting>,
    /// With the time at which the work began.
    at_work: Option<(Waiting, u64)>,
    work: mpsc::SyncSender<()>,
    rng: Rng,
    began: Instant,
}

impl Line {
    fn now_us(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }

    fn arrive(&mut self, head: Head, now_us: u64) -> Result<oneshot::Receiver<Result<(), Refusal>>, Refusal> {
        let queue = Queue { waiting: self.waiting.len() as u32, working: u32::from(self.at_work.is_some()) };
        if self.waiting.len() >= QUEUE_MAX {
            return Err(Refusal::Overflow);
        }
        self.guard.arrive(&head, queue, now_us, &mut self.rng)?;
        let (tell, told) = oneshot::channel();
        self.waiting.push_back(Waiting { head, arrived_us: now_us, tell });
        self.serve();
        Ok(told)
    }

    /// Gives the next call to the worker, if that is idle.
    fn serve(&mut self) {
        while self.at_work.is_none() {
            let Some(next) = self.waiting.pop_front() else { return };
            let now_us = self.now_us();
            match self.guard.start(&next.head, now_us.saturating_sub(next.arrived_us), now_us) {
                Ok(()) => {
                    self.at_work = Some((next, now_us));
                    self.work.send(()).expect("the worker lives as long as the process");
                }
                // The caller may be gone: then nobody needs to be told.
                Err(why) => {
                    let _ = next.tell.send(Err(why));
                }
            }
        }
    }

    fn ended(&mut self) {
        let now_us = self.now_us();
        if let Some((done, began_us)) = self.at_work.take() {
            let delay_us = began_us.saturating_sub(done.arrived_us);
            self.guard.finish(&done.head, delay_us, now_us.saturating_sub(began_us), now_us);
            let _ = done.tell.send(Ok(()));
        }
        self.serve();
    }
}

impl Desk {
    async fn answer(&self, user: u64) -> &'static [u8] {
        let told = {
            let mut line = self.line.borrow_mut();
            let now_us = line.now_us();
            let deadline_us = now_us + self.deadline_us;
            let head = Head {
                user,
                class: 0,
                priority: self.scheme.priority(user, 0, now_us),
                deadline_us,
                task_deadline_us: deadline_us,
                attempt: 0,
                admitted: false,
                report: Vec::new(),
            };
            line.arrive(head, now_us)
        };
        let outcome = match told {
            Ok(told) => told.await.unwrap_or(Err(Refusal::Dropped)),
            Err(why) => Err(why),
        };
        match outcome {
            Ok(()) => b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n",
            Err(_) => {
                b"HTTP/1.1 503 Service Unavailable\r\nx-springtide-reject: overload\r\ncontent-length: 3\r\n\r\nno\n"
            }
        }
    }
}

async fn connection(mut stream: TcpStream, desk: &Desk) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut head = Vec::with_capacity(HEAD_BYTES_MAX);
    loop {
        if stream.read_buf(&mut head).await? == 0 || head.len() > HEAD_BYTES_MAX {
            return Ok(());
        }
        if head.ends_with(b"\r\n\r\n") {
            let user = user(&head);
            head.clear();
            let answer = desk.answer(user).await;
            stream.write_all(answer).await?;
        }
    }
}

/// The user in a request's head; 0 when it names none.
fn user(head: &[u8]) -> u64 {
    let lines = head.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
    let named = lines.filter_map(|line| line.split_once(':')).find(|(name, _)| name.eq_ignore_ascii_case("x-user-id"));
    named.and_then(|(_, value)| value.trim().parse().ok()).unwrap_or(0)
}

/// Burns CPU until the thread's own clock has moved that far, however often the thread is throttled.
fn burn(cpu_us: u64) {
    let clock_us = || {
        let now = clock_gettime(ClockId::ThreadCPUTime);
        now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1_000
    };
    let start = clock_us();
    let mut state = start | 1;
    while clock_us() - start < cpu_us {
        for _ in 0..ROUNDS_PER_LOOK {
            state = black_box(state.wrapping_mul(6_364_136_223_846_793_005).rotate_left(17));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_is_read_from_the_head() {
        assert_eq!(user(b"GET / HTTP/1.1\r\nhost: a:80\r\nX-User-Id: 4711\r\n\r\n"), 4_711);
        assert_eq!(user(b"GET / HTTP/1.1\r\nhost: a:80\r\n\r\n"), 0);
    }

    #[test]
    fn calls_wait_in_order_and_a_refused_one_is_told() {
        let (work, orders) = mpsc::sync_channel(1);
        let guard = Control::None.scheme().guard(0, 1, 1.0);
        let (rng, began) = (Rng::new(1, 0), Instant::now());
        let mut line = Line { guard, waiting: VecDeque::new(), at_work: None, work, rng, began };
        let head = Head {
            user: 1,
            class: 0,
            priority: 0,
            deadline_us: u64::MAX,
            task_deadline_us: u64::MAX,
            attempt: 0,
            admitted: false,
            report: Vec::new(),
        };
        let mut first = line.arrive(head.clone(), 0).expect("admitted");
        let mut second = line.arrive(head.clone(), 0).expect("admitted");
        assert_eq!((orders.try_iter().count(), line.waiting.len()), (1, 1));
        line.ended();
        assert_eq!((first.try_recv(), second.try_recv().is_err()), (Ok(Ok(())), true));
        line.ended();
        assert_eq!((second.try_recv(), orders.try_iter().count(), line.at_work.is_none()), (Ok(Ok(())), 1, true));
        (1..=QUEUE_MAX).for_each(|_| drop(line.arrive(head.clone(), 0)));
        assert_eq!(line.waiting.len(), QUEUE_MAX - 1);
        drop(line.arrive(head.clone(), 0));
        assert_eq!(line.arrive(head, 0).err(), Some(Refusal::Overflow));
    }
}
