//! The pure parts of a request's context: forgery, sources, clocks.

use super::*;
use crate::dry_run::WorkerSample;
use crate::endpoint::Clock;
use crate::protect::{Shared, UserSource};
use http::header::HeaderValue;
use std::net::IpAddr;
use std::sync::Arc;

const SECOND_US: u64 = 1_000_000;

fn protection() -> Protection {
    Protection::new(
        Arc::new(Shared::new(Settings::default(), "token", "east", None, 1, Clock::start())),
        WorkerSample::default(),
    )
}

fn arrival(outside: bool, now_us: u64) -> Arrival<'static> {
    Arrival {
        outside,
        peer: Box::leak(Box::new(Peer::from("10.0.0.1".parse::<IpAddr>().expect("an address")))),
        service: "lottery",
        business_level: 8,
        timeout: Duration::from_secs(15),
        now_us,
    }
}

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    pairs.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
}

fn uri(text: &'static str) -> Uri {
    Uri::from_static(text)
}

#[test]
fn nothing_that_comes_from_outside_is_believed() {
    let forged = headers(&[
        ("x-springtide-priority", "0"),
        ("x-springtide-user", "0000000000000001"),
        ("x-springtide-deadline-ms", "999999"),
        ("x-springtide-attempt", "7"),
        ("x-springtide-admitted", "lottery"),
        ("x-springtide-lane", "cash"),
    ]);
    let protection = protection();
    let context = protection.context(&arrival(true, SECOND_US), &forged, &uri("/draw?uid=7"));
    let honest = protection.context(&arrival(true, SECOND_US), &HeaderMap::new(), &uri("/draw?uid=7"));
    assert_eq!((context.priority, context.user), (honest.priority, honest.user));
    assert_eq!(context.priority.business(), 8);
    assert_eq!(context.deadline.at_us(), 16 * SECOND_US);
    assert!(context.attempt == 0 && !context.passes && !context.from_lane);
}

#[test]
fn on_the_mesh_it_is_believed_when_it_can_be_read_and_derived_alike_when_not() {
    let protection = protection();
    let set = headers(&[
        ("x-springtide-priority", "700"),
        ("x-springtide-user", "00000000000000ff"),
        ("x-springtide-deadline-ms", "250"),
        ("x-springtide-attempt", "1"),
        ("x-springtide-admitted", "sso, lottery"),
    ]);
    let context = protection.context(&arrival(false, SECOND_US), &set, &uri("/"));
    assert_eq!((context.priority.as_u16(), context.user.map(UserHash::as_u64)), (700, Some(255)));
    assert_eq!((context.deadline.at_us(), context.attempt, context.passes), (1_250_000, 1, true));
    let wrong = headers(&[
        ("x-springtide-priority", "-1"),
        ("x-springtide-user", "zz"),
        ("x-springtide-deadline-ms", "soon"),
        ("x-springtide-attempt", "1e9"),
        ("x-springtide-admitted", "lotterys"),
    ]);
    let context = protection.context(&arrival(false, SECOND_US), &wrong, &uri("/draw?uid=7"));
    let entry = protection.context(&arrival(true, SECOND_US), &HeaderMap::new(), &uri("/draw?uid=7"));
    assert_eq!(
        (context.priority, context.user),
        (entry.priority, entry.user),
        "the same user, the same level, at each hop"
    );
    assert_eq!((context.deadline.at_us(), context.attempt, context.passes), (16 * SECOND_US, 0, false));
    let endless = headers(&[("x-springtide-deadline-ms", "18446744073709551615")]);
    let context = protection.context(&arrival(false, SECOND_US), &endless, &uri("/"));
    assert_eq!(context.deadline.at_us(), 16 * SECOND_US, "no deadline outlives the service's own limit");
}

#[test]
fn a_user_is_found_by_the_sources_in_order() {
    let of = |text: &str, headers: &HeaderMap, target: &'static str| {
        let sources: UserSource = text.parse().expect("well formed");
        let target = uri(target);
        sources.0.iter().find_map(|source| find(source, headers, &target)).map(<[u8]>::to_vec)
    };
    let all = headers(&[("x-user-id", "h"), ("cookie", "a=1; uid=c; uidx=2")]);
    assert_eq!(of("header:x-user-id,cookie:uid", &all, "/?uid=q"), Some(b"h".to_vec()));
    assert_eq!(of("cookie:uid,header:x-user-id", &all, "/?uid=q"), Some(b"c".to_vec()));
    assert_eq!(of("query:uid", &all, "/?xuid=1&uid=q&uid=r"), Some(b"q".to_vec()));
    assert_eq!(of("query:uid,cookie:none", &all, "/?uid="), None);
    let protection = protection();
    let nobody = |outside| protection.context(&arrival(outside, 0), &HeaderMap::new(), &uri("/"));
    assert_eq!(nobody(true).user, nobody(true).user, "outside, the address stands for the user");
    assert_eq!(nobody(false).user, None, "on the mesh it is a service's");
    let levels: std::collections::BTreeSet<u16> = (0..64).map(|_| nobody(false).priority.user_level() / 64).collect();
    assert!(levels.len() >= 14, "requests without a user are spread over the levels: {levels:?}");
}

#[test]
fn what_is_written_is_what_is_read_and_time_only_runs_out() {
    let protection = protection();
    let context = protection.context(&arrival(true, 5 * SECOND_US), &HeaderMap::new(), &uri("/?uid=7"));
    let written = |now_us| {
        let mut sent = HeaderMap::new();
        Told { context: Some((context, now_us)), ..Told::default() }.write(&mut sent);
        sent
    };
    let sent = written(7 * SECOND_US);
    let heard = protection.context(&arrival(false, 7 * SECOND_US), &sent, &uri("/"));
    assert_eq!((heard.priority, heard.user, heard.attempt), (context.priority, context.user, 0));
    assert_eq!(heard.deadline.at_us(), context.deadline.at_us(), "another proxy with the same clock");
    assert_eq!(written(99 * SECOND_US)[&DEADLINE_MS], "0", "never less than nothing");
    let back = Context { now_us: 0, ..context };
    assert!(back.remaining(0) <= Duration::from_secs(20), "a clock that goes back gives no endless time");
}
