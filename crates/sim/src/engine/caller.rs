//! The caller's side: picks a copy, asks the scheme, sends, waits, tries again.

use super::events::Event;
use super::{Attempt, Engine, Id, Progress, Site, us};
use crate::rng::Rng;
use crate::scheme::{Advert, Head, Refusal};
use crate::script::Balancer;

impl Site {
    /// The copy for the next call.
    fn pick(&mut self, balancer: Balancer, rng: &mut Rng) -> usize {
        let n = self.in_flight.len();
        match balancer {
            Balancer::Random => rng.below(n),
            Balancer::RoundRobin => {
                self.next = (self.next + 1) % n;
                self.next
            }
            Balancer::TwoChoices if n > 1 => {
                let a = rng.below(n);
                let b = (a + 1 + rng.below(n - 1)) % n;
                if self.in_flight[b] < self.in_flight[a] { b } else { a }
            }
            // The search begins anywhere, so that the first copy is not every idle caller's choice.
            Balancer::TwoChoices | Balancer::Least => {
                let from = rng.below(n);
                (0..n).map(|i| (from + i) % n).min_by_key(|i| self.in_flight[*i]).unwrap_or(0)
            }
        }
    }
}

impl Engine<'_> {
    fn site(&mut self, origin: u32, service: usize) -> &mut Site {
        let endpoints = self.script.services[service].instances as usize;
        let scheme = self.scheme;
        self.sites[origin as usize][service].get_or_insert_with(|| Site {
            in_flight: vec![0; endpoints],
            next: origin as usize,
            caller: scheme.caller(origin, endpoints),
        })
    }

    /// Sends an attempt of a call, or fails it.
    pub(super) fn send(&mut self, id: Id) {
        let Some(call) = self.calls.get_mut(id) else { return };
        let Some(task) = self.tasks.get(call.task) else {
            return self.call_ends(id, Err(Refusal::Timeout));
        };
        let (attempt, origin, service, task_id) = (call.attempts, call.origin, call.service, call.task);
        let call_deadline_us = call.deadline_us;
        call.attempts += 1;
        let key = call.key.wrapping_add(u64::from(attempt));
        if self.now_us >= call_deadline_us {
            return self.call_ends(id, Err(Refusal::Timeout));
        }
        let timeout_us = self.script.retries.attempt_timeout_ms.map_or(u64::MAX, |ms| us(ms / 1000.0));
        let deadline_us = call_deadline_us.min(self.now_us.saturating_add(timeout_us));
        let mut head = Head {
            user: task.user,
            class: task.class,
            priority: task.priority,
            deadline_us,
            task_deadline_us: call_deadline_us,
            attempt,
            admitted: task.admitted & (1 << service) != 0,
            report: Vec::new(),
        };
        let measured = task.measured;
        let (now_us, balancer) = (self.now_us, self.script.balancer);
        let mut rng = self.rng.clone();
        let site = self.site(origin, service);
        let endpoint = site.pick(balancer, &mut rng);
        let may = site.caller.send(endpoint, &mut head, now_us, &mut rng);
        if may.is_ok() {
            site.in_flight[endpoint] += 1;
        }
        self.rng = rng;
        if let Err(why) = may {
            self.record.refused(why, measured);
            return self.attempt_failed(id, &head, why);
        }
        let was_sent = self.calls.get_mut(id).is_some_and(|call| std::mem::replace(&mut call.was_sent, true));
        self.record.attempted(now_us, was_sent);
        let attempt = self.attempts.insert(Attempt {
            call: id,
            task: task_id,
            origin,
            service,
            endpoint,
            head,
            measured,
            key,
            arrived_us: 0,
            started_us: 0,
            finish_us: 0,
            work_us: 0,
            plan: Progress::default(),
            given_up: false,
            unheard: false,
            replied: false,
            answer: Ok(()),
            advert: Advert::OPEN,
        });
        self.events.plan(now_us + self.network_us, Event::Deliver(attempt));
        self.events.plan(deadline_us, Event::Timeout(attempt));
    }

    /// An answer reaches its caller; nothing else happens to the attempt after it.
    pub(super) fn answered(&mut self, id: Id) {
        let Some(attempt) = self.attempts.remove(id) else { return };
        if attempt.given_up {
            return;
        }
        let now_us = self.now_us;
        let refused = matches!(attempt.answer, Err(why) if why != Refusal::Downstream);
        let site = self.site(attempt.origin, attempt.service);
        site.in_flight[attempt.endpoint] -= 1;
        site.caller.heard(attempt.endpoint, &attempt.advert, refused, now_us);
        if !refused && let Some(task) = self.tasks.get_mut(attempt.task) {
            task.admitted |= 1 << attempt.service;
        }
        match attempt.answer {
            Ok(()) => self.call_ends(attempt.call, Ok(attempt.work_us)),
            Err(why) => self.attempt_failed(attempt.call, &attempt.head, why),
        }
    }

    pub(super) fn timed_out(&mut self, id: Id) {
        let Some(attempt) = self.attempts.get_mut(id) else { return };
        if attempt.given_up {
            return;
        }
        attempt.given_up = true;
        let (origin, service, endpoint, call) = (attempt.origin, attempt.service, attempt.endpoint, attempt.call);
        let (head, now_us, measured) = (attempt.head.clone(), self.now_us, attempt.measured);
        let is_inside = attempt.arrived_us > 0 && !attempt.replied && !attempt.unheard;
        let inside_since_us = is_inside.then_some(attempt.arrived_us);
        if self.script.services[service].workers > 0
            && let Some(since_us) = inside_since_us
        {
            let guard = &mut self.instances[service][endpoint].guard;
            attempt.unheard = guard.given_up(now_us - since_us, now_us);
        }
        let site = self.site(origin, service);
        site.in_flight[endpoint] -= 1;
        site.caller.lost(endpoint, now_us);
        self.record.refused(Refusal::Timeout, measured);
        self.attempt_failed(call, &head, Refusal::Timeout);
    }

    fn attempt_failed(&mut self, id: Id, head: &Head, why: Refusal) {
        let Some(call) = self.calls.get(id) else { return };
        let (attempts, origin, service) = (call.attempts, call.origin, call.service);
        let retries = &self.script.retries;
        if attempts > retries.max {
            return self.call_ends(id, Err(why));
        }
        let backoff_ms = retries.backoff_ms * f64::from(1u32 << (attempts - 1).min(16));
        let wait_us = us(backoff_ms * self.rng.unit() / 1000.0);
        let now_us = self.now_us;
        let mut rng = self.rng.clone();
        let wait_us = self.site(origin, service).caller.retry(head, why, wait_us, now_us, &mut rng);
        self.rng = rng;
        match wait_us {
            Some(wait_us) => self.events.plan(now_us + wait_us, Event::Retry(id)),
            None => self.call_ends(id, Err(why)),
        }
    }
}
