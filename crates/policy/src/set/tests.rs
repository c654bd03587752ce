//! Tests of `set`: which policy takes which request.

use super::*;
use crate::head::NoHeaders;
use crate::order::{Overlap, Relation, overlaps};
use model::{Answer, Expiry, PolicyName, Slow};

const NOW: u64 = 1_000_000;

fn policy(name: &str, order: u32, action: PolicyAction) -> Policy {
    Policy {
        name: PolicyName::new(name).unwrap(),
        business: None,
        service: None,
        route: None,
        datacenter: None,
        when: None,
        action,
        order,
        expires_at: Expiry::at(0),
        preset: None,
    }
}

fn users(percent: f64) -> PolicyAction {
    PolicyAction::Throttle(Throttle::UsersPercent(percent))
}

fn rate(rate: f64) -> PolicyAction {
    PolicyAction::Throttle(Throttle::RequestsPerSecond(rate))
}

fn levels(from: u8) -> PolicyAction {
    PolicyAction::Throttle(Throttle::BusinessLevelsFrom(from))
}

fn suppress() -> PolicyAction {
    PolicyAction::Suppress(Answer::default())
}

fn compiled(policies: Vec<Policy>) -> PolicySet {
    let in_force = |policy| InForce { policy, version: 1, ends_us: 2 * NOW };
    let (set, refused) = PolicySet::compile(policies.into_iter().map(in_force).collect(), &Place::default());
    assert_eq!(refused, []);
    set
}

fn head(user: u64) -> Head<'static> {
    Head {
        business: "red-packet",
        service: "lottery",
        caller: "sso",
        datacenter: "east",
        method: "GET",
        host: "lottery",
        path: "/draw/1",
        query: "",
        headers: &NoHeaders,
        user: Some(user),
        priority: 20 << 10,
    }
}

fn taker(set: &PolicySet, head: &Head<'_>) -> Option<String> {
    set.decide(head, NOW).map(|taken| taken.entry.policy.name.to_string())
}

#[test]
fn the_same_users_are_taken_all_along_and_a_larger_share_only_adds_some() {
    let taken = |percent| -> Vec<u64> {
        let set = compiled(vec![policy("some", 1, users(percent))]);
        (0..20_000).filter(|user| taker(&set, &head(*user)).is_some()).collect()
    };
    let (ten, twenty) = (taken(10.0), taken(20.0));
    assert_eq!(ten, taken(10.0));
    assert!(ten.iter().all(|user| twenty.contains(user)));
    assert!(
        (1_850..2_150).contains(&ten.len()) && (3_750..4_250).contains(&twenty.len()),
        "{} {}",
        ten.len(),
        twenty.len()
    );
    let set = compiled(vec![policy("some", 1, users(100.0))]);
    assert!(taker(&set, &Head { user: None, ..head(0) }).is_none(), "nobody is no user");
}

#[test]
fn the_order_is_explicit_then_severity_then_name() {
    let all = vec![
        policy("c", 5, users(100.0)),
        policy("b", 5, users(100.0)),
        policy("z-suppress", 5, suppress()),
        policy("late", 9, suppress()),
        policy("first", 1, rate(0.0)),
    ];
    let set = compiled(all);
    let names: Vec<&str> = set.entries().iter().map(|entry| entry.policy.name.as_str()).collect();
    assert_eq!(names, ["first", "z-suppress", "b", "c", "late"]);
    assert_eq!(taker(&set, &head(1)).as_deref(), Some("first"));
}

#[test]
fn a_narrow_policy_is_an_exception_to_a_wide_one_of_its_kind() {
    let mut spare = policy("spare-sso", 1, users(0.0));
    spare.when = Some("caller == 'sso'".to_owned());
    let set = compiled(vec![policy("everybody", 2, users(100.0)), spare, policy("low-levels", 3, levels(30))]);
    assert_eq!(taker(&set, &head(1)), None, "governed by the exception");
    assert_eq!(taker(&set, &Head { caller: "gift", ..head(1) }).as_deref(), Some("everybody"));
    let low = Head { priority: 40 << 10, ..head(1) };
    assert_eq!(taker(&set, &low).as_deref(), Some("low-levels"), "another kind is asked all the same");
}

#[test]
fn scopes_are_kept() {
    let scoped = |change: fn(&mut Policy)| {
        let mut policy = policy("p", 1, suppress());
        change(&mut policy);
        compiled(vec![policy])
    };
    let by_service = scoped(|policy| policy.service = Some("lottery".parse().unwrap()));
    assert!(taker(&by_service, &head(1)).is_some());
    assert!(taker(&by_service, &Head { service: "gift", ..head(1) }).is_none());
    let by_business = scoped(|policy| policy.business = Some("red-packet".parse().unwrap()));
    assert!(taker(&by_business, &head(1)).is_some());
    assert!(taker(&by_business, &Head { business: "", ..head(1) }).is_none());
    let by_route = scoped(|policy| policy.route = Some("/draw".to_owned()));
    assert!(taker(&by_route, &head(1)).is_some());
    assert!(taker(&by_route, &Head { path: "/drawing", ..head(1) }).is_none());
    let by_datacenter = scoped(|policy| policy.datacenter = Some("west".parse().unwrap()));
    assert!(taker(&by_datacenter, &head(1)).is_none());
}

#[test]
fn an_expression_that_fails_takes_nobody_and_is_counted() {
    let mut failing = policy("failing", 1, suppress());
    failing.when = Some("request.headers['x-client'] == 'old'".to_owned());
    let set = compiled(vec![failing, policy("next", 2, levels(0))]);
    assert_eq!(taker(&set, &head(1)).as_deref(), Some("next"), "the next policy is asked");
    taker(&set, &head(2));
    let counts = &set.entries()[0].counts;
    assert_eq!((counts.matched(), counts.taken(), counts.failed()), (0, 0, 2));
    assert!(counts.failure().unwrap().contains("there is no \"x-client\""), "{:?}", counts.failure());
}

#[test]
fn an_end_is_kept_to_the_microsecond() {
    let set = compiled(vec![policy("p", 1, suppress())]);
    assert!(set.decide(&head(1), 2 * NOW - 1).is_some());
    assert!(set.decide(&head(1), 2 * NOW).is_none());
    assert!(set.decide(&head(1), u64::MAX).is_none());
}

#[test]
fn a_rate_is_shared_by_the_proxies_in_scope_and_goes_on_when_the_set_changes() {
    let make = |datacenter: Option<&str>, before: Option<&PolicySet>| {
        let mut limited = policy("limited", 1, rate(100.0));
        limited.datacenter = datacenter.map(|name| name.parse().unwrap());
        let proxies = BTreeMap::from([("east".to_owned(), 2), ("west".to_owned(), 3)]);
        let place = Place { datacenter: "east".to_owned(), proxies, rate_scale: 1.0 };
        let in_force = InForce { policy: limited, version: 1, ends_us: u64::MAX };
        let set = PolicySet::compile(vec![in_force], &place).0;
        match before {
            Some(before) => set.inheriting(before),
            None => set,
        }
    };
    let passed = |set: &PolicySet, from_us: u64| {
        (0..10_000).filter(|n| set.decide(&head(*n), from_us + n * 1_000).is_none()).count()
    };
    let all = make(None, None);
    assert_eq!(all.entries()[0].rate(), 20.0);
    assert!((200..=203).contains(&passed(&all, NOW)), "10 s of 20 a second");
    assert_eq!(make(Some("east"), None).entries()[0].rate(), 50.0);
    let mut last_us = NOW + 10_000_000;
    let mut set = make(None, Some(&all));
    let mut through = 0;
    for _ in 0..1_000 {
        set = make(None, Some(&set));
        through += u32::from(set.decide(&head(1), last_us).is_none());
        last_us += 1_000;
    }
    assert!(through <= 22, "{through} in a second of 20: a new set is no new burst");
    assert_eq!(set.entries()[0].counts.matched(), 11_000, "and no new count");
}

#[test]
fn one_that_does_not_compile_here_leaves_the_others_in_force() {
    let mut unknown = policy("unknown", 1, suppress());
    unknown.when = Some("tomorrow == 1".to_owned());
    let in_force = |policy| InForce { policy, version: 1, ends_us: 2 * NOW };
    let both = vec![in_force(unknown), in_force(policy("known", 2, suppress()))];
    let (set, refused) = PolicySet::compile(both, &Place::default());
    assert_eq!(taker(&set, &head(1)).as_deref(), Some("known"));
    assert!(
        refused.len() == 1 && refused[0].0 == "unknown" && refused[0].1.contains("unknown variable"),
        "{refused:?}"
    );
}

#[test]
fn overlaps_are_named_as_they_act() {
    let mut narrow = policy("narrow", 1, users(5.0));
    narrow.route = Some("/draw".to_owned());
    let mut other = policy("other", 3, levels(9));
    other.route = Some("/login".to_owned());
    let mut elsewhere = policy("elsewhere", 4, users(9.0));
    elsewhere.service = Some("gift".parse().unwrap());
    let slow = PolicyAction::Slow(Slow { requests_per_second: 1.0, key_header: "k".to_owned(), waiting_max: 1 });
    let mut money = policy("money", 1, slow);
    money.route = Some("/draw/pay".to_owned());
    let wide = policy("wide", 2, users(50.0));
    let found = overlaps(&[narrow, wide, other, elsewhere, money]);
    let pair =
        |earlier: &str, later: &str, relation| Overlap { earlier: earlier.into(), later: later.into(), relation };
    assert_eq!(
        found,
        [
            pair("narrow", "money", Relation::Before),
            pair("narrow", "wide", Relation::Governed),
            pair("money", "wide", Relation::Before),
            pair("wide", "other", Relation::Before),
            pair("narrow", "elsewhere", Relation::Governed),
            pair("money", "elsewhere", Relation::Before),
            pair("wide", "elsewhere", Relation::Shadowed),
            pair("other", "elsewhere", Relation::Before),
        ]
    );
}

fn slow_on(name: &str, order: u32, route: &str) -> Policy {
    let slow = PolicyAction::Slow(Slow { requests_per_second: 1.0, key_header: "k".to_owned(), waiting_max: 1 });
    Policy { route: Some(route.to_owned()), ..policy(name, order, slow) }
}

#[test]
fn two_slow_policies_overlap_on_new_requests_alone() {
    let found = overlaps(&[slow_on("part", 1, "/pay/x"), slow_on("all", 2, "/pay"), slow_on("late", 3, "/pay/x")]);
    let relations: Vec<_> = found.iter().map(|at| (at.earlier.as_str(), at.later.as_str(), at.relation)).collect();
    let wanted = [
        ("part", "all", Relation::GovernedLane),
        ("part", "late", Relation::ShadowedLane),
        ("all", "late", Relation::ShadowedLane),
    ];
    assert_eq!(relations, wanted);
}

#[test]
fn what_a_lane_releases_is_slowed_by_no_policy_and_asked_by_all_others() {
    let in_force = |policy| InForce { policy, version: 1, ends_us: 2 * NOW };
    let policies = vec![slow_on("mine", 1, "/"), slow_on("another", 2, "/"), policy("quiet", 3, suppress())];
    let (set, refused) = PolicySet::compile(policies.into_iter().map(in_force).collect(), &Place::default());
    assert!(refused.is_empty(), "{refused:?}");
    let released = set.decide_released(&head(1), NOW).map(|taken| taken.entry.policy.name.to_string());
    assert_eq!((taker(&set, &head(1)).as_deref(), released.as_deref()), (Some("mine"), Some("quiet")));
}

proptest::proptest! {
    /// The decision of the set is that of a slow reading of the rules.
    #[test]
    fn decisions_follow_the_rules(
        specs in proptest::collection::vec((0_u32..3, 0_u8..4, proptest::bool::ANY, 0_u8..4), 0..8),
        user in 0_u64..50, level in 0_u16..4, draw in proptest::bool::ANY,
    ) {
        let policies: Vec<Policy> = specs.iter().enumerate().map(|(at, (order, kind, routed, how))| {
            let action = match kind {
                0 => suppress(),
                1 => levels(*how),
                2 => users(f64::from(*how) * 30.0),
                _ => PolicyAction::Degrade(model::Degrade { cached_seconds_max: Some(1), answer: None }),
            };
            let mut one = policy(&format!("p{at}"), *order, action);
            one.route = routed.then(|| "/draw".to_owned());
            one
        }).collect();
        let head = Head { priority: level << 10, path: if draw { "/draw/x" } else { "/" }, ..head(user) };
        let mut sorted: Vec<&Policy> = policies.iter().collect();
        sorted.sort_by_key(|p| (p.order, Severity::of(&p.action), p.name.clone()));
        let mut seen = std::collections::BTreeSet::new();
        let wanted = sorted.into_iter().filter(|p| (p.route.is_none() || draw) && seen.insert(Severity::of(&p.action))).find(|p| {
            match &p.action {
                PolicyAction::Throttle(Throttle::BusinessLevelsFrom(from)) => level >= u16::from(*from),
                PolicyAction::Throttle(Throttle::UsersPercent(percent)) => user_share(user) * 100.0 < *percent,
                _ => true,
            }
        });
        let set = compiled(policies.clone());
        proptest::prop_assert_eq!(taker(&set, &head), wanted.map(|p| p.name.to_string()));
    }
}
