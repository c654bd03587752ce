//! The engine: a discrete-event simulation of calls, queues and workers in virtual time.
//!
//! One event at a time, in the order of time and of origin; no clock, no thread, no randomness but the seed's: the same
//! script, scheme and seed give the same report to the byte. Absent on purpose: the cost of saying no, the end of work that
//! has begun when its caller gives up, and any copy's knowledge of another.

mod caller;
mod events;
mod instance;
mod load;
mod plan;
mod slab;

use crate::report::{Recorder, Report};
use crate::rng::Rng;
use crate::scheme::{Caller, Head, Refusal, Scheme};
use crate::script::{Calls, Script};
use events::{Event, Events};
use instance::Instance;
use load::Arrivals;
use slab::{Id, Slab};

/// Runs a script under a scheme. The script must have passed [`crate::script::check::check`].
pub fn run(script: &Script, scheme: &dyn Scheme, seed: u64) -> Report {
    let mut engine = Engine::new(script, scheme, seed);
    while let Some((now_us, event)) = engine.events.pop() {
        engine.now_us = now_us;
        engine.take(event);
    }
    engine.record.finish(script, scheme.name(), seed)
}

/// A task: what a user asked for.
struct Task {
    user: u64,
    class: u8,
    priority: u32,
    number: u64,
    stream: usize,
    front: u32,
    arrived_us: u64,
    deadline_us: u64,
    measured: bool,
    /// Services that answered a call of it, one bit each.
    admitted: u64,
    /// Calls made so far, for the key of the next one's work.
    calls: u32,
    work_us: u64,
    plan: Progress,
}

/// How far a list of calls has come.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    entry: usize,
    sent: u32,
    answered: u32,
}

/// Who waits for a call.
#[derive(Debug, Clone, Copy)]
enum Waiter {
    /// A task's front instance.
    Task(Id),
    /// An attempt whose own work is done.
    Attempt(Id),
}

/// A call, over all its attempts.
struct Call {
    waiter: Waiter,
    task: Id,
    origin: u32,
    service: usize,
    attempts: u32,
    /// Whether its caller let one of them go.
    was_sent: bool,
    key: u64,
    /// When its waiter has no more use for an answer.
    deadline_us: u64,
}

/// One try of a call at one copy.
struct Attempt {
    call: Id,
    task: Id,
    origin: u32,
    service: usize,
    endpoint: usize,
    head: Head,
    measured: bool,
    key: u64,
    arrived_us: u64,
    started_us: u64,
    /// Reading of the copy's work clock when its work is done.
    finish_us: u64,
    /// Its own work and that of its answered calls.
    work_us: u64,
    plan: Progress,
    /// The caller waits no longer.
    given_up: bool,
    /// The copy's guard has heard all that it wants to hear of it.
    unheard: bool,
    /// The copy has answered.
    replied: bool,
    /// What the copy answers: nothing wrong, or why not.
    answer: Result<(), Refusal>,
    advert: crate::scheme::Advert,
}

/// A service as its callers at one origin see it.
struct Site {
    in_flight: Vec<u32>,
    next: usize,
    caller: Box<dyn Caller>,
}

struct Engine<'a> {
    script: &'a Script,
    scheme: &'a dyn Scheme,
    /// Calls of each stream and each service, with the callee's index.
    stream_plans: Vec<Vec<(usize, &'a Calls)>>,
    service_plans: Vec<Vec<(usize, &'a Calls)>>,
    now_us: u64,
    seed: u64,
    network_us: u64,
    events: Events,
    arrivals: Vec<Arrivals>,
    /// Origin number of the first copy of each service; the fronts come before them.
    first_origin: Vec<u32>,
    instances: Vec<Vec<Instance>>,
    /// By origin, then by service.
    sites: Vec<Vec<Option<Site>>>,
    tasks: Slab<Task>,
    calls: Slab<Call>,
    attempts: Slab<Attempt>,
    task_count: u64,
    rng: Rng,
    record: Recorder,
}

impl<'a> Engine<'a> {
    fn new(script: &'a Script, scheme: &'a dyn Scheme, seed: u64) -> Self {
        let resolve = |calls: &'a [Calls]| -> Vec<(usize, &'a Calls)> {
            calls.iter().filter_map(|call| Some((script.service(&call.to)?, call))).collect()
        };
        let mut origins = script.callers;
        let mut first_origin = Vec::new();
        for service in &script.services {
            first_origin.push(origins);
            origins += service.instances;
        }
        let instances = script.services.iter().map(|service| {
            let capacity_rps = f64::from(service.workers) * 1000.0 / service.work.mean_ms;
            (0..service.instances).map(|i| Instance::new(scheme.guard(i, service.workers, capacity_rps))).collect()
        });
        let mut engine = Self {
            script,
            scheme,
            stream_plans: script.streams.iter().map(|stream| resolve(&stream.calls)).collect(),
            service_plans: script.services.iter().map(|service| resolve(&service.calls)).collect(),
            now_us: 0,
            seed,
            network_us: (script.network_ms * 1000.0).round() as u64,
            events: Events::default(),
            arrivals: script.streams.iter().enumerate().map(|(i, s)| Arrivals::new(s, seed, i as u64)).collect(),
            first_origin,
            instances: instances.collect(),
            sites: (0..origins).map(|_| script.services.iter().map(|_| None).collect()).collect(),
            tasks: Slab::default(),
            calls: Slab::default(),
            attempts: Slab::default(),
            task_count: 0,
            rng: Rng::new(seed, 1),
            record: Recorder::new(script),
        };
        for stream in 0..script.streams.len() {
            engine.expect_arrival(stream);
        }
        engine.plan_troubles();
        engine
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Arrive(stream) => self.task_arrives(stream),
            Event::Deliver(attempt) => self.deliver(attempt),
            Event::Worked(attempt) => self.worked(attempt),
            Event::Answer(attempt) => self.answered(attempt),
            Event::Timeout(attempt) => self.timed_out(attempt),
            Event::Retry(call) => self.send(call),
            Event::Trouble { fault, instance } => self.trouble(fault, instance),
            Event::Resume { service, instance } => self.resume(service, instance),
        }
    }
}

/// Microseconds of seconds.
fn us(seconds: f64) -> u64 {
    (seconds * 1e6).round() as u64
}
