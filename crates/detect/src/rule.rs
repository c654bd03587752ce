//! Alert rules of the user's own: a signal beyond a value for some time.
//!
//! `latency_p99(service=pay) > 250ms for 30s`, `errors(service=*) > 2% for 10s`, `cpu(host=web-*) > 90% for 5m`,
//! `requests(instance=lottery-3) < 1 for 15s`. Units are the signal's: ms, %, MiB or plain numbers.

use crate::finding::{EntityKind, EntityRef, Signal};
use crate::frame::{Frame, count};
use crate::topology::Topology;
use std::collections::BTreeMap;

/// Rules in force at most.
pub const RULES_MAX: usize = 200;
/// Entities beyond their rule's value at the same time; the rest is not watched.
const BREACHES_MAX: usize = 10_000;
/// Longest time a rule may ask for.
const FOR_S_MAX: u64 = 86_400;
/// A rule that holds ends when its value was within, or nobody told it, for so long: a single second is no end.
const QUIET_S: u64 = 5;

/// What a rule looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Measure {
    Requests,
    Errors,
    Rejects,
    Latency,
    LatencyTail,
    InFlight,
    Cpu,
    Memory,
    Pressure,
}

/// Entities a rule covers: a kind, and a name in which a trailing `*` stands for anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleScope {
    /// Service, instance or host.
    pub kind: EntityKind,
    /// Name, prefix followed by `*`, or `*`.
    pub pattern: String,
}

/// A rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Its text.
    pub text: String,
    /// What it covers.
    pub scope: RuleScope,
    measure: Measure,
    above: bool,
    value: f32,
    for_s: u64,
}

/// Why a text is no rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("rule {text:?}, column {column}: {what}; a rule looks like `latency_p99(service=pay) > 250ms for 30s`")]
pub struct RuleFault {
    /// The text.
    pub text: String,
    /// Where, from 1.
    pub column: usize,
    /// What is wrong, and what would be right.
    pub what: String,
}

const MEASURES: &[(&str, Measure)] = &[
    ("requests", Measure::Requests),
    ("errors", Measure::Errors),
    ("rejects", Measure::Rejects),
    ("latency_p50", Measure::Latency),
    ("latency_p99", Measure::LatencyTail),
    ("in_flight", Measure::InFlight),
    ("cpu", Measure::Cpu),
    ("memory", Measure::Memory),
    ("pressure", Measure::Pressure),
];

impl Rule {
    /// Reads a rule.
    ///
    /// # Errors
    /// Where the text stops being a rule, and what would be right there.
    pub fn parse(text: &str) -> Result<Self, RuleFault> {
        let fault =
            |rest: &str, what: String| RuleFault { text: text.to_owned(), column: text.len() - rest.len() + 1, what };
        let begin = text.trim_start();
        let (name, rest) = begin.split_once('(').ok_or_else(|| fault(begin, "no `(` after the signal".to_owned()))?;
        let names = || MEASURES.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        let measure = MEASURES.iter().find(|(known, _)| *known == name.trim()).map(|(_, measure)| *measure);
        let measure = measure.ok_or_else(|| fault(begin, format!("no signal {:?}: use {}", name.trim(), names())))?;
        let (scope_text, after) = rest.split_once(')').ok_or_else(|| fault(rest, "no `)`".to_owned()))?;
        let scope = scope(scope_text).ok_or_else(|| {
            fault(rest, "the scope is service=NAME, instance=NAME or host=NAME; NAME may end in `*`".to_owned())
        })?;
        if !fits(measure, scope.kind) {
            return Err(fault(begin, format!("{} has no {}", scope_text.trim(), name.trim())));
        }
        let after = after.trim_start();
        let above = match after.chars().next() {
            Some('>') => true,
            Some('<') => false,
            _ => return Err(fault(after, "`>` or `<` is wanted here".to_owned())),
        };
        let after = after[1..].trim_start();
        let (value_text, time_text) = after.split_once(" for ").unwrap_or((after, "0s"));
        let value = value(value_text.trim(), measure)
            .ok_or_else(|| fault(after, format!("{:?} is no value of {}", value_text.trim(), name.trim())))?;
        let for_s = seconds(time_text.trim())
            .ok_or_else(|| fault(time_text, "a time is a number with s, m or h, at most 24h".to_owned()))?;
        Ok(Self { text: text.trim().to_owned(), scope, measure, above, value, for_s })
    }

    /// Seconds for which it must be beyond its value.
    pub fn for_s(&self) -> u64 {
        self.for_s
    }

    /// The signal that it looks at.
    pub fn signal(&self) -> Signal {
        match self.measure {
            Measure::Requests => Signal::Requests,
            Measure::Errors => Signal::Errors,
            Measure::Rejects => Signal::Rejects,
            Measure::Latency => Signal::Latency,
            Measure::LatencyTail => Signal::LatencyTail,
            Measure::InFlight => Signal::InFlight,
            Measure::Cpu => Signal::Cpu,
            Measure::Memory => Signal::Memory,
            Measure::Pressure => Signal::Pressure,
        }
    }

    fn breached(&self, value: f32) -> bool {
        value.is_finite() && if self.above { value > self.value } else { value < self.value }
    }
}

fn scope(text: &str) -> Option<RuleScope> {
    let (kind, pattern) = text.split_once('=')?;
    let kind = match kind.trim() {
        "service" => EntityKind::Service,
        "instance" => EntityKind::Instance,
        "host" => EntityKind::Host,
        _ => return None,
    };
    let pattern = pattern.trim();
    let stars = pattern.matches('*').count();
    let good = !pattern.is_empty() && (stars == 0 || (stars == 1 && pattern.ends_with('*')));
    good.then(|| RuleScope { kind, pattern: pattern.to_owned() })
}

fn fits(measure: Measure, kind: EntityKind) -> bool {
    use Measure::{Cpu, InFlight, Memory, Pressure};
    match kind {
        EntityKind::Host => matches!(measure, Cpu | Memory | Pressure),
        EntityKind::Service => !matches!(measure, Cpu | Memory | Pressure | InFlight),
        _ => measure != Pressure,
    }
}

/// In the unit of the frame: shares as 0 to 1, ms, bytes.
fn value(text: &str, measure: Measure) -> Option<f32> {
    let with = |unit: &str, factor: f32| {
        let number: f32 = text.strip_suffix(unit)?.trim().parse().ok()?;
        Some(number * factor)
    };
    let found = match measure {
        Measure::Errors | Measure::Rejects | Measure::Pressure => with("%", 0.01).or_else(|| with("", 1.0)),
        Measure::Cpu => with("%", 0.01).or_else(|| with("", 1.0)),
        Measure::Latency | Measure::LatencyTail => {
            with("ms", 1.0).or_else(|| with("s", 1_000.0)).or_else(|| with("", 1.0))
        }
        Measure::Memory => with("GiB", 1_073_741_824.0)
            .or_else(|| with("MiB", 1_048_576.0))
            .or_else(|| with("%", 0.01))
            .or_else(|| with("", 1.0)),
        Measure::Requests | Measure::InFlight => with("", 1.0),
    };
    found.filter(|value| value.is_finite() && *value >= 0.0)
}

fn seconds(text: &str) -> Option<u64> {
    let (digits, factor) = match text.chars().last()? {
        's' => (&text[..text.len() - 1], 1),
        'm' => (&text[..text.len() - 1], 60),
        'h' => (&text[..text.len() - 1], 3_600),
        _ => (text, 1),
    };
    let seconds = digits.trim().parse::<u64>().ok()?.checked_mul(factor)?;
    (seconds <= FOR_S_MAX).then_some(seconds)
}

/// A rule that began or ended to hold for an entity.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleTurn {
    /// The rule's text.
    pub rule: String,
    /// For what.
    pub entity: EntityRef,
    /// The signal that the rule looks at.
    pub signal: Signal,
    /// True: it holds from now; false: no longer.
    pub holds: bool,
    /// The value seen.
    pub value: f32,
    /// The rule's value.
    pub limit: f32,
    /// Since when the value was beyond, unix seconds.
    pub since_s: u64,
}

/// The rules in force, and where they are breached.
#[derive(Debug, Default)]
pub struct RuleBoard {
    rules: Vec<Rule>,
    breaches: BTreeMap<(usize, String), Breach>,
}

#[derive(Debug, Clone, Copy)]
struct Breach {
    since_s: u64,
    seen_s: u64,
    told: bool,
}

impl RuleBoard {
    /// Takes these rules; breaches of others are forgotten and end.
    pub fn set(&mut self, rules: Vec<Rule>) {
        let old = std::mem::take(&mut self.breaches);
        let texts: Vec<String> = self.rules.iter().map(|rule| rule.text.clone()).collect();
        self.rules = rules;
        self.rules.truncate(RULES_MAX);
        for ((at, name), breach) in old {
            if let Some(now_at) = self.rules.iter().position(|rule| rule.text == texts[at]) {
                self.breaches.insert((now_at, name), breach);
            }
        }
    }

    /// The rules in force.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Looks at one second.
    pub fn step(&mut self, topology: &Topology, frame: &Frame) -> Vec<RuleTurn> {
        let mut turns = Vec::new();
        if self.rules.is_empty() || !frame.fits(topology) {
            return turns;
        }
        for (at, rule) in self.rules.iter().enumerate() {
            let breaches = &mut self.breaches;
            each(topology, frame, rule, &mut |name, value| {
                if !rule.breached(value) {
                    return;
                }
                let key = (at, name.to_owned());
                if !breaches.contains_key(&key) && breaches.len() >= BREACHES_MAX {
                    return;
                }
                let new = Breach { since_s: frame.second, seen_s: frame.second, told: false };
                let breach = breaches.entry(key).or_insert(new);
                breach.seen_s = frame.second;
                if !breach.told && frame.second + 1 >= breach.since_s + rule.for_s.max(1) {
                    breach.told = true;
                    turns.push(turn(rule, name, true, value, breach.since_s));
                }
            });
        }
        let rules = &self.rules;
        self.breaches.retain(|(at, name), breach| {
            let quiet_s = if breach.told { QUIET_S } else { 1 };
            let stays = frame.second < breach.seen_s + quiet_s;
            if !stays && breach.told {
                turns.push(turn(&rules[*at], name, false, f32::NAN, breach.since_s));
            }
            stays
        });
        turns
    }
}

fn turn(rule: &Rule, name: &str, holds: bool, value: f32, since_s: u64) -> RuleTurn {
    let entity = EntityRef { kind: rule.scope.kind, name: name.to_owned() };
    RuleTurn { rule: rule.text.clone(), entity, signal: rule.signal(), holds, value, limit: rule.value, since_s }
}

fn each(topology: &Topology, frame: &Frame, rule: &Rule, give: &mut dyn FnMut(&str, f32)) {
    let pattern = rule.scope.pattern.as_str();
    let covers = |name: &str| match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == pattern,
    };
    match rule.scope.kind {
        EntityKind::Host => {
            for (host, at) in topology.hosts.iter().zip(0..).filter(|(host, _)| covers(&host.name)) {
                give(&host.name, of_host(frame, at, rule.measure));
            }
        }
        EntityKind::Instance => {
            for (instance, at) in topology.instances.iter().zip(0..).filter(|(i, _)| covers(&i.name)) {
                give(&instance.name, of_instance(frame, at, rule.measure));
            }
        }
        _ => {
            for (service, at) in topology.services.iter().zip(0_u32..).filter(|(s, _)| covers(&s.name)) {
                give(&service.name, of_service(topology, frame, at, rule.measure));
            }
        }
    }
}

fn of_host(frame: &Frame, at: usize, measure: Measure) -> f32 {
    let columns = &frame.hosts;
    match measure {
        Measure::Memory => columns.memory[at],
        Measure::Pressure => columns.pressure[at],
        _ => columns.cpu[at],
    }
}

fn of_instance(frame: &Frame, at: usize, measure: Measure) -> f32 {
    let columns = &frame.instances;
    let share = |hits: f32| if columns.requests[at] > 0.0 { count(hits) / columns.requests[at] } else { 0.0 };
    match measure {
        Measure::Requests => columns.requests[at],
        Measure::Errors => share(columns.errors[at]),
        Measure::Rejects => share(columns.rejects[at]),
        Measure::Latency => columns.latency_ms[at],
        Measure::LatencyTail => columns.tail_ms[at],
        Measure::InFlight => columns.in_flight[at],
        Measure::Memory => columns.memory[at],
        Measure::Cpu | Measure::Pressure => columns.cpu[at],
    }
}

/// Counts are summed over instances and what reached none; a latency is its worst instance's.
fn of_service(topology: &Topology, frame: &Frame, service: u32, measure: Measure) -> f32 {
    let (columns, whole, at) = (&frame.instances, &frame.services, service as usize);
    let members = topology.members(service);
    let sum = |of: &[f32], own: &[f32]| {
        members.iter().map(|member| count(of[*member as usize])).sum::<f32>() + count(own[at])
    };
    let worst = |of: &[f32]| {
        let known = members.iter().map(|member| of[*member as usize]).filter(|value| value.is_finite());
        known.reduce(f32::max).unwrap_or(f32::NAN)
    };
    let requests = sum(&columns.requests, &whole.requests);
    let share = |hits: f32| if requests > 0.0 { hits / requests } else { 0.0 };
    match measure {
        Measure::Errors => share(sum(&columns.errors, &whole.errors)),
        Measure::Rejects => share(sum(&columns.rejects, &whole.rejects)),
        Measure::Latency => worst(&columns.latency_ms),
        Measure::LatencyTail => worst(&columns.tail_ms),
        _ => requests,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{Host, Instance, Parts, Rack, Service};

    fn topology() -> Topology {
        let instance = |name: &str| Instance { name: name.to_owned(), service: 0, host: 0, version: 1, wanted: true };
        Topology::new(Parts {
            datacenters: vec!["east".to_owned()],
            racks: vec![Rack { name: "e1".to_owned(), datacenter: 0 }],
            hosts: vec![Host { name: "web-1".to_owned(), rack: 0 }],
            services: vec![Service { name: "pay".to_owned(), external: false }],
            instances: vec![instance("pay-1"), instance("pay-2")],
            pairs: Vec::new(),
        })
        .unwrap()
    }

    #[test]
    fn a_rule_holds_after_its_time_and_ends_when_it_was_quiet_for_a_while() {
        let topology = topology();
        let mut board = RuleBoard::default();
        board.set(vec![Rule::parse("errors(service=*) > 2% for 3s").unwrap()]);
        let mut turns = Vec::new();
        for second in 0..20 {
            let mut frame = Frame::new(&topology);
            frame.second = second;
            frame.instances.requests.fill(100.0);
            // Second 0 is a breach too short, 6 one within, and of 7 nobody tells anything.
            frame.instances.errors.fill(if [0, 2, 3, 4, 5, 8].contains(&second) { 5.0 } else { 1.0 });
            if second == 7 {
                frame.instances.requests.fill(f32::NAN);
            }
            turns.extend(board.step(&topology, &frame).into_iter().map(|turn| (second, turn.entity.name, turn.holds)));
        }
        assert_eq!(turns, [(4, "pay".to_owned(), true), (13, "pay".to_owned(), false)]);
    }

    #[test]
    fn units_and_scopes() {
        let rule = Rule::parse("latency_p99(service=pay) > 1.5s for 2m").unwrap();
        assert_eq!((rule.value, rule.for_s), (1_500.0, 120));
        let rule = Rule::parse("memory(instance=pay-*) > 512MiB").unwrap();
        assert_eq!((rule.value, rule.for_s), (536_870_912.0, 0));
        assert!(!rule.breached(f32::NAN));
    }

    #[test]
    fn what_is_no_rule_is_told_where_and_why() {
        for (text, column, what) in [
            ("latency > 5", 1, "no `(`"),
            ("speed(service=a) > 5", 1, "no signal \"speed\""),
            ("cpu(service=a) > 5", 1, "has no cpu"),
            ("errors(thing=a) > 5", 8, "the scope is"),
            ("errors(service=a*b) > 5", 8, "the scope is"),
            ("errors(service=a) = 5", 19, "`>` or `<`"),
            ("errors(service=a) > five", 21, "no value"),
            ("errors(service=a) > 5% for 2 days", 28, "a time is"),
        ] {
            let fault = Rule::parse(text).unwrap_err();
            assert!(fault.what.contains(what), "{fault}");
            assert_eq!(fault.column, column, "{fault}");
        }
    }
}
