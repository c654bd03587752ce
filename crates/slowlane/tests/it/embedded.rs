//! The log: what it accepts, refuses, recovers and removes.

use crate::{payment, until};
use slowlane::embedded::{Embedded, SLOTS_MAX};
use slowlane::{Driver, Ending, Error, Item, ItemHeader, State};
use std::future::Future;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

fn open(folder: &Path) -> Embedded {
    Embedded::open(folder, "lane", 1 << 30).expect("it opens")
}

fn push(lane: &Embedded, key: &str, amount: u32) -> String {
    wait(lane.push(payment(key, amount))).expect("accepted").id
}

/// Every item there is, in order, claimed.
fn drain(lane: &Embedded) -> Vec<slowlane::Claimed> {
    wait(lane.claim("cash", usize::MAX)).expect("claimed")
}

fn bodies(lane: &Embedded) -> Vec<String> {
    drain(lane).iter().map(|c| String::from_utf8_lossy(&c.item.body).into_owned()).collect()
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    let slot = folder.join("slot-0");
    let mut paths: Vec<_> = std::fs::read_dir(slot).expect("a slot").map(|e| e.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "lane"));
    paths.sort();
    paths
}

fn disk_bytes(folder: &Path) -> u64 {
    segments(folder).iter().map(|path| path.metadata().expect("it is there").len()).sum()
}

#[test]
fn items_come_out_in_order_and_survive_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let lane = open(folder.path());
    let ids: Vec<_> = (0..100).map(|n| push(&lane, "", n)).collect();
    let claimed = wait(lane.claim("cash", 30)).expect("claimed");
    for one in &claimed[..10] {
        wait(lane.finish(one, Ending::Done { status: 201 })).expect("ended");
    }
    drop(lane);
    let lane = open(folder.path());
    assert_eq!(bodies(&lane), (10..100).map(|n| format!("amount={n}")).collect::<Vec<_>>());
    assert_eq!(wait(lane.state(&ids[3])).expect("known"), Some(State::Done { status: 201 }));
    assert_eq!(wait(lane.state(&ids[50])).expect("known"), Some(State::Waiting));
    assert_eq!(wait(lane.state("lane.nobody")).expect("asked"), None);
}

#[test]
fn a_key_stands_for_one_request() {
    let folder = tempfile::tempdir().expect("a folder");
    let lane = open(folder.path());
    let id = push(&lane, "k", 1);
    let again = wait(lane.push(payment("k", 1))).expect("known");
    assert_eq!((again.id.as_str(), again.known), (id.as_str(), true));
    assert!(matches!(wait(lane.push(payment("k", 2))), Err(Error::KeyReused { key }) if key == "k"));
    let elsewhere = Item { service: "gift".into(), ..payment("k", 2) };
    assert!(!wait(lane.push(elsewhere)).expect("another service's key").known);
    let claimed = drain(&lane);
    assert_eq!(claimed.len(), 2);
    wait(lane.finish(&claimed[0], Ending::Done { status: 200 })).expect("ended");
    drop(lane);
    let lane = open(folder.path());
    assert!(wait(lane.push(payment("k", 1))).expect("known after a restart").known);
    assert!(wait(lane.push(payment("k", 9))).is_err());
}

#[test]
fn keys_of_two_users_are_two_keys() {
    let of = |user: &str| {
        let header = ItemHeader { name: "x-springtide-user".into(), value: user.to_owned().into() };
        Item { headers: vec![header], ..payment("k", 1) }
    };
    let folder = tempfile::tempdir().expect("a folder");
    let lane = open(folder.path());
    let first = wait(lane.push(of("00000000000000aa"))).expect("accepted");
    let other = wait(lane.push(of("00000000000000bb"))).expect("accepted");
    let nobody = wait(lane.push(payment("k", 1))).expect("accepted");
    assert!(!other.known && !nobody.known && other.id != first.id, "two users' payments are two");
    let again = wait(lane.push(of("00000000000000aa"))).expect("known");
    assert_eq!((again.id, again.known), (first.id, true), "the same user's is one");
    assert_eq!(drain(&lane).len(), 3);
}

#[test]
fn a_half_written_end_is_cut_off_and_whole_items_stay() {
    let folder = tempfile::tempdir().expect("a folder");
    let lane = open(folder.path());
    (0..5).for_each(|n| drop(push(&lane, "", n)));
    drop(lane);
    let path = segments(folder.path()).pop().expect("a segment");
    let whole = std::fs::read(&path).expect("readable");
    // Every place at which a crash may have left the file.
    for cut in (8..whole.len()).step_by(7) {
        std::fs::write(&path, &whole[..cut]).expect("cut");
        let lane = open(folder.path());
        let found = bodies(&lane);
        let wanted: Vec<_> = (0..found.len()).map(|n| format!("amount={n}")).collect();
        assert_eq!(found, wanted, "cut at {cut}: what is whole is there, in order, and nothing else");
        push(&lane, "", 99);
        drop(lane);
        segments(folder.path()).iter().for_each(|path| std::fs::remove_file(path).expect("removed"));
    }
    std::fs::write(&path, &whole).expect("as it was");
    let lane = open(folder.path());
    assert_eq!(bodies(&lane).len(), 5);
}

#[test]
fn a_flipped_bit_is_noticed_and_a_foreign_file_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let lane = open(folder.path());
    (0..3).for_each(|n| drop(push(&lane, "", n)));
    drop(lane);
    drop(open(folder.path()));
    let path = segments(folder.path()).remove(0);
    let length = path.metadata().expect("it is there").len();
    let mut file = std::fs::OpenOptions::new().write(true).open(&path).expect("writable");
    file.seek(SeekFrom::Start(length - 3)).expect("in it");
    file.write_all(b"\xff").expect("written");
    drop(file);
    let lane = open(folder.path());
    assert_eq!(bodies(&lane), ["amount=0", "amount=1"]);
    assert!(path.with_extension("damaged").exists(), "what was accepted and is damaged is kept for people");
    drop(lane);
    std::fs::write(&path, b"SPLANE\0\x63 of another version").expect("written");
    assert!(matches!(Embedded::open(folder.path(), "lane", 1 << 30), Err(Error::Version { .. })));
}

#[test]
fn it_is_full_with_a_clear_word_and_takes_more_once_it_has_released_some() {
    const BYTES_MAX: u64 = 1 << 20;
    let folder = tempfile::tempdir().expect("a folder");
    let lane = Embedded::open(folder.path(), "lane", BYTES_MAX).expect("it opens");
    let large = |n: u32| Item { body: vec![n as u8; 100_000].into(), ..payment("", n) };
    let mut accepted = 0;
    let error = loop {
        match wait(lane.push(large(accepted))) {
            Ok(_) => accepted += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(accepted, 10);
    assert!(matches!(error, Error::Full { max: BYTES_MAX, .. }), "{error}");
    let one = wait(lane.claim("cash", 1)).expect("claimed").remove(0);
    wait(lane.finish(&one, Ending::Done { status: 200 })).expect("ended");
    wait(lane.push(large(77))).expect("there is room again");
    let bounded = Item { waiting_max: 3, policy: "few".into(), ..payment("", 0) };
    (0..3).for_each(|_| drop(wait(lane.push(bounded.clone())).expect("within its bound")));
    assert!(matches!(wait(lane.push(bounded)), Err(Error::Full { held: 3, max: 3, .. })));
    let huge = Item { body: vec![0; slowlane::ITEM_BYTES_MAX].into(), ..payment("", 0) };
    assert!(matches!(wait(lane.push(huge)), Err(Error::TooLarge { .. })));
}

#[test]
fn finished_segments_go_and_what_lives_in_old_ones_moves() {
    let folder = tempfile::tempdir().expect("a folder");
    let lane = open(folder.path());
    let large = |n: u32| Item { body: vec![n as u8; 100_000].into(), ..payment("", n) };
    let keep = wait(lane.push(large(0))).expect("accepted").id;
    let first = drain(&lane).remove(0);
    let reason = "gone".to_owned();
    wait(lane.finish(&first, Ending::Dead { status: 410, reason, attempts: 1 })).expect("ended");
    for n in 1..600 {
        wait(lane.push(large(n))).expect("accepted");
        let one = drain(&lane).remove(0);
        wait(lane.finish(&one, Ending::Done { status: 200 })).expect("ended");
    }
    let bytes = disk_bytes(folder.path());
    assert!(bytes < 40 << 20, "60 MB went through, {bytes} bytes are left");
    drop(lane);
    let lane = open(folder.path());
    assert!(matches!(wait(lane.state(&keep)).expect("known"), Some(State::Dead { status: 410, .. })));
    assert!(drain(&lane).is_empty(), "nothing that ended comes back");
    let dead = wait(lane.dead(0, 10)).expect("listed");
    assert_eq!((dead.len(), dead[0].item.id.as_str(), dead[0].reason.as_str()), (1, keep.as_str(), "gone"));
    assert!(wait(lane.revive(&keep)).expect("asked") && !wait(lane.revive(&keep)).expect("asked"));
    assert_eq!(drain(&lane).len(), 1);
}

#[test]
fn a_second_process_has_a_slot_of_its_own_and_the_next_one_releases_both() {
    let folder = tempfile::tempdir().expect("a folder");
    let old = open(folder.path());
    push(&old, "old", 1);
    let new = open(folder.path());
    push(&new, "new", 2);
    assert_eq!(bodies(&new), ["amount=2"], "what another process holds is its own");
    drop(new);
    drop(old);
    let next = open(folder.path());
    let mut found = bodies(&next);
    found.sort();
    assert_eq!(found, ["amount=1", "amount=2"]);
    assert!(wait(next.push(payment("new", 2))).expect("known").known, "keys of a slot taken over are known");
    drop(next);
    let held: Vec<_> = (0..SLOTS_MAX).filter_map(|_| Embedded::open(folder.path(), "lane", 1 << 30).ok()).collect();
    assert!(!held.is_empty());
}

/// Slots with a folder.
fn slots(folder: &Path) -> usize {
    (0..SLOTS_MAX).filter(|slot| folder.join(format!("slot-{slot}")).exists()).count()
}

/// Looks, as a runner does, until only the lane's own slot is there.
fn takes_over(lane: &Embedded, folder: &Path) {
    until("what was left is taken over", || {
        wait(lane.backlog()).expect("it looks");
        slots(folder) == 1
    });
}

#[test]
fn a_chain_of_upgrades_frees_every_slot_and_keeps_every_item_in_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut lane = open(folder.path());
    let mut ids = Vec::new();
    for n in 0..6 {
        ids.push(push(&lane, &format!("k{n}"), n));
        let claimed = drain(&lane);
        // One is delivered and one refused along the way.
        if n == 1 {
            wait(lane.finish(&claimed[0], Ending::Done { status: 200 })).expect("ended");
        }
        if n == 2 {
            let dead = Ending::Dead { status: 410, reason: "gone".into(), attempts: 1 };
            wait(lane.finish(&claimed[0], dead)).expect("ended");
        }
        let next = open(folder.path());
        assert_eq!(slots(folder.path()), 2, "upgrade {n}: the old one drains while the new one works");
        drop(lane);
        takes_over(&next, folder.path());
        lane = next;
    }
    assert_eq!(wait(lane.state(&ids[0])).expect("asked"), Some(State::Done { status: 200 }));
    assert!(matches!(wait(lane.state(&ids[1])).expect("asked"), Some(State::Dead { status: 410, .. })));
    assert!(wait(lane.push(payment("k0", 0))).expect("known").known, "a done item's key is known");
    assert!(wait(lane.push(payment("k5", 5))).expect("known").known, "and a waiting one's");
    assert!(matches!(wait(lane.push(payment("k0", 7))), Err(Error::KeyReused { .. })));
    drop(lane);
    let lane = open(folder.path());
    assert_eq!(wait(lane.dead(0, 10)).expect("listed")[0].item.id, ids[1]);
    assert_eq!(bodies(&lane), ["amount=2", "amount=3", "amount=4", "amount=5"]);
}

#[test]
fn what_was_left_is_released_before_what_came_since() {
    let folder = tempfile::tempdir().expect("a folder");
    let old = open(folder.path());
    (0..3).for_each(|n| drop(push(&old, "", n)));
    let new = open(folder.path());
    until("a later millisecond", || {
        let probe = wait(old.claim("cash", 1)).expect("claimed").remove(0);
        wait(old.finish(&probe, Ending::Returned)).expect("handed back");
        slowlane::item::now_unix_ms() > probe.item.accepted_unix_ms + 5
    });
    push(&new, "", 3);
    drop(old);
    takes_over(&new, folder.path());
    assert_eq!(bodies(&new), ["amount=0", "amount=1", "amount=2", "amount=3"]);
}

#[test]
fn a_crash_in_a_takeover_leaves_no_item_twice_and_loses_none() {
    let (folder, aside) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("another"));
    let old = open(folder.path());
    let ids: Vec<_> = (0..4).map(|n| push(&old, &format!("k{n}"), n)).collect();
    let new = open(folder.path());
    let (slot, copy) = (folder.path().join("slot-0"), aside.path().join("slot-0"));
    let carry = |from: &Path, to: &Path| {
        std::fs::create_dir_all(to).expect("made");
        for entry in std::fs::read_dir(from).expect("listed") {
            let entry = entry.expect("an entry");
            std::fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
        }
    };
    carry(&slot, &copy);
    drop(old);
    takes_over(&new, folder.path());
    let claimed = drain(&new);
    assert_eq!(claimed.len(), 4);
    wait(new.finish(&claimed[0], Ending::Done { status: 200 })).expect("ended");
    let dead = Ending::Dead { status: 410, reason: "gone".into(), attempts: 1 };
    wait(new.finish(&claimed[1], dead)).expect("ended");
    // As if the process had died with everything copied and nothing removed: here it is taken over once more …
    carry(&copy, &slot);
    takes_over(&new, folder.path());
    assert!(drain(&new).is_empty(), "all four are known: one done, one dead, two claimed");
    drop(new);
    // … and here the copy becomes the next process's own log, and the other is taken over.
    carry(&copy, &slot);
    let next = open(folder.path());
    assert_eq!(slots(folder.path()), 1);
    assert_eq!(bodies(&next), ["amount=2", "amount=3"]);
    assert_eq!(wait(next.state(&ids[0])).expect("asked"), Some(State::Done { status: 200 }));
    assert!(matches!(wait(next.state(&ids[1])).expect("asked"), Some(State::Dead { status: 410, .. })));
}
