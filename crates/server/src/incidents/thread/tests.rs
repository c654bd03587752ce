//! Watchers that crash: what is shown, what is kept, and who watches after them.

use super::super::{Incidents, Parts, Watcher};
use super::*;
use crate::control_loop::world::World;
use crate::control_loop::{Input, Loop};
use std::sync::Mutex;
use store::records::Records;

/// Time in which something awaited must happen.
const SOON: Duration = Duration::from_secs(60);

async fn shown(incidents: &Incidents, what: &str, holds: impl FnMut(&Arc<Shown>) -> bool) -> Arc<Shown> {
    let mut shown = incidents.shown.clone();
    let found = tokio::time::timeout(SOON, shown.wait_for(holds)).await;
    found.unwrap_or_else(|_| panic!("{what} did not come about")).expect("somebody shows").clone()
}

/// A watcher that crashes with the first thing that it is told.
fn crashes_when_told(says: &'static str) -> Watching {
    Box::new(move |inbox| {
        inbox.recv().expect("somebody tells");
        panic!("{says}")
    })
}

/// A world in which one receiver is declared, served to whoever reads.
fn world_of_a_receiver() -> Loop {
    let (control, mut inputs) = Loop::new();
    let mut world = World::new(1);
    let receiver = serde_json::json!({"kind": "Receiver", "name": "pager", "command": ["true"]}).to_string();
    world.fold("/resources/Receiver/pager", Some(receiver.as_bytes()), 1).expect("a receiver");
    world.snapshot.revision = 1;
    tokio::spawn(async move {
        while let Some(input) = inputs.recv().await {
            if let Input::Read(read) = input {
                read(&world);
            }
        }
    });
    control
}

#[tokio::test]
async fn a_crash_is_said_and_counted_and_another_watcher_is_told_what_is_intended() {
    let folder = tempfile::tempdir().expect("a folder");
    let records = Arc::new(Records::open(folder.path()).expect("records"));
    let parts = Parts { records, data: folder.path().to_owned(), warm_s: None };
    let incidents = Incidents::over(|shared| {
        Box::new(move |start| {
            let real = Watcher::new(&parts, start.clone(), shared.clone())?;
            Ok(match start.crashes.count {
                0 => crashes_when_told("a sample from nowhere"),
                _ => Box::new(|inbox| real.run(inbox)),
            })
        })
    })
    .expect("a thread");
    let before = incidents.shown();
    assert!(before.is_running && before.trouble(now_ms()).is_none());
    // The one that crashes has what is intended; the next must be told again.
    let following = tokio::spawn(incidents.clone().follow(world_of_a_receiver()));
    let down = shown(&incidents, "a crash", |shown| shown.health.crashes == 1).await;
    let said = down.trouble(now_ms()).expect("it is said");
    assert!(said.contains("(a sample from nowhere)"), "{said}");

    let again = shown(&incidents, "the next watcher, told", |shown| !shown.receivers.is_empty()).await;
    assert!(again.is_running && again.health.crashes == 1);
    let said = again.trouble(now_ms()).expect("it learns");
    assert!(said.contains("runs again since"), "{said}");
    assert_eq!(again.trouble(now_ms() + 2 * LEARNS_MS), None);
    let refused = incidents.acknowledge("inc-1", "ann").await.expect_err("there is no such incident");
    assert!(format!("{refused:?}").contains("no incident inc-1 goes on"), "{refused:?}");
    following.abort();
    incidents.stop();
}

#[tokio::test]
async fn only_the_first_after_a_crash_believes_what_was_learnt() {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let starts = kept.clone();
    let incidents = Incidents::over(move |_| {
        Box::new(move |start| {
            starts.lock().expect("no panic").push(start.is_learnt_kept);
            Ok(match start.crashes.count {
                0..2 => Box::new(|_| panic!("at once")),
                _ => crashes_when_told("later"),
            })
        })
    })
    .expect("a thread");
    shown(&incidents, "the second crash", |shown| shown.health.crashes == 2).await;
    // Until somebody is there who takes it.
    while incidents.shown().health.crashes == 2 {
        incidents.agent("h", &Arc::default());
        tokio::task::yield_now().await;
    }
    assert_eq!(kept.lock().expect("no panic")[..3], [true, true, false]);
    incidents.stop();
}

#[test]
fn what_arrives_in_a_pause_is_dropped_and_counted() {
    let (to, inbox) = std::sync::mpsc::sync_channel(4);
    let shared = Shared { show: watch::channel(Arc::default()).0, dropped: Arc::default(), stop: Arc::default() };
    (0..3).for_each(|_| to.send(Message::Agent("h".to_owned(), Arc::default(), 0)).expect("there is room"));
    assert!(pause(1, &shared, &inbox));
    assert_eq!(shared.dropped.load(Ordering::Relaxed), 3);
    shared.stop.store(true, Ordering::Relaxed);
    assert!(!pause(1, &shared, &inbox), "it is to end");
}

#[tokio::test]
async fn who_asks_while_nobody_watches_is_told_so() {
    let incidents = Incidents::over(|_| Box::new(|_| Ok(crashes_when_told("asked")))).expect("a thread");
    let refused = incidents.acknowledge("inc-1", "ann").await.expect_err("it crashed");
    assert!(format!("{refused:?}").contains("detection ended before it answered"), "{refused:?}");
    incidents.stop();
}

#[test]
fn pauses_double_up_to_a_bound() {
    assert_eq!([1, 2, 3, 4].map(pause_ms), [100, 200, 400, 800]);
    assert_eq!([9, 10, 64, 65, u32::MAX].map(pause_ms), [25_600, 30_000, 30_000, 30_000, 30_000]);
}
