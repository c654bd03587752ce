//! What must hold of a script before it is run.

use super::{
    CALLS_MAX, Calls, DURATION_S_MAX, INSTANCES_MAX, SERVICES_MAX, Script, Service, Shape, Stream, TASKS_MAX, Trouble,
    USERS_MAX,
};

/// A field and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// The field, such as `streams[0].load`.
    pub field: String,
    /// What was wrong, and what would be right.
    pub message: String,
}

struct Checker<'a> {
    script: &'a Script,
    wrong: Vec<Wrong>,
}

/// All that is wrong, in the order of the fields.
pub fn check(script: &Script) -> Vec<Wrong> {
    let mut checker = Checker { script, wrong: Vec::new() };
    checker.whole();
    for (i, service) in script.services.iter().enumerate() {
        checker.service(&format!("services[{i}]"), i, service);
    }
    for (i, stream) in script.streams.iter().enumerate() {
        checker.stream(&format!("streams[{i}]"), stream);
    }
    for (i, trouble) in script.faults.iter().enumerate() {
        checker.trouble(&format!("faults[{i}]"), trouble);
    }
    if checker.wrong.is_empty() {
        checker.tasks();
    }
    checker.wrong
}

impl Checker<'_> {
    fn say(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.wrong.push(Wrong { field: field.into(), message: message.into() });
    }

    fn within(&mut self, field: impl Into<String>, value: f64, least: f64, most: f64) {
        if !(least..=most).contains(&value) {
            self.say(field, format!("{value} is not between {least} and {most}"));
        }
    }

    fn whole(&mut self) {
        let script = self.script;
        self.within("duration_s", script.duration_s, 0.1, DURATION_S_MAX);
        if !(0.0..script.duration_s).contains(&script.measure_from_s) {
            self.say("measure_from_s", format!("{} is not before duration_s", script.measure_from_s));
        }
        self.within("deadline_ms", script.deadline_ms, 0.001, 3_600_000.0);
        self.within("users", f64::from(script.users), 1.0, f64::from(USERS_MAX));
        self.within("rotation_s", script.rotation_s, 0.001, DURATION_S_MAX);
        self.within("callers", f64::from(script.callers), 1.0, f64::from(INSTANCES_MAX));
        self.within("network_ms", script.network_ms, 0.0, 10_000.0);
        self.within("retries.max", f64::from(script.retries.max), 0.0, 16.0);
        self.within("retries.backoff_ms", script.retries.backoff_ms, 0.0, 60_000.0);
        if let Some(timeout_ms) = script.retries.attempt_timeout_ms {
            self.within("retries.attempt_timeout_ms", timeout_ms, 0.001, 3_600_000.0);
        }
        if script.services.is_empty() || script.services.len() > SERVICES_MAX {
            self.say("services", format!("{} services; a script has 1 to {SERVICES_MAX}", script.services.len()));
        }
        if script.streams.is_empty() {
            self.say("streams", "no stream; without load there is nothing to simulate");
        }
    }

    fn service(&mut self, at: &str, index: usize, service: &Service) {
        if self.script.service(&service.name) != Some(index) {
            self.say(format!("{at}.name"), format!("another service is called `{}` already", service.name));
        }
        self.within(format!("{at}.instances"), f64::from(service.instances), 1.0, f64::from(INSTANCES_MAX));
        self.within(format!("{at}.workers"), f64::from(service.workers), 0.0, 10_000.0);
        self.within(format!("{at}.queue_max"), f64::from(service.queue_max), 0.0, 1e7);
        let work = &service.work;
        self.within(format!("{at}.work.mean_ms"), work.mean_ms, 0.001, 3_600_000.0);
        match work.shape {
            Shape::Lognormal => match work.cv {
                Some(cv) => self.within(format!("{at}.work.cv"), cv, 0.0, 100.0),
                None => self.say(format!("{at}.work"), "a lognormal needs `cv`, its standard deviation over its mean"),
            },
            Shape::Bimodal => match (work.slow_share, work.slow_ms) {
                (Some(share), Some(slow_ms)) => {
                    self.within(format!("{at}.work.slow_share"), share, 0.0, 0.99);
                    if share * slow_ms > work.mean_ms || slow_ms < work.mean_ms {
                        let message = "with this share and mean, fast requests would take less than nothing, or more than slow ones";
                        self.say(format!("{at}.work.slow_ms"), message);
                    }
                }
                _ => self.say(format!("{at}.work"), "a bimodal needs `slow_share` and `slow_ms`"),
            },
            Shape::Fixed | Shape::Exponential => {}
        }
        self.calls(&format!("{at}.calls"), &service.calls);
        // Calls go to services further down the list, so that no circle can exist.
        for (i, call) in service.calls.iter().enumerate() {
            if self.script.service(&call.to).is_some_and(|to| to <= index) {
                let message = format!(
                    "`{}` must stand below `{}` in `services`, so that calls never run in a circle",
                    call.to, service.name
                );
                self.say(format!("{at}.calls[{i}].to"), message);
            }
        }
    }

    fn calls(&mut self, at: &str, calls: &[Calls]) {
        for (i, call) in calls.iter().enumerate() {
            if self.script.service(&call.to).is_none() {
                let known: Vec<&str> = self.script.services.iter().map(|service| service.name.as_str()).collect();
                let message = format!("no service is called `{}` (services: {})", call.to, known.join(", "));
                self.say(format!("{at}[{i}].to"), message);
            }
            self.within(format!("{at}[{i}].times"), f64::from(call.times), 1.0, f64::from(CALLS_MAX));
        }
    }

    fn stream(&mut self, at: &str, stream: &Stream) {
        self.within(format!("{at}.class"), f64::from(stream.class), 0.0, 63.0);
        if stream.calls.is_empty() {
            self.say(format!("{at}.calls"), "a task without calls does nothing; name a service");
        }
        self.calls(&format!("{at}.calls"), &stream.calls);
        if stream.load.is_empty() {
            self.say(format!("{at}.load"), "no load; begin with `{at_s: 0, rps: …}`");
        }
        self.arrivals(at, &stream.arrivals_s);
        for (i, load) in stream.load.iter().enumerate() {
            self.within(format!("{at}.load[{i}].at_s"), load.at_s, 0.0, DURATION_S_MAX);
            self.within(format!("{at}.load[{i}].rps"), load.rps, 0.0, 1e7);
            let before = i.checked_sub(1).map(|before| stream.load[before].at_s);
            if before.is_some_and(|before| load.at_s < before || (load.ramp && load.at_s == before)) {
                self.say(format!("{at}.load[{i}].at_s"), "entries must come in the order of time");
            }
            if load.ramp && before.is_none() {
                self.say(format!("{at}.load[{i}].ramp"), "the first entry has nothing to ramp from");
            }
        }
    }

    fn arrivals(&mut self, at: &str, arrivals_s: &[f64]) {
        if !arrivals_s.is_sorted() || arrivals_s.iter().any(|at_s| !(0.0..=DURATION_S_MAX).contains(at_s)) {
            self.say(
                format!("{at}.arrivals_s"),
                format!("times must be sorted and lie between 0 and {DURATION_S_MAX}"),
            );
        }
    }

    fn trouble(&mut self, at: &str, trouble: &Trouble) {
        let Some(service) = self.script.service(&trouble.service) else {
            return self.say(format!("{at}.service"), format!("no service is called `{}`", trouble.service));
        };
        let copies = self.script.services[service].instances;
        if let Some(instance) = trouble.instance.filter(|instance| *instance >= copies) {
            self.say(format!("{at}.instance"), format!("{instance} of a service with instances 0 to {}", copies - 1));
        }
        self.within(format!("{at}.at_s"), trouble.at_s, 0.0, DURATION_S_MAX);
        self.within(format!("{at}.for_s"), trouble.for_s, 0.000_001, DURATION_S_MAX);
        match trouble.every_s {
            Some(every_s) if every_s <= trouble.for_s => {
                self.say(format!("{at}.every_s"), "a fault must end before it comes back");
            }
            None if trouble.staggered => {
                self.say(format!("{at}.staggered"), "needs `every_s`, over which the copies are spread")
            }
            _ => {}
        }
        if let Some(slowdown) = trouble.slowdown {
            self.within(format!("{at}.slowdown"), slowdown, 0.01, 1_000.0);
        }
    }

    fn tasks(&mut self) {
        let seconds = (self.script.duration_s * 10.0) as u64;
        let recorded: usize = self.script.streams.iter().map(|stream| stream.arrivals_s.len()).sum();
        let drawn = || self.script.streams.iter().filter(|stream| stream.arrivals_s.is_empty());
        let rate = |at_s: f64| drawn().map(|stream| stream.rate(at_s)).sum::<f64>();
        let tasks = recorded as f64 + (0..seconds).map(|tenth| rate(tenth as f64 / 10.0) / 10.0).sum::<f64>();
        if tasks > TASKS_MAX {
            self.say("streams", format!("about {tasks:.0} tasks; a script offers at most {TASKS_MAX:.0}"));
        }
    }
}
