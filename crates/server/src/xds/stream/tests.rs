//! The stream's state machine, message by message.

use super::*;
use crate::xds::cache::Batch;
use crate::xds::encode;
use control::Endpoint;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use model::{DatacenterName, HostName, InstanceId};
use prost::Message;
use std::collections::BTreeMap as Map;
use std::time::Duration;
use tokio::time::Instant;

fn endpoint(number: u32) -> Endpoint {
    Endpoint {
        instance: InstanceId::new(format!("pay-{number}")).expect("a name"),
        host: HostName::new("host-a").expect("a name"),
        datacenter: DatacenterName::new("north").expect("a name"),
        address: ([127, 0, 0, 1], 20_000 + number as u16).into(),
        weight: 1_000,
        draining: false,
    }
}

fn set(cache: &Cache, service: &str, count: u32) {
    let endpoints: Vec<Endpoint> = (0..count).map(endpoint).collect();
    change(cache, |batch| batch.set(Type::Endpoints, service, &encode::endpoints(service, &endpoints, None)));
}

fn change(cache: &Cache, changes: impl FnOnce(&mut Batch)) {
    let mut batch = cache.batch();
    changes(&mut batch);
    batch.commit();
}

fn ask(of: Type, names: &[&str], nonce: &str) -> DiscoveryRequest {
    DiscoveryRequest {
        type_url: of.url().to_owned(),
        resource_names: names.iter().map(|&name| name.to_owned()).collect(),
        response_nonce: nonce.to_owned(),
        ..Default::default()
    }
}

fn names(answer: &DiscoveryResponse) -> Vec<String> {
    let read = |any: &envoy_types::pb::google::protobuf::Any| {
        ClusterLoadAssignment::decode(&*any.value).expect("an assignment")
    };
    answer.resources.iter().map(|any| read(any).cluster_name).collect()
}

#[test]
fn only_what_was_asked_for_and_changed_is_sent() {
    let cache = Cache::default();
    let mut stream = Stream::default();
    set(&cache, "pay", 1);
    set(&cache, "gift", 1);
    set(&cache, "sso", 1);
    let first = stream.request(&cache, &ask(Type::Endpoints, &["pay", "gift"], "")).expect("accepted");
    assert_eq!(names(&first[0]), ["gift", "pay"]);
    assert!(
        stream.request(&cache, &ask(Type::Endpoints, &["pay", "gift"], &first[0].nonce)).expect("an ack").is_empty()
    );
    assert!(stream.changed(&cache).is_empty(), "nothing new since");
    set(&cache, "sso", 2);
    assert!(stream.changed(&cache).is_empty(), "not subscribed");
    set(&cache, "pay", 2);
    let second = stream.changed(&cache);
    assert_eq!(second.len(), 1);
    assert_eq!(names(&second[0]), ["pay"]);
    assert_ne!(second[0].version_info, first[0].version_info);
    set(&cache, "pay", 2);
    assert!(stream.changed(&cache).is_empty(), "the same bytes are no change");
}

#[test]
fn a_refused_answer_is_not_sent_again_until_it_changes() {
    let cache = Cache::default();
    let mut stream = Stream::default();
    set(&cache, "pay", 1);
    let first = stream.request(&cache, &ask(Type::Endpoints, &["pay"], "")).expect("accepted");
    let mut refusal = ask(Type::Endpoints, &["pay"], &first[0].nonce);
    refusal.error_detail = Some(Default::default());
    assert!(stream.request(&cache, &refusal).expect("noted").is_empty());
    assert_eq!(stream.refusals, 1);
    set(&cache, "pay", 2);
    assert_eq!(stream.changed(&cache).len(), 1);
}

#[test]
fn a_stale_nonce_is_ignored_and_new_names_are_answered() {
    let cache = Cache::default();
    let mut stream = Stream::default();
    set(&cache, "pay", 1);
    set(&cache, "gift", 1);
    let first = stream.request(&cache, &ask(Type::Endpoints, &["pay"], "")).expect("accepted");
    assert!(stream.request(&cache, &ask(Type::Endpoints, &["pay", "gift"], "77")).expect("ignored").is_empty());
    let more = stream.request(&cache, &ask(Type::Endpoints, &["pay", "gift"], &first[0].nonce)).expect("accepted");
    assert_eq!(names(&more[0]), ["gift"], "pay is there already");
}

#[test]
fn endpoints_that_never_were_are_not_answered_as_empty() {
    let cache = Cache::default();
    let mut stream = Stream::default();
    assert!(stream.request(&cache, &ask(Type::Endpoints, &["pay"], "")).expect("accepted").is_empty());
    set(&cache, "pay", 1);
    assert_eq!(names(&stream.changed(&cache)[0]), ["pay"]);
    change(&cache, |batch| batch.remove(Type::Endpoints, "pay"));
    assert!(stream.changed(&cache).is_empty(), "a deleted service leaves by its cluster");
}

#[test]
fn clusters_are_sent_whole_and_bring_their_endpoints_along() {
    let cache = Cache::default();
    let mut stream = Stream::default();
    let cluster = |text: &str| encode::listener(text, ([127, 0, 0, 1], 1).into());
    let empty = stream.request(&cache, &ask(Type::Cluster, &[], "")).expect("accepted");
    assert_eq!((empty.len(), empty[0].resources.len()), (1, 0), "a first answer comes even when there is nothing yet");
    set(&cache, "pay", 1);
    change(&cache, |batch| {
        batch.set(Type::Cluster, "pay", &cluster("one"));
        batch.set(Type::Cluster, "gift", &cluster("one"));
    });
    let sent = stream.changed(&cache);
    assert_eq!(sent.iter().map(|answer| answer.resources.len()).collect::<Vec<_>>(), [2]);
    let endpoints = stream.request(&cache, &ask(Type::Endpoints, &["pay"], "")).expect("accepted");
    assert_eq!(endpoints.len(), 1);
    change(&cache, |batch| batch.set(Type::Cluster, "pay", &cluster("two")));
    let sent = stream.changed(&cache);
    assert_eq!(sent.len(), 2, "Envoy warms a changed cluster and waits for its endpoints");
    assert_eq!(sent[0].resources.len(), 2);
    assert_eq!(names(&sent[1]), ["pay"]);
    change(&cache, |batch| batch.remove(Type::Cluster, "gift"));
    assert_eq!(stream.changed(&cache)[0].resources.len(), 1);
}

#[test]
fn what_changes_together_is_sent_together() {
    let cache = Cache::default();
    let mut stream = Stream::default();
    let cluster = |text: &str| encode::listener(text, ([127, 0, 0, 1], 1).into());
    stream.request(&cache, &ask(Type::Cluster, &[], "")).expect("accepted");
    let wakes = cache.wakes();
    let mut batch = cache.batch();
    batch.set(Type::Cluster, "bank", &cluster("one"));
    batch.set(Type::Cluster, "sso", &cluster("one"));
    // Set and taken away again in the same batch: as if it had never been.
    batch.set(Type::Cluster, "pay", &cluster("one"));
    batch.remove(Type::Cluster, "pay");
    assert!(stream.changed(&cache).is_empty() && !wakes.has_changed().expect("open"), "half of it is nobody's");
    batch.commit();
    assert!(wakes.has_changed().expect("open"));
    assert_eq!(stream.changed(&cache)[0].resources.len(), 2);
    let mut wakes = cache.wakes();
    wakes.mark_unchanged();
    change(&cache, |batch| batch.set(Type::Cluster, "sso", &cluster("one")));
    assert!(!wakes.has_changed().expect("open"), "the same bytes are no change");
}

#[test]
fn a_stream_that_fell_behind_the_log_compares_everything() {
    let cache = Cache::default();
    let mut stream = Stream::default();
    set(&cache, "pay", 1);
    stream.request(&cache, &ask(Type::Endpoints, &["pay"], "")).expect("accepted");
    stream.changed(&cache);
    set(&cache, "pay", 3);
    for round in 0..5_000 {
        set(&cache, "other", 1 + round % 2);
    }
    assert_eq!(names(&stream.changed(&cache)[0]), ["pay"]);
}

#[test]
fn the_life_of_an_override_is_written_when_it_is_sent() {
    use envoy_types::pb::google::protobuf::value::Kind;
    let cache = Cache::default();
    let life = |left: Duration| {
        let until = Instant::now() + left;
        let weights = Map::from([("pay-1".to_owned(), 0)]);
        change(&cache, |batch| batch.set_leased("pay", &[endpoint(1)], weights, until));
        let (_, any) = cache.view().get(Type::Endpoints, "pay").expect("set");
        let read = ClusterLoadAssignment::decode(&*any.value).expect("an assignment");
        let metadata = read.endpoints[0].lb_endpoints[0].metadata.clone().expect("ours");
        match metadata.filter_metadata[encode::METADATA].fields.get("override_life_ms")?.kind {
            Some(Kind::NumberValue(ms)) => Some(ms),
            _ => None,
        }
    };
    let left = life(Duration::from_secs(60)).expect("it lives");
    assert!(left <= 60_000.0 && left > 50_000.0, "{left}");
    assert_eq!(life(Duration::ZERO), None, "a lapsed lease is not sent");
}

#[test]
fn only_what_the_client_took_is_confirmed() {
    let cache = Cache::default();
    set(&cache, "pay", 1);
    let mut stream = Stream::new(cache.view().version());
    assert_eq!(stream.confirmed(), None, "it has not asked yet");
    let first = stream.request(&cache, &ask(Type::Endpoints, &["pay"], "")).expect("accepted");
    assert_eq!(stream.confirmed(), None, "the answer is on its way");
    stream.request(&cache, &ask(Type::Endpoints, &["pay"], &first[0].nonce)).expect("an ack");
    assert_eq!(stream.confirmed(), Some(cache.view().version()));
    set(&cache, "gift", 1);
    assert!(stream.confirmed() < Some(cache.view().version()), "it was not told of the newest change");
    assert!(stream.changed(&cache).is_empty(), "which does not concern it");
    assert_eq!(stream.confirmed(), Some(cache.view().version()));
    set(&cache, "pay", 2);
    let second = stream.changed(&cache);
    assert_eq!(stream.confirmed(), None);
    let mut refusal = ask(Type::Endpoints, &["pay"], &second[0].nonce);
    refusal.error_detail = Some(Default::default());
    stream.request(&cache, &refusal).expect("noted");
    assert_eq!(stream.confirmed(), None, "a refusal confirms nothing");
}
