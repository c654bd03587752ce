//! The ledger audit: whatever is killed, and however often, each accepted item is paid exactly once by its key.

use crate::child::{Kept, Lane};
use crate::receiver::Receiver;
use crate::streams::Redis;
use crate::until;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::time::Duration;

/// Callers that push at the same time.
const CALLERS: u32 = 8;
/// Between two looks at a lane that is away: eight callers that spin leave nothing to what they wait for.
const PAUSE: Duration = Duration::from_millis(1);
/// Times the lane is killed.
const KILLS: u32 = 8;

/// Pushes from all callers while `disturb` does its worst; returns keys accepted, and those whose fate nobody was told.
fn press(lane: &Mutex<Option<Lane>>, disturb: impl FnOnce()) -> (Vec<String>, Vec<String>) {
    let (accepted, unknown) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let (done, serial) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for caller in 0..CALLERS {
            let (accepted, unknown, done, serial) = (&accepted, &unknown, &done, &serial);
            scope.spawn(move || {
                while !done.load(SeqCst) {
                    let pusher = lane.lock().expect("not poisoned").as_ref().map(Lane::connect);
                    let Some(mut pusher) = pusher else {
                        std::thread::sleep(PAUSE);
                        continue;
                    };
                    while !done.load(SeqCst) {
                        let number = serial.fetch_add(1, SeqCst);
                        // Half of the callers bring keys of their own.
                        let key = if caller % 2 == 0 { format!("key-{number}") } else { String::new() };
                        match pusher.push(&key, number) {
                            Some(Ok(id)) => {
                                accepted.lock().expect("not poisoned").push(if key.is_empty() { id } else { key });
                            }
                            Some(Err(_)) => {
                                unknown.lock().expect("not poisoned").push(key);
                                std::thread::sleep(PAUSE);
                            }
                            None => {
                                unknown.lock().expect("not poisoned").push(key);
                                break;
                            }
                        }
                    }
                }
            });
        }
        disturb();
        done.store(true, SeqCst);
    });
    (accepted.into_inner().expect("not poisoned"), unknown.into_inner().expect("not poisoned"))
}

fn audit(receiver: &Receiver, accepted: &[String]) {
    until("every accepted item is paid", || {
        let paid = receiver.paid();
        accepted.iter().all(|key| paid.contains_key(key))
    });
    let paid = receiver.paid();
    assert!(paid.values().all(|times| *times == 1), "each once");
    println!(
        "accepted {}, paid {}, deliveries {}: nothing lost, {} repetitions told apart by their key",
        accepted.len(),
        paid.len(),
        receiver.deliveries(),
        receiver.deliveries() - paid.len() as u64
    );
}

#[test]
fn the_embedded_lane_loses_nothing_when_its_process_is_killed_again_and_again() {
    let receiver = Receiver::start();
    let folder = tempfile::tempdir().expect("a folder");
    let kept = Kept::In(folder.path());
    let lane = Mutex::new(Some(Lane::start(&kept, receiver.address)));
    let (accepted, unknown) = press(&lane, || {
        for kill in 0..KILLS {
            // Different moments: some in the middle of a batch, some while items are on their way.
            let (before, wanted) = (receiver.deliveries(), u64::from(kill * 37 + 5));
            until("it delivers", || receiver.deliveries() > before + wanted);
            let taken = lane.lock().expect("not poisoned").take().expect("it runs");
            taken.kill();
            *lane.lock().expect("not poisoned") = Some(Lane::start(&kept, receiver.address));
        }
    });
    assert!(accepted.len() > 500, "{} accepted: too little to judge by", accepted.len());
    assert!(unknown.len() >= KILLS as usize / 2, "the kills came while items were being pushed");
    audit(&receiver, &accepted);
    lane.into_inner().expect("not poisoned").expect("it runs").kill();
}

#[test]
fn redis_killed_with_the_lane_loses_nothing() {
    let receiver = Receiver::start();
    let folder = tempfile::tempdir().expect("a folder");
    let redis = Mutex::new(Some(Redis::start(folder.path(), "always", None)));
    let address = redis.lock().expect("not poisoned").as_ref().expect("it runs").address;
    let url = format!("redis://{address}/");
    let kept = Kept::Redis(&url);
    let lane = Mutex::new(Some(Lane::start(&kept, receiver.address)));
    let (accepted, _) = press(&lane, || {
        for kill in 0..4_u64 {
            let before = receiver.deliveries();
            until("it delivers", || receiver.deliveries() > before + kill * 41 + 5);
            if kill % 2 == 0 {
                redis.lock().expect("not poisoned").take().expect("it runs").kill();
                std::thread::sleep(Duration::from_millis(20));
                *redis.lock().expect("not poisoned") = Some(Redis::start(folder.path(), "always", Some(address)));
            } else {
                lane.lock().expect("not poisoned").take().expect("it runs").kill();
                *lane.lock().expect("not poisoned") = Some(Lane::start(&kept, receiver.address));
            }
        }
    });
    assert!(accepted.len() > 200, "{} accepted: too little to judge by", accepted.len());
    // What a killed consumer held is idle for 30 s before another may have it.
    let began = std::time::Instant::now();
    while began.elapsed() < Duration::from_secs(45) {
        let paid = receiver.paid();
        if accepted.iter().all(|key| paid.contains_key(key)) {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    audit(&receiver, &accepted);
    lane.into_inner().expect("not poisoned").expect("it runs").kill();
    redis.into_inner().expect("not poisoned").expect("it runs").kill();
}
