//! One copy of a service: its queue, its workers, and the times in which they stand still.

use super::events::Event;
use super::{Engine, Id, Waiter, us};
use crate::scheme::{Guard, Queue, Refusal};
use std::collections::VecDeque;

/// One copy.
pub(super) struct Instance {
    queue: VecDeque<Id>,
    working: u32,
    pub(super) guard: Box<dyn Guard>,
    /// While its workers stand still: since when, until when.
    pause: Option<(u64, u64)>,
    /// All pauses that are over, in microseconds.
    paused_us: u64,
    /// Work begun before this time takes `slowdown` times as long.
    slow_until_us: u64,
    slowdown: f64,
}

impl Instance {
    pub fn new(guard: Box<dyn Guard>) -> Self {
        Self { queue: VecDeque::new(), working: 0, guard, pause: None, paused_us: 0, slow_until_us: 0, slowdown: 1.0 }
    }

    /// A clock that stands still when the workers do.
    fn work_clock(&self, now_us: u64) -> u64 {
        now_us - self.paused_us - self.pause.map_or(0, |(since_us, _)| now_us - since_us)
    }
}

impl Engine<'_> {
    /// An attempt reaches its copy.
    pub(super) fn deliver(&mut self, id: Id) {
        let Some(attempt) = self.attempts.get_mut(id) else { return };
        attempt.arrived_us = self.now_us;
        let (service, endpoint) = (attempt.service, attempt.endpoint);
        let spec = &self.script.services[service];
        if spec.workers == 0 {
            return self.begin(id, service, endpoint);
        }
        let instance = &mut self.instances[service][endpoint];
        let queue = Queue { waiting: instance.queue.len() as u32, working: instance.working };
        let admitted = if queue.waiting >= spec.queue_max {
            Err(Refusal::Overflow)
        } else {
            instance.guard.arrive(&attempt.head, queue, self.now_us, &mut self.rng)
        };
        if let Err(why) = admitted {
            self.record.refused(why, attempt.measured);
            return self.reply(id, Err(why));
        }
        instance.queue.push_back(id);
        self.serve(service, endpoint);
    }

    /// Gives waiting attempts to idle workers.
    fn serve(&mut self, service: usize, endpoint: usize) {
        let spec = &self.script.services[service];
        loop {
            let instance = &mut self.instances[service][endpoint];
            if instance.working >= spec.workers || instance.pause.is_some() {
                return;
            }
            let Some(id) = instance.queue.pop_front() else { return };
            let Some(attempt) = self.attempts.get(id) else { continue };
            let delay_us = self.now_us - attempt.arrived_us;
            if attempt.given_up && spec.notices_hangups {
                if !attempt.unheard {
                    instance.guard.unstarted(&attempt.head, self.now_us);
                }
                self.reply(id, Err(Refusal::Timeout));
                continue;
            }
            let started =
                if attempt.unheard { Ok(()) } else { instance.guard.start(&attempt.head, delay_us, self.now_us) };
            let measured = attempt.measured;
            self.record.delayed(self.now_us, delay_us);
            match started {
                Ok(()) => self.begin(id, service, endpoint),
                Err(why) => {
                    self.record.refused(why, measured);
                    self.reply(id, Err(why));
                }
            }
        }
    }

    /// A worker takes an attempt.
    fn begin(&mut self, id: Id, service: usize, endpoint: usize) {
        let instance = &mut self.instances[service][endpoint];
        let Some(attempt) = self.attempts.get_mut(id) else { return };
        instance.working += 1;
        let mut work_us = self.script.services[service].work.sample_us(attempt.key);
        if self.now_us < instance.slow_until_us {
            work_us = (work_us as f64 * instance.slowdown).round() as u64;
        }
        attempt.started_us = self.now_us;
        attempt.finish_us = instance.work_clock(self.now_us) + work_us;
        attempt.work_us = work_us;
        self.record.worked(work_us, attempt.measured);
        self.events.plan(self.now_us + work_us, Event::Worked(id));
    }

    /// A worker is done, unless it stood still meanwhile.
    pub(super) fn worked(&mut self, id: Id) {
        let Some(attempt) = self.attempts.get_mut(id) else { return };
        let (service, endpoint) = (attempt.service, attempt.endpoint);
        let instance = &mut self.instances[service][endpoint];
        let left_us = attempt.finish_us - instance.work_clock(self.now_us).min(attempt.finish_us);
        if left_us > 0 {
            let from_us = instance.pause.map_or(self.now_us, |(_, until_us)| until_us.max(self.now_us));
            return self.events.plan(from_us + left_us, Event::Worked(id));
        }
        instance.working -= 1;
        if self.script.services[service].workers > 0 {
            let delay_us = attempt.started_us - attempt.arrived_us;
            // What a real copy can measure: time from start to end, pauses included.
            if !attempt.unheard {
                instance.guard.finish(&attempt.head, delay_us, self.now_us - attempt.started_us, self.now_us);
                attempt.unheard = true;
            }
            self.serve(service, endpoint);
        }
        self.proceed(Waiter::Attempt(id));
    }

    /// Sends an attempt's answer back.
    pub(super) fn reply(&mut self, id: Id, answer: Result<(), Refusal>) {
        let Some(attempt) = self.attempts.get_mut(id) else { return };
        if attempt.replied {
            return;
        }
        attempt.replied = true;
        attempt.answer = answer;
        if self.script.services[attempt.service].workers > 0 {
            let guard = &mut self.instances[attempt.service][attempt.endpoint].guard;
            attempt.advert = guard.advert(attempt.origin, &attempt.head, self.now_us);
            self.record.advertised(self.now_us, attempt.advert.level);
        }
        self.events.plan(self.now_us + self.network_us, Event::Answer(id));
    }

    /// Plans the first blow of each fault.
    pub(super) fn plan_troubles(&mut self) {
        for (fault, trouble) in self.script.faults.iter().enumerate() {
            let Some(service) = self.script.service(&trouble.service) else { continue };
            let copies = self.script.services[service].instances;
            for instance in 0..copies {
                if trouble.instance.is_some_and(|only| only != instance) {
                    continue;
                }
                let apart_s = trouble.every_s.filter(|_| trouble.staggered).unwrap_or(0.0) / f64::from(copies);
                let at_us = us(trouble.at_s + apart_s * f64::from(instance));
                self.events.plan(at_us, Event::Trouble { fault, instance });
            }
        }
    }

    /// A fault hits a copy.
    pub(super) fn trouble(&mut self, fault: usize, at: u32) {
        let trouble = &self.script.faults[fault];
        let Some(service) = self.script.service(&trouble.service) else { return };
        let until_us = self.now_us + us(trouble.for_s);
        let instance = &mut self.instances[service][at as usize];
        if let Some(slowdown) = trouble.slowdown {
            (instance.slow_until_us, instance.slowdown) = (until_us, slowdown);
        } else {
            let (since_us, before_us) = instance.pause.unwrap_or((self.now_us, 0));
            instance.pause = Some((since_us, before_us.max(until_us)));
            self.events.plan(until_us, Event::Resume { service, instance: at });
        }
        if let Some(every_s) = trouble.every_s {
            let next_us = self.now_us + us(every_s);
            if next_us < us(self.script.duration_s) {
                self.events.plan(next_us, Event::Trouble { fault, instance: at });
            }
        }
    }

    /// A pause may be over, unless another one has prolonged it.
    pub(super) fn resume(&mut self, service: usize, at: u32) {
        let instance = &mut self.instances[service][at as usize];
        let Some((since_us, _)) = instance.pause.filter(|(_, until_us)| *until_us <= self.now_us) else { return };
        instance.paused_us += self.now_us - since_us;
        instance.pause = None;
        self.serve(service, at as usize);
    }
}
