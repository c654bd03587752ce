//! The runner over a real log and a real receiver: rate, order, retries, dead letters, stop.

use crate::receiver::Receiver;
use crate::{payment, until};
use slowlane::deliver::Http;
use slowlane::embedded::Embedded;
use slowlane::runner::Counts;
use slowlane::{Backlog, Claimed, Dead, Depth, Driver, Ending, Error, Item, Later, Place, Pushed};
use slowlane::{Rates, Runner, State};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A real log that notes what is taken from it, and whose disk takes no endings while it ails, as a full one does.
struct Ailing {
    lane: Embedded,
    claimed: Mutex<Vec<Vec<u8>>>,
    ails: AtomicBool,
    refused: AtomicU64,
}

impl Driver for Ailing {
    fn push(&self, item: Item) -> Later<'_, Pushed> {
        self.lane.push(item)
    }
    fn backlog(&self) -> Later<'_, Vec<Backlog>> {
        self.lane.backlog()
    }
    fn claim<'a>(&'a self, policy: &'a str, max: usize) -> Later<'a, Vec<Claimed>> {
        Box::pin(async move {
            let items = self.lane.claim(policy, max).await?;
            self.claimed.lock().expect("not poisoned").extend(items.iter().map(|of| of.item.body.to_vec()));
            Ok(items)
        })
    }
    fn renew<'a>(&'a self, held: &'a [Place]) -> Later<'a, ()> {
        self.lane.renew(held)
    }
    fn finish<'a>(&'a self, claimed: &'a Claimed, ending: Ending) -> Later<'a, ()> {
        if ending == Ending::Returned || !self.ails.load(SeqCst) {
            return self.lane.finish(claimed, ending);
        }
        self.refused.fetch_add(1, SeqCst);
        let source = std::io::ErrorKind::StorageFull.into();
        Box::pin(async { Err(Error::Disk { what: "cannot write", path: "the log".to_owned(), source }) })
    }
    fn state<'a>(&'a self, id: &'a str) -> Later<'a, Option<State>> {
        self.lane.state(id)
    }
    fn dead(&self, skip: usize, limit: usize) -> Later<'_, Vec<Dead>> {
        self.lane.dead(skip, limit)
    }
    fn revive<'a>(&'a self, id: &'a str) -> Later<'a, bool> {
        self.lane.revive(id)
    }
    fn depth(&self) -> Later<'_, Depth> {
        self.lane.depth()
    }
}

struct World {
    receiver: Receiver,
    lane: Arc<Ailing>,
    rates: watch::Sender<Rates>,
    stop: watch::Sender<bool>,
    runner: Option<JoinHandle<()>>,
    runtime: Runtime,
    _folder: TempDir,
}

impl World {
    fn start(rates: Rates) -> Self {
        let receiver = Receiver::start();
        let folder = tempfile::tempdir().expect("a folder");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let lane = Embedded::open(folder.path(), "lane", 1 << 30).expect("it opens");
        let claimed = Mutex::default();
        let lane = Arc::new(Ailing { lane, claimed, ails: AtomicBool::new(false), refused: AtomicU64::new(0) });
        let (rates, rates_in_force) = watch::channel(rates);
        let (stop, stopping) = watch::channel(false);
        let driver: Arc<dyn Driver> = lane.clone();
        let deliver = Arc::new(Http { address: receiver.address });
        let runner = runtime.block_on(async { Runner::new(driver, deliver, rates_in_force, Arc::<Counts>::default()) });
        let runner = Some(runtime.spawn(runner.run(stopping)));
        Self { receiver, lane, rates, stop, runner, runtime, _folder: folder }
    }

    fn push(&self, item: Item) -> String {
        self.runtime.block_on(self.lane.push(item)).expect("accepted").id
    }

    fn state(&self, id: &str) -> Option<State> {
        self.runtime.block_on(self.lane.state(id)).expect("asked")
    }
}

fn rate(milli_rps: u64, proxies: u32) -> Rates {
    Rates { milli_rps: [("cash".to_owned(), milli_rps)].into(), proxies }
}

#[test]
fn items_are_released_in_order_at_the_policys_rate_and_this_proxys_share_of_it() {
    let world = World::start(rate(0, 1));
    (0..60).for_each(|n| drop(world.push(payment("", n))));
    assert_eq!(world.receiver.deliveries(), 0, "at a rate of zero all wait");
    let began = Instant::now();
    world.rates.send_replace(rate(100_000, 2));
    until("all are paid", || world.receiver.paid().len() == 60);
    let took = began.elapsed();
    assert!(took > Duration::from_millis(1_000), "60 at 50 a second: {took:?}");
    let claimed = world.lane.claimed.lock().expect("not poisoned").clone();
    assert_eq!(claimed, (0..60).map(|n| payment("", n).body.to_vec()).collect::<Vec<_>>());
}

#[test]
fn a_policy_that_is_gone_leaves_nothing_behind() {
    let world = World::start(Rates::default());
    let id = world.push(Item { rate_milli_rps: 0, ..payment("", 1) });
    until("it is paid at the least rate", || matches!(world.state(&id), Some(State::Done { status: 201 })));
}

#[test]
fn a_receiver_that_fails_gets_it_again_and_one_that_refuses_does_not() {
    let world = World::start(rate(1_000_000, 1));
    world.receiver.ledger.refuse.store(503, SeqCst);
    let id = world.push(payment("bonus", 8));
    until("it is tried again", || world.receiver.deliveries() >= 4);
    assert_eq!(world.state(&id), Some(State::Waiting));
    world.receiver.ledger.refuse.store(0, SeqCst);
    until("it is paid", || world.receiver.paid().get("bonus") == Some(&1));
    let attempt: u32 = world.receiver.ledger.last_attempt.lock().expect("not poisoned").parse().expect("a number");
    assert!(attempt >= 3, "the attempt is told: {attempt}");
    world.receiver.ledger.refuse.store(422, SeqCst);
    let id = world.push(payment("", 9));
    until("it is a dead letter", || matches!(world.state(&id), Some(State::Dead { status: 422, .. })));
    world.receiver.ledger.refuse.store(0, SeqCst);
    assert!(world.runtime.block_on(world.lane.revive(&id)).expect("asked"));
    until("it is paid after all", || matches!(world.state(&id), Some(State::Done { .. })));
}

#[test]
fn a_lane_that_was_empty_for_a_while_gives_no_token_that_was_used() {
    let rates = [("cash".to_owned(), 1), ("quick".to_owned(), 1_000_000)].into();
    let world = World::start(Rates { milli_rps: rates, proxies: 1 });
    let quick = |n| {
        let id = world.push(Item { policy: "quick".into(), ..payment("", n) });
        until("it is paid", || matches!(world.state(&id), Some(State::Done { .. })));
    };
    let first = world.push(payment("", 1));
    until("the first token is used", || matches!(world.state(&first), Some(State::Done { .. })));
    (10..13).for_each(quick);
    let second = world.push(payment("", 2));
    (13..16).for_each(quick);
    assert_eq!(world.state(&second), Some(State::Waiting), "one in a thousand seconds");
}

#[test]
fn items_that_always_fail_do_not_hold_up_those_behind_them() {
    const FAILING: u32 = 1_100;
    let world = World::start(rate(2_000_000, 1));
    world.receiver.ledger.refuse_below.store(FAILING, SeqCst);
    (0..FAILING).for_each(|n| drop(world.push(payment("", n))));
    let good = world.push(payment("", FAILING));
    until("it is paid all the same", || matches!(world.state(&good), Some(State::Done { .. })));
}

#[test]
fn what_was_turned_away_on_its_way_is_no_dead_letter() {
    let world = World::start(rate(1_000_000, 1));
    world.receiver.ledger.refuse.store(404, SeqCst);
    world.receiver.ledger.rejects.store(true, SeqCst);
    let id = world.push(payment("", 1));
    until("it is tried again", || world.receiver.deliveries() >= 3);
    assert_eq!(world.state(&id), Some(State::Waiting), "no route is not the receiver's word");
    world.receiver.ledger.rejects.store(false, SeqCst);
    until("its own 404 is", || matches!(world.state(&id), Some(State::Dead { status: 404, .. })));
}

#[test]
fn what_anybody_but_the_receiver_answers_is_no_delivery() {
    let world = World::start(rate(1_000_000, 1));
    world.receiver.ledger.astray.store(true, SeqCst);
    let id = world.push(payment("", 1));
    until("it is tried again", || world.receiver.deliveries() >= 3);
    assert_eq!(world.state(&id), Some(State::Waiting), "a 200 that is not the receiver's pays nothing");
    world.receiver.ledger.astray.store(false, SeqCst);
    until("its own ends it", || matches!(world.state(&id), Some(State::Done { status: 201 })));
}

#[test]
fn a_stop_waits_for_what_is_on_its_way_and_hands_back_the_rest() {
    let mut world = World::start(rate(1_000_000, 1));
    world.receiver.ledger.refuse.store(500, SeqCst);
    let ids: Vec<_> = (0..20).map(|n| world.push(payment("", n))).collect();
    until("they fail", || world.receiver.deliveries() >= 20);
    world.stop.send_replace(true);
    let runner = world.runner.take().expect("it runs");
    world.runtime.block_on(runner).expect("it ends");
    let back = world.runtime.block_on(world.lane.claim("cash", 100)).expect("claimed");
    assert_eq!(back.len(), ids.len(), "all are there for the next process");
}

#[test]
fn a_paid_item_is_not_sent_again_while_its_ending_cannot_be_written() {
    let world = World::start(rate(1_000_000, 1));
    world.lane.ails.store(true, SeqCst);
    let paid = world.push(payment("bonus", 8));
    until("its ending was tried again and again", || world.lane.refused.load(SeqCst) >= 4);
    assert_eq!((world.receiver.deliveries(), world.state(&paid)), (1, Some(State::Waiting)));
    world.receiver.ledger.refuse.store(422, SeqCst);
    let refused = world.push(payment("fine", 9));
    until("it was sent", || world.receiver.deliveries() == 2);
    world.lane.ails.store(false, SeqCst);
    until("it is done", || world.state(&paid) == Some(State::Done { status: 201 }));
    until("and the other is dead", || matches!(world.state(&refused), Some(State::Dead { status: 422, .. })));
    assert_eq!(world.receiver.deliveries(), 2, "each was sent once");
}
