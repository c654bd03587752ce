//! Tests of `dry_run`: estimates against a crowd whose truth is known.

use super::*;
use crate::head::{Head, NoHeaders, user_share};
use crate::reservoir::Reservoir;
use crate::set::{InForce, Place};
use model::{Expiry, Policy, PolicyAction, Throttle};

fn throttle(throttle: Throttle) -> Policy {
    Policy {
        name: "p".parse().unwrap(),
        business: None,
        service: None,
        route: None,
        datacenter: None,
        when: None,
        action: PolicyAction::Throttle(throttle),
        order: 1,
        expires_at: Expiry::at(0),
        preset: None,
    }
}

fn head(user: Option<u64>) -> Head<'static> {
    Head {
        business: "b",
        service: "s",
        caller: "outside",
        datacenter: "east",
        method: "GET",
        host: "h",
        path: "/",
        query: "",
        headers: &NoHeaders,
        user,
        priority: 0,
    }
}

/// A minute of requests: user `n` comes once in `n % 7 + 1` rounds. Gives the requests.
fn crowd(reservoir: &mut Reservoir, users: std::ops::Range<u64>, rounds: u64) -> Vec<u64> {
    let mut all = Vec::new();
    for round in 0..rounds {
        for user in users.clone().filter(|user| round % (user % 7 + 1) == 0) {
            let at_us = round * 50_000_000 / rounds + user;
            reservoir.offer(&head(Some(user)), std::iter::empty, at_us);
            all.push(user);
        }
    }
    all
}

fn ran(policy: &Policy, reservoirs: &[Reservoir]) -> DryRun {
    let findings: Vec<Findings> = reservoirs
        .iter()
        .map(|reservoir| {
            let sample = reservoir.sample(55_000_000);
            let share = sample.below as f64 / u64::MAX as f64;
            let proxies = std::collections::BTreeMap::from([("east".to_owned(), reservoirs.len() as u32)]);
            let place = Place { datacenter: "east".to_owned(), proxies, rate_scale: share };
            let in_force = InForce { policy: policy.clone(), version: 1, ends_us: u64::MAX };
            let (set, _) = PolicySet::compile(vec![in_force], &place);
            run(&set, &sample, &["p".to_owned()])
        })
        .collect();
    estimate(&findings, 1)
}

#[test]
fn requests_and_users_are_estimated_from_the_sample_within_its_interval() {
    let mut reservoir = Reservoir::default();
    let all = crowd(&mut reservoir, 0..30_000, 7);
    let hit = |user: &u64| user_share(*user) < 0.12;
    let share = all.iter().filter(|user| hit(user)).count() as f64 / all.len() as f64;
    let users = (0..30_000_u64).filter(|user| hit(user)).count() as f64;
    let told = ran(&throttle(Throttle::UsersPercent(12.0)), &[reservoir]);
    assert!(told.sampled_share < 0.2, "{told:?}");
    let effect = told.effects[0];
    assert!(effect.requests_share.low <= share && share <= effect.requests_share.high, "{share} {effect:?}");
    assert!(effect.requests_share.high - effect.requests_share.low < 0.08, "{effect:?}");
    assert!(effect.users.low <= users && users <= effect.users.high, "{users} {effect:?}");
    assert!((told.users / 30_000.0 - 1.0).abs() < 0.1, "{told:?}");
    assert!((told.requests_per_second * 55.0 / all.len() as f64 - 1.0).abs() < 0.1, "{told:?} {}", all.len());
}

#[test]
fn a_user_seen_by_two_proxies_is_one() {
    let (mut one, mut two) = (Reservoir::default(), Reservoir::default());
    crowd(&mut one, 0..300, 1);
    crowd(&mut two, 100..400, 1);
    let told = ran(&throttle(Throttle::UsersPercent(100.0)), &[one, two]);
    assert_eq!((told.sampled, told.users, told.effects[0].users.value), (600, 400.0, 400.0));
    assert_eq!(told.effects[0].requests_share.value, 1.0);
}

#[test]
fn a_rate_is_judged_at_the_sampled_share() {
    let mut reservoir = Reservoir::default();
    for n in 0..100_000_u64 {
        reservoir.offer(&head(Some(n)), std::iter::empty, n * 500);
    }
    let told = ran(&throttle(Throttle::RequestsPerSecond(500.0)), &[reservoir]);
    assert!((told.effects[0].requests_share.value - 0.75).abs() < 0.06, "500 of 2,000 a second: {told:?}");
}

#[test]
fn an_empty_sample_measures_nothing() {
    let told = ran(&throttle(Throttle::UsersPercent(100.0)), &[Reservoir::default(), Reservoir::default()]);
    assert_eq!((told.sampled, told.effects.len()), (0, 1));
    assert_eq!(told.window_seconds, 0.0);
}
