//! Any resource, for property tests.

use model::*;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use std::fmt::Debug;
use std::str::FromStr;

fn name<T: FromStr<Err: Debug> + Debug>() -> impl Strategy<Value = T> {
    "[a-z0-9]([a-z0-9.-]{0,10}[a-z0-9])?".prop_map(|text| text.parse().expect("the pattern gives names"))
}

/// A text with all that makes YAML stumble.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "\\PC{0,20}",
        "[ -~\n\t]{0,30}",
        prop::sample::select(vec![
            "", "~", "null", "yes", "1.10", "0x1f", "- a", "a: b", "# no", "'", "\"", "|", "\n", " x ", "${A}$$"
        ])
        .prop_map(str::to_owned),
    ]
}

fn filled() -> impl Strategy<Value = String> {
    text().prop_filter("not empty", |text| !text.is_empty())
}

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.0), 0.0..1e12, 1e-9..1.0, (0_u32..10_000).prop_map(f64::from)]
}

fn port() -> impl Strategy<Value = String> {
    "[a-z0-9_]{1,8}"
}

fn shape() -> impl Strategy<Value = Shape> {
    (100_u32..64_000, 1_u64..1 << 40, 1_u32..10_000).prop_map(|(cpu, memory, pids_max)| Shape {
        cpu: CpuMillis(cpu),
        memory: MemoryBytes(memory),
        pids_max,
    })
}

fn layer() -> impl Strategy<Value = Layer> {
    prop::sample::select(vec![Layer::Access, Layer::Logic, Layer::Storage])
}

fn hook() -> impl Strategy<Value = Hook> {
    let call = prop_oneof![
        vec(text(), 1..4).prop_map(HookCall::Command),
        Just(HookCall::Webhook("http://127.0.0.1:1/x".to_owned()))
    ];
    let steps = vec![StepName::Attributes, StepName::Deploy, StepName::Start, StepName::Gray, StepName::Report];
    (prop::sample::select(vec![HookWhen::Before, HookWhen::After]), prop::sample::select(steps), call, 1_u32..3_600_000)
        .prop_map(|(when, step, call, timeout_ms)| Hook { when, step, call, timeout_ms })
}

fn health_check() -> impl Strategy<Value = HealthCheck> {
    ("/[a-z/]{0,10}", option::of(port()), 10_u32..3_600_000, 1_u32..3_600_000, 1_u32..1_000, 1_u32..86_400_000)
        .prop_map(|(path, port, interval_ms, timeout_ms, failures_max, start_ms_max)| HealthCheck {
            path,
            port,
            interval_ms,
            timeout_ms,
            failures_max,
            start_ms_max,
        })
}

fn metrics() -> impl Strategy<Value = ServiceMetrics> {
    (option::of(port()), "/[a-z/]{0,10}", 1_000_u32..3_600_000).prop_map(|(port, path, interval_ms)| ServiceMetrics {
        port,
        path,
        interval_ms,
    })
}

fn traffic() -> impl Strategy<Value = Traffic> {
    let protocol = prop::sample::select(vec![Protocol::Http1, Protocol::Http2]);
    let balance = prop::sample::select(vec![Balance::LeastLoad, Balance::UserHash]);
    (protocol, balance, option::of("[a-z][a-z0-9-]{0,8}"), option::of(1_u32..9_999)).prop_map(
        |(protocol, balance, hash_header, connections_max)| Traffic { protocol, balance, hash_header, connections_max },
    )
}

fn service() -> impl Strategy<Value = Service> {
    let route = (option::of(filled()), "/[a-z]{0,8}").prop_map(|(host, path_prefix)| Route { host, path_prefix });
    let dependency = (name::<ServiceName>(), number())
        .prop_map(|(on, calls_per_request)| Dependency { on: on.to_string(), calls_per_request });
    let what = (name(), name(), layer(), name(), vec(text(), 0..4), option::of(name()), option::of(name()), shape());
    let calls =
        (vec(port(), 0..3), vec(route, 0..3), vec(dependency, 0..3), option::of(health_check()), option::of(metrics()));
    let levels = vec![Criticality::Low, Criticality::Normal, Criticality::High, Criticality::Critical];
    let wanted =
        (btree_map(name(), 0_u32..1_000_000, 0..4), prop::sample::select(levels), name(), option::of(1_u32..9));
    let rest = (vec(name(), 0..2), 1_u32..9_999, number(), 0_u32..9_999, 0_u32..9_999);
    let data = (vec(text(), 0..3), option::of(0_u32..9_999), vec(hook(), 0..3), traffic());
    (what, calls, wanted, rest, data).prop_map(|(what, calls, wanted, rest, data)| Service {
        name: what.0,
        business: what.1,
        layer: what.2,
        package: what.3,
        args: what.4,
        config: what.5,
        environment: what.6,
        shape: what.7,
        ports: calls.0,
        routes: calls.1,
        dependencies: calls.2,
        health_check: calls.3,
        metrics: calls.4,
        instances: wanted.0,
        criticality: wanted.1,
        pool: wanted.2,
        per_host_max: wanted.3,
        avoid: rest.0,
        slo: Slo { latency_p99_ms: rest.1, error_rate: rest.2 },
        stop: Stop { drain_ms: rest.3, grace_ms: rest.4 },
        persistent_paths: data.0,
        cache_seconds_max: data.1,
        hooks: data.2,
        traffic: data.3,
    })
}

fn facility() -> impl Strategy<Value = Resource> {
    let address = prop_oneof![any::<[u8; 4]>().prop_map(Into::into), any::<[u8; 16]>().prop_map(Into::into)];
    let host = (name(), name(), name(), address, name(), option::of(layer()), 1_u16.., 1_u16..).prop_map(
        |(name, rack, host_type, address, pool, exclusive, first, last)| {
            let ports = PortRange { first, last };
            Resource::Host(Host { name, rack, host_type, address, pool, exclusive, ports })
        },
    );
    let watts = || option::of((1_u32..).prop_map(PowerWatts));
    prop_oneof![
        name().prop_map(|name| Resource::Region(Region { name })),
        name().prop_map(|name| Resource::Business(Business { name })),
        (name(), name()).prop_map(|(name, region)| Resource::Datacenter(Datacenter { name, region })),
        (name(), name(), watts()).prop_map(|(name, datacenter, power_watts_max)| {
            Resource::Rack(Rack { name, datacenter, power_watts_max })
        }),
        (name(), name(), name(), 1_u64..).prop_map(|(name, a, b, mbps)| {
            Resource::Circuit(Circuit { name, between: [a, b], bandwidth_mbps: BandwidthMbps(mbps) })
        }),
        (name(), shape(), watts()).prop_map(|(name, shape, power_watts)| {
            Resource::HostType(HostType { name, cpu: shape.cpu, memory: shape.memory, power_watts })
        }),
        host,
    ]
}

fn answer() -> impl Strategy<Value = Answer> {
    (200_u16..600, btree_map("[a-z]{1,5}", text(), 0..3), text()).prop_map(|(status, headers, body)| Answer {
        status,
        headers,
        body,
    })
}

fn action() -> impl Strategy<Value = PolicyAction> {
    let slow = (number(), "[a-z]{1,5}", 1_u32..).prop_map(|(rate, key_header, waiting_max)| Slow {
        requests_per_second: rate,
        key_header,
        waiting_max,
    });
    prop_oneof![
        number().prop_map(|percent| PolicyAction::Throttle(Throttle::UsersPercent(percent))),
        number().prop_map(|rate| PolicyAction::Throttle(Throttle::RequestsPerSecond(rate))),
        (0_u8..64).prop_map(|from| PolicyAction::Throttle(Throttle::BusinessLevelsFrom(from))),
        answer().prop_map(PolicyAction::Suppress),
        (option::of(1_u32..86_400), option::of(answer()))
            .prop_map(|(cached_seconds_max, answer)| PolicyAction::Degrade(Degrade { cached_seconds_max, answer })),
        slow.prop_map(PolicyAction::Slow),
    ]
}

fn policy() -> impl Strategy<Value = Policy> {
    let scope = (option::of(name()), option::of(name()), option::of("/[a-z]{0,6}"), option::of(name()));
    let when = option::of("[a-z.]{1,9} [<>=]= [\"'a-z0-9:#]{1,9}");
    let end = (0_u64..4_000_000_000_000).prop_map(Expiry::at);
    (name(), scope, when, action(), any::<u32>(), end, option::of(name())).prop_map(
        |(name, (business, service, route, datacenter), when, action, order, expires_at, preset)| Policy {
            name,
            business,
            service,
            route,
            datacenter,
            when,
            action,
            order,
            expires_at,
            preset,
        },
    )
}

fn preset_policy() -> impl Strategy<Value = PresetPolicy> {
    let life = (1_u64..86_400).prop_map(|seconds| format!("{seconds}s").parse().expect("a life"));
    (policy(), life).prop_map(|(of, life)| PresetPolicy {
        name: of.name,
        business: of.business,
        service: of.service,
        route: of.route,
        datacenter: of.datacenter,
        when: of.when,
        action: of.action,
        order: of.order,
        r#for: life,
    })
}

/// Any resource.
pub fn resource() -> impl Strategy<Value = Resource> {
    let variables = || btree_map("[A-Z_][A-Z0-9_]{0,8}", text(), 0..4);
    let digest = option::of(text().prop_map(|text| Digest::of(text.as_bytes())));
    prop_oneof![
        4 => facility(),
        4 => service().prop_map(Resource::Service),
        1 => (name(), number(), option::of(Just("127.0.0.1:9".to_owned()))).prop_map(|(name, most, address)| {
            Resource::External(External { name, requests_per_second_max: most, address })
        }),
        1 => (name(), filled(), digest, option::of(filled()), vec(text(), 0..4)).prop_map(
            |(name, version, digest, source, command)| Resource::Package(Package { name, version, digest, source, command })
        ),
        1 => (name(), variables(), btree_map(name(), variables(), 0..3)).prop_map(|(name, variables, datacenters)| {
            Resource::Environment(Environment { name, variables, datacenters })
        }),
        1 => (name(), btree_map("[a-z]{1,8}(/[a-z.]{1,4}x)?", text(), 0..4))
            .prop_map(|(name, files)| Resource::ConfigSet(ConfigSet { name, files })),
        2 => policy().prop_map(Resource::Policy),
        2 => (name(), vec(preset_policy(), 0..3))
            .prop_map(|(name, policies)| Resource::Preset(Preset { name, policies })),
        1 => (name(), name(), option::of((0_u64..4_000_000_000_000).prop_map(model::time::rfc3339)), btree_map(name(), number(), 0..3))
            .prop_map(|(name, business, starts_at, entry_requests_per_second)| {
                Resource::Event(Event { name, business, starts_at, ends_at: None, entry_requests_per_second })
            }),
    ]
}

/// A piece of something like a manifest.
pub fn piece() -> impl Strategy<Value = String> {
    let pieces = vec![
        "kind: Service\n",
        "kind: Host\n",
        "kind: Package\n",
        "name: a\n",
        "---\n",
        "...\n",
        "shape: ",
        "{",
        "}",
        "[",
        "]",
        ", ",
        ": ",
        "- ",
        "\n",
        "  ",
        "&a ",
        "*a",
        "!!str ",
        "|\n",
        "\"",
        "'",
        "instances: {a: 1}\n",
        "%YAML 1.2\n",
        "? ",
        "<<: ",
        "#x\n",
        "\t",
        "${",
        "\u{feff}",
        "1C1G",
    ];
    prop_oneof![8 => prop::sample::select(pieces).prop_map(str::to_owned), 1 => "\\PC{0,5}"]
}
