//! What is kept, for whom, for how long, and how much of it.

use super::*;
use http::HeaderValue;

const S: u64 = 1_000_000;

fn policy(name: &str) -> PolicyName {
    name.parse().expect("a name")
}

fn key(target: &str, headers: &HeaderMap) -> Key {
    of_user(target, headers, None)
}

fn of_user(target: &str, headers: &HeaderMap, user: Option<u64>) -> Key {
    Key::new(&policy("feed"), (&Method::GET, "shop", target), headers, user).expect("a GET")
}

fn with(name: header::HeaderName, value: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
}

#[test]
fn an_answer_is_given_while_it_is_young_and_only_to_whom_it_was_given() {
    let mut cache = AnswerCache::default();
    let alice = key("/feed?n=1", &with(header::COOKIE, "uid=alice"));
    assert!(matches!(cache.find(&alice, 60 * S, 0), Found::Fetch));
    assert!(matches!(cache.find(&alice, 60 * S, S / 2), Found::Missing), "one fetches, others do not");
    cache.keep(alice.clone(), StatusCode::OK, &with(header::ETAG, "1"), Bytes::from("hers"), S);
    let Found::Fresh(reply) = cache.find(&alice, 60 * S, 61 * S) else { panic!("it is 60 s old") };
    assert_eq!((reply.body.as_ref(), &reply.headers[header::ETAG]), (b"hers".as_ref(), &HeaderValue::from_static("1")));
    assert!(matches!(cache.find(&alice, 60 * S, 61 * S + 1), Found::Fetch));
    let bob = key("/feed?n=1", &with(header::COOKIE, "uid=bob"));
    assert!(matches!(cache.find(&bob, 60 * S, 2 * S), Found::Fetch));
    let post = Key::new(&policy("feed"), (&Method::POST, "shop", "/feed"), &HeaderMap::new(), None);
    assert_eq!(post, None);
}

#[test]
fn an_answer_to_one_user_is_given_to_no_other_unless_it_is_public() {
    let mut cache = AnswerCache::default();
    let none = HeaderMap::new();
    let (alice, bob, nobody) =
        (of_user("/me", &none, Some(1)), of_user("/me", &none, Some(2)), of_user("/me", &none, None));
    let fresh = |cache: &mut AnswerCache, key: &Key| matches!(cache.find(key, S, 0), Found::Fresh(_));
    cache.keep(alice.clone(), StatusCode::OK, &none, Bytes::from("hers"), 0);
    assert!(fresh(&mut cache, &alice) && !fresh(&mut cache, &bob) && !fresh(&mut cache, &nobody));
    cache.keep(nobody.clone(), StatusCode::OK, &none, Bytes::from("of one without a name"), 0);
    assert!(fresh(&mut cache, &nobody) && !fresh(&mut cache, &bob));
    let public = with(header::CACHE_CONTROL, "max-age=5, Public");
    cache.keep(alice, StatusCode::OK, &public, Bytes::from("everybody's"), 0);
    assert!(fresh(&mut cache, &bob) && fresh(&mut cache, &nobody));
}

#[test]
fn what_the_service_forbids_to_keep_is_not_kept() {
    let mut cache = AnswerCache::default();
    let of = key("/", &HeaderMap::new());
    let mut tried = |status, headers: HeaderMap| {
        cache.keep(of.clone(), status, &headers, Bytes::from("x"), 0);
        matches!(cache.find(&of, S, 0), Found::Fresh(_))
    };
    assert!(!tried(StatusCode::OK, with(header::CACHE_CONTROL, "max-age=5, No-Store")));
    assert!(!tried(StatusCode::OK, with(header::SET_COOKIE, "sid=1")));
    assert!(!tried(StatusCode::OK, with(header::VARY, "accept-encoding, x-region")));
    assert!(!tried(StatusCode::INTERNAL_SERVER_ERROR, HeaderMap::new()));
    assert!(tried(StatusCode::OK, with(header::VARY, "Accept-Encoding")));
}

#[test]
fn it_is_bounded_in_answers_and_bytes_and_ends_with_its_policy() {
    let mut cache = AnswerCache::default();
    for n in 0..ANSWERS_MAX as u64 + 500 {
        let of = key(&format!("/{n}"), &HeaderMap::new());
        cache.keep(of, StatusCode::OK, &HeaderMap::new(), Bytes::from(vec![0; 10_000]), n);
    }
    assert!(cache.kept.len() <= ANSWERS_MAX && cache.bytes <= BYTES_MAX, "{} {}", cache.kept.len(), cache.bytes);
    let newest = key(&format!("/{}", ANSWERS_MAX + 499), &HeaderMap::new());
    assert!(matches!(cache.find(&newest, u64::MAX, 0), Found::Fresh(_)), "the oldest go first");
    cache.keep(newest.clone(), StatusCode::OK, &HeaderMap::new(), Bytes::from(vec![0; BODY_BYTES_MAX + 1]), 0);
    cache.keep_policies(&PolicySet::default());
    assert_eq!((cache.kept.len(), cache.bytes), (0, 0));
}
