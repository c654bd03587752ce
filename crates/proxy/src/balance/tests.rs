//! Shares, leases, availability and least load of the balance.

use super::*;
use proptest::prelude::*;

fn steady(weight: u32) -> Weighted {
    Weighted { weight, leased: None, draining: false }
}

fn counts(shares: &Shares, endpoints: usize, picks: u32, available: impl Fn(u32) -> bool + Copy) -> Vec<u32> {
    let mut points = Points::new(7);
    let mut counts = vec![0; endpoints];
    for _ in 0..picks {
        counts[shares.pick(&mut points, |_| 0, available).expect("some weight") as usize] += 1;
    }
    counts
}

#[test]
fn one_percent_is_one_percent_under_load() {
    let endpoints = [steady(10), steady(990)];
    let balance = Balance::new(&endpoints);
    let mut points = Points::new(1);
    // The heavy one is always loaded and the canary idle: least load must not tempt the choice.
    let canary = (0..2_000)
        .filter(|_| balance.shares(0).pick(&mut points, |i| if i == 0 { 0 } else { 90 }, |_| true) == Some(0))
        .count();
    assert!((18..=22).contains(&canary), "{canary} of 2000");
}

#[test]
fn equals_are_chosen_by_load() {
    let balance = Balance::new(&[steady(1000), steady(1000)]);
    let mut points = Points::new(1);
    let busy = (0..1_000)
        .filter(|_| balance.shares(0).pick(&mut points, |i| if i == 0 { 50 } else { 0 }, |_| true) == Some(0))
        .count();
    assert!((200..300).contains(&busy), "only when drawn twice: {busy}");
}

#[test]
fn an_override_rules_until_its_end_and_ignores_load() {
    let mut endpoints = [steady(1000), steady(1000), steady(1000)];
    endpoints[2].leased = Some((2000, 5_000));
    let balance = Balance::new(&endpoints);
    let mut points = Points::new(3);
    let loaded = |i: u32| if i == 2 { 1_000 } else { 0 };
    let share = |now: u64, points: &mut Points| {
        (0..4_000).filter(|_| balance.shares(now).pick(points, loaded, |_| true) == Some(2)).count()
    };
    assert!((1_980..=2_020).contains(&share(4_999, &mut points)));
    assert!(share(5_000, &mut points) < 1_400, "after the lease least load rules again");
}

#[test]
fn an_override_to_nothing_for_everybody_is_not_believed() {
    let endpoints = [Weighted { weight: 1000, leased: Some((0, 9)), draining: false }];
    assert_eq!(Balance::new(&endpoints).shares(0).pick(&mut Points::new(1), |_| 0, |_| true), Some(0));
}

#[test]
fn leases_end_one_by_one() {
    let endpoints = [
        Weighted { weight: 1, leased: Some((0, 10)), draining: false },
        Weighted { weight: 1, leased: Some((0, 20)), draining: false },
        steady(1),
    ];
    let balance = Balance::new(&endpoints);
    let used =
        |now| counts(balance.shares(now), 3, 300, |_| true).iter().map(|c| u32::from(*c > 0)).collect::<Vec<_>>();
    assert_eq!(used(0), [0, 0, 1]);
    assert_eq!(used(10), [1, 0, 1]);
    assert_eq!(used(20), [1, 1, 1]);
}

/// The endpoint of each of `keys` keys, by identity.
fn by_key(weights: &[(u64, u32)], keys: u64) -> Vec<Option<u64>> {
    let endpoints: Vec<_> = weights.iter().map(|(_, weight)| steady(*weight)).collect();
    let balance = Balance::new(&endpoints);
    let identity = |i: u32| weights[i as usize].0;
    let pick = |key| balance.shares(0).pick_by_key(mixed(key), identity, |_| 0, |_| true).map(identity);
    (0..keys).map(pick).collect()
}

#[test]
fn an_override_rules_over_keys_too_and_ignores_load() {
    let mut endpoints = [steady(1000), steady(1000), steady(1000)];
    endpoints[2].leased = Some((2000, 5_000));
    let balance = Balance::new(&endpoints);
    let loaded = |i: u32| if i == 2 { 1_000 } else { 0 };
    let share = |now: u64| {
        let pick = |key| balance.shares(now).pick_by_key(mixed(key), u64::from, loaded, |_| true);
        (0..4_000).filter(|key| pick(*key) == Some(2)).count()
    };
    assert!((1_900..=2_100).contains(&share(4_999)), "half of the keys: {}", share(4_999));
    assert_eq!(share(5_000), 0, "after the lease its load is far beyond its bound");
}

#[test]
fn a_key_of_nobody_available_still_has_its_endpoint() {
    let balance = Balance::new(&[steady(1), steady(1)]);
    let pick = |away| balance.shares(0).pick_by_key(7, u64::from, |_| 0, |_| away);
    assert_eq!(pick(false), pick(true));
    assert_eq!(Balance::new(&[steady(0)]).shares(0).pick_by_key(7, u64::from, |_| 0, |_| true), None);
}

proptest! {
    #[test]
    fn keys_follow_weights_and_move_only_where_they_must(
        weights in prop::collection::vec(1_u32..1_000, 2..20), gone in any::<prop::sample::Index>(), seed in any::<u64>(),
    ) {
        const KEYS: u64 = 8_000;
        let all: Vec<(u64, u32)> = (0..).zip(&weights).map(|(i, w)| (mixed(seed.wrapping_add(i)), *w)).collect();
        let total: u32 = weights.iter().sum();
        let before = by_key(&all, KEYS);
        for (identity, weight) in &all {
            let got = before.iter().filter(|to| **to == Some(*identity)).count() as f64 / KEYS as f64;
            let wanted = f64::from(*weight) / f64::from(total);
            prop_assert!((got - wanted).abs() < 0.03, "{got} of the keys, wanted {wanted}");
        }
        let mut fewer = all.clone();
        let (lost, _) = fewer.remove(gone.index(all.len()));
        // Both ways: what goes gives only its own keys, what comes takes keys for itself only.
        for (with, without) in before.iter().zip(by_key(&fewer, KEYS)) {
            prop_assert!(*with == without || *with == Some(lost), "a key moved from {with:?} to {without:?}");
        }
    }

    #[test]
    fn no_endpoint_takes_more_than_its_bound(
        weights in prop::collection::vec(1_u32..100, 1..12), keys in prop::collection::vec(0_u64..20, 1..400),
    ) {
        let endpoints: Vec<_> = weights.iter().map(|weight| steady(*weight)).collect();
        let balance = Balance::new(&endpoints);
        let total: f64 = weights.iter().map(|w| f64::from(*w)).sum();
        let mut loads = vec![0_u32; weights.len()];
        // Few users, each with many requests that do not end: without a bound some endpoint would have them all.
        for (held, key) in (0_u32..).zip(keys) {
            let picked = balance.shares(0).pick_by_key(mixed(key), u64::from, |i| loads[i as usize], |_| true);
            let index = picked.expect("some weight") as usize;
            let bound = (1.25 * f64::from(held + 1) * f64::from(weights[index]) / total).ceil();
            prop_assert!(f64::from(loads[index]) < bound, "{} under way, bound {bound}", loads[index]);
            loads[index] += 1;
        }
    }

    #[test]
    fn shares_follow_weights(weights in prop::collection::vec(0_u32..2_000, 1..40), away in any::<u64>()) {
        let endpoints: Vec<_> = weights.iter().map(|w| steady(*w)).collect();
        let balance = Balance::new(&endpoints);
        let available = |i: u32| away >> (i % 64) & 1 == 0;
        let total: u64 = weights.iter().map(|w| u64::from(*w)).sum();
        if total == 0 {
            prop_assert_eq!(balance.shares(0).pick(&mut Points::new(1), |_| 0, |_| true), None);
            return Ok(());
        }
        let counted = counts(balance.shares(0), weights.len(), 4_000, available);
        let open: u64 = (0..).zip(&weights).filter(|(i, _)| available(*i)).map(|(_, w)| u64::from(*w)).sum();
        for (index, (weight, count)) in weights.iter().zip(&counted).enumerate() {
            let usable = open == 0 || available(index as u32);
            prop_assert!(*count == 0 || (*weight > 0 && usable), "{index} must get nothing");
        }
        // Least load scatters within a class, so the share is judged for each class, when all can answer.
        if (0..weights.len() as u32).all(available) {
            for class in weights.iter().collect::<std::collections::BTreeSet<_>>() {
                let got: u32 = weights.iter().zip(&counted).filter(|(w, _)| *w == class).map(|(_, c)| *c).sum();
                let members = weights.iter().filter(|w| *w == class).count() as f64;
                let wanted = members * f64::from(*class) / total as f64;
                prop_assert!((f64::from(got) / 4_000.0 - wanted).abs() < 0.01, "weight {class}: {got}, wanted {wanted}");
            }
        }
    }

    #[test]
    fn draining_gets_nothing(draining in prop::collection::vec(any::<bool>(), 1..20)) {
        let endpoints: Vec<_> =
            draining.iter().map(|d| Weighted { weight: 1000, leased: None, draining: *d }).collect();
        let balance = Balance::new(&endpoints);
        let mut points = Points::new(1);
        for _ in 0..100 {
            match balance.shares(0).pick(&mut points, |_| 0, |_| false) {
                Some(index) => prop_assert!(!draining[index as usize]),
                None => prop_assert!(draining.iter().all(|d| *d)),
            }
        }
    }
}
