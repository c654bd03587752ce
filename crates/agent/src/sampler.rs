//! Reads what slices and the host use: every second what decides (golden), every six the rest, and every 100 ms services
//! under stress. A local trip brings the rest along at once.
//!
//! A thread of its own, so that neither a busy runtime nor a slow connection moves the moments of reading. A sample is
//! written once, as it goes over the wire; in a steady state nothing is allocated. Samples are current or worthless: what
//! the stream cannot take is dropped, never queued up.

mod gauge;
pub mod machine;
mod trips;

pub use gauge::Gauge;
pub use machine::machine;

use crate::cgroup::Usage;
use crate::held::{Buffer, buffer};
use crate::host::now_unix_us;
use crate::wire::{begin, bytes, nested, uint};
use api::fleet::TripKind;
use bytes::{Bytes, BytesMut};
use machine::{Machine, Space};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use trips::{OfSlice, OfSpace, TRIPS_MAX, Trip};

/// Pause between two samples of everything.
pub const SAMPLE_MS: u64 = 1_000;
/// Samples of everything in one round of the rest, each slice at a turn of its own.
pub const REST_TURNS: u64 = 6;
/// Pause between two samples of a service under stress.
pub const FAST_SAMPLE_MS: u64 = 100;
/// Time over which the samples of many agents are spread.
const SPREAD_MS: u64 = 100;
/// Shortest pause before a sample that an instance's exit asks for.
pub const TRIP_PAUSE_MS: u64 = 200;
/// Samples waiting for the stream.
pub const SAMPLES_QUEUE_MAX: usize = 64;
/// Services sampled fast at a time.
pub const FAST_SERVICES_MAX: usize = 64;
/// First size of what samples are written into; they grow with the slices.
const OUT_BYTES: usize = 4 << 10;

enum Order {
    Add { instance: String, service: String, gauge: Gauge },
    Remove { instance: String },
    Exited { instance: String, code: i32 },
    Fast { services: BTreeSet<String>, until: Instant },
}

/// The sampler's handle; the thread ends with the last one.
#[derive(Debug, Clone)]
pub struct Sampler {
    orders: Sender<Order>,
}

impl Sampler {
    /// Starts the thread. Samples come out of the receiver, each an encoded `AgentUp`. The file system told of is that of
    /// `data`.
    pub fn start(data: Option<&Path>) -> (Self, mpsc::Receiver<Bytes>) {
        let (orders, inbox) = channel();
        let (out, samples) = mpsc::channel(SAMPLES_QUEUE_MAX);
        let sampling = Sampling::new(data, out);
        let run = move || sampling.run(&inbox);
        thread::Builder::new().name("sampler".into()).spawn(run).expect("a thread can be started");
        (Self { orders }, samples)
    }

    /// Samples an instance from now on, in place of an earlier one of that name.
    pub fn add(&self, instance: &str, service: &str, gauge: Gauge) {
        self.send(Order::Add { instance: instance.into(), service: service.into(), gauge });
    }

    /// Samples it no longer.
    pub fn remove(&self, instance: &str) {
        self.send(Order::Remove { instance: instance.into() });
    }

    /// It ended although it was to run: a trip.
    pub fn exited(&self, instance: &str, code: i32) {
        self.send(Order::Exited { instance: instance.into(), code });
    }

    /// Samples these services fast, and no others, until the life runs out.
    pub fn fast(&self, services: Vec<String>, life_ms: u32) {
        let services = services.into_iter().take(FAST_SERVICES_MAX).collect();
        self.send(Order::Fast { services, until: Instant::now() + Duration::from_millis(life_ms.into()) });
    }

    fn send(&self, order: Order) {
        self.orders.send(order).expect("the thread lives as long as a handle does");
    }
}

struct Watched {
    service: String,
    gauge: Gauge,
    /// Its names as a `SliceSample` has them.
    names: Box<[u8]>,
    /// Its turn for the rest.
    turn: u64,
    is_new: bool,
    trips: OfSlice,
}

impl Watched {
    fn new(instance: &str, service: String, gauge: Gauge, turn: u64) -> Self {
        let mut names = Vec::new();
        bytes(&mut names, 1, instance.as_bytes());
        bytes(&mut names, 2, service.as_bytes());
        Self { service, gauge, names: names.into(), turn, is_new: true, trips: OfSlice::default() }
    }
}

struct Sampling {
    out: mpsc::Sender<Bytes>,
    watched: BTreeMap<String, Watched>,
    fast: Option<(BTreeSet<String>, Instant)>,
    machine: Option<Machine>,
    space: OfSpace,
    /// Exits not told yet.
    exits: Vec<(String, i32)>,
    samples: u64,
    added: u64,
    buffer: Box<Buffer>,
    body: Vec<u8>,
    trips: Vec<u8>,
    message: BytesMut,
}

impl Sampling {
    fn new(data: Option<&Path>, out: mpsc::Sender<Bytes>) -> Self {
        Self {
            out,
            watched: BTreeMap::new(),
            fast: None,
            machine: Machine::open(data),
            space: OfSpace::default(),
            exits: Vec::new(),
            samples: 0,
            added: 0,
            buffer: buffer(),
            body: Vec::with_capacity(OUT_BYTES),
            trips: Vec::new(),
            message: BytesMut::with_capacity(OUT_BYTES),
        }
    }

    fn run(mut self, inbox: &Receiver<Order>) {
        let mut next_all = Instant::now() + to_second(now_unix_us() / 1_000);
        let mut next_fast = Instant::now();
        let mut last_all = None::<Instant>;
        loop {
            let now = Instant::now();
            if self.fast.as_ref().is_some_and(|(_, until)| now >= *until) {
                self.fast = None;
            }
            let trip_at = last_all.map_or(now, |at| at + Duration::from_millis(TRIP_PAUSE_MS));
            let trip_at = if self.exits.is_empty() { None } else { Some(trip_at) };
            if now >= next_all || trip_at.is_some_and(|at| now >= at) {
                self.sample(true);
                last_all = Some(now);
                if now >= next_all {
                    next_all = following(next_all, SAMPLE_MS, now);
                }
                next_fast = following(next_fast, FAST_SAMPLE_MS, now);
                continue;
            }
            if self.fast.is_some() && now >= next_fast {
                self.sample(false);
                next_fast = following(next_fast, FAST_SAMPLE_MS, now);
            }
            let next = if self.fast.is_some() { next_all.min(next_fast) } else { next_all };
            let next = trip_at.map_or(next, |at| next.min(at));
            match inbox.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(order) => self.take(order),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn take(&mut self, order: Order) {
        match order {
            Order::Add { instance, service, gauge } => {
                self.added += 1;
                let watched = Watched::new(&instance, service, gauge, self.added % REST_TURNS);
                self.watched.insert(instance, watched);
            }
            Order::Remove { instance } => {
                self.watched.remove(&instance);
            }
            Order::Exited { instance, code } => {
                if self.exits.len() < TRIPS_MAX {
                    self.exits.push((instance, code));
                }
            }
            Order::Fast { services, until } => {
                self.fast = Some((services, until)).filter(|(services, _)| !services.is_empty());
            }
        }
    }

    /// Reads and writes one sample: everything, or the services under stress only.
    fn sample(&mut self, all: bool) {
        let Self { watched, fast, machine, space, exits, buffer, body, trips, .. } = self;
        let now_us = now_unix_us();
        let turn = self.samples % REST_TURNS;
        self.samples += u64::from(all);
        body.clear();
        trips.clear();
        uint(body, 1, now_us / 1_000);
        let mut told = Trips { out: trips, told: 0, now_ms: now_us / 1_000 };
        let wanted = |service: &str| all || fast.as_ref().is_some_and(|(services, _)| services.contains(service));
        let mut is_empty = true;
        for (instance, at) in watched.iter_mut().filter(|(_, at)| wanted(&at.service)) {
            // A slice that is just going has nothing to say.
            let Ok(usage) = at.gauge.read(buffer) else { continue };
            is_empty = false;
            let tripped = all && told.of_slice(instance, &mut at.trips, &usage, now_us);
            let exited = exits.iter().any(|(name, _)| name == instance);
            let with_rest = all && (at.turn == turn || at.is_new || tripped || exited);
            at.is_new &= !all;
            nested(body, 3, |out| write_slice(at, &usage, with_rest, buffer, out));
        }
        if let Some(machine) = machine.as_mut().filter(|_| all) {
            is_empty &= !write_host(machine, space, turn == 0, &mut told, exits, buffer, body);
        }
        if !is_empty {
            for (instance, code) in exits.drain(..) {
                let trip = Trip { kind: TripKind::TripInstanceExit, value: f64::from(code), threshold: 0.0 };
                told.tell(&instance, trip);
            }
            body.extend_from_slice(trips);
            self.send();
        }
    }

    /// Hands over what is written. The buffer comes back when the stream has taken it.
    fn send(&mut self) {
        let Self { body, trips: head, message, .. } = self;
        head.clear();
        begin(head, 3, body.len());
        message.reserve(head.len() + body.len());
        message.extend_from_slice(head);
        message.extend_from_slice(body);
        let _nobody_listens = self.out.try_send(message.split().freeze());
    }
}

/// The trips of one sample, as its fields.
struct Trips<'a> {
    out: &'a mut Vec<u8>,
    told: usize,
    now_ms: u64,
}

impl Trips<'_> {
    fn tell(&mut self, subject: &str, trip: Trip) {
        self.told += 1;
        if self.told <= TRIPS_MAX {
            nested(self.out, 4, |out| trip.write(out, subject.as_bytes(), self.now_ms));
        }
    }

    /// True when something tripped.
    fn of_slice(&mut self, instance: &str, slice: &mut OfSlice, usage: &Usage, now_us: u64) -> bool {
        let before = self.told;
        slice.step(usage, now_us).into_iter().flatten().for_each(|trip| self.tell(instance, trip));
        self.told > before
    }
}

fn write_slice(at: &Watched, usage: &Usage, with_rest: bool, buffer: &mut Buffer, out: &mut Vec<u8>) {
    out.extend_from_slice(&at.names);
    gauge::write_usage(out, usage, now_unix_us());
    if let Some(rest) = with_rest.then(|| at.gauge.read_rest(buffer)).flatten() {
        nested(out, 15, |out| gauge::write_rest(out, &rest));
    }
}

/// False when the machine tells nothing.
fn write_host(
    machine: &mut Machine,
    full: &mut OfSpace,
    is_turn: bool,
    told: &mut Trips<'_>,
    exits: &[(String, i32)],
    buffer: &mut Buffer,
    body: &mut Vec<u8>,
) -> bool {
    let Some(golden) = machine.golden(buffer) else { return false };
    let space = machine.space();
    if let Some(trip) = space.and_then(|space| full.step(Space::free_share(&space))) {
        told.tell("", trip);
    }
    let with_rest = is_turn || told.told > 0 || !exits.is_empty();
    nested(body, 2, |out| {
        golden.write(out);
        if with_rest {
            nested(out, 12, |out| machine.write_rest(space, buffer, out));
        }
    });
    true
}

/// Time to shortly after the next whole second: what all agents and proxies read together is of the same second. The
/// processes of a machine are spread over a part of it.
fn to_second(unix_ms: u64) -> Duration {
    Duration::from_millis(1_000 - unix_ms % 1_000 + u64::from(std::process::id()) % SPREAD_MS)
}

/// The next moment of the rhythm after `now`; missed ones are left out.
fn following(last: Instant, pause_ms: u64, now: Instant) -> Instant {
    let pause = Duration::from_millis(pause_ms);
    let next = last + pause;
    if next > now {
        return next;
    }
    let missed = now.duration_since(last).as_millis() as u64 / pause_ms;
    last + pause * u32::try_from(missed + 1).unwrap_or(1)
}

#[cfg(test)]
mod tests;
