//! Plans: which call of a task or of a service comes next, and what its failure means.

use super::{Call, Engine, Id, Progress, Task, Waiter};
use crate::report::Ended;
use crate::rng::mix_all;
use crate::scheme::Refusal;

/// What the records need to know of a task that is over.
pub(super) fn finished(task: &Task, outcome: Result<(), Refusal>) -> Ended {
    Ended {
        stream: task.stream,
        user: task.user,
        arrived_us: task.arrived_us,
        work_us: task.work_us,
        measured: task.measured,
        outcome,
    }
}

impl Engine<'_> {
    /// Sends the calls that may be sent now, or ends the waiter when all are answered.
    pub(super) fn proceed(&mut self, waiter: Waiter) {
        loop {
            let Some((progress, entries)) = self.progress(waiter) else { return };
            let Some((service, calls)) = entries.get(progress.entry).copied() else {
                return self.waiter_ends(waiter, Ok(()));
            };
            let may_send = progress.sent < calls.times && (calls.parallel || progress.sent == progress.answered);
            if may_send {
                self.update(waiter, |progress| progress.sent += 1);
                self.call(waiter, service);
            } else if progress.answered == calls.times {
                self.update(waiter, |progress| {
                    *progress = Progress { entry: progress.entry + 1, sent: 0, answered: 0 }
                });
            } else {
                return;
            }
        }
    }

    /// A call is over. The first failure ends the waiter.
    pub(super) fn call_ends(&mut self, call: Id, outcome: Result<u64, Refusal>) {
        let Some(call) = self.calls.remove(call) else { return };
        match (outcome, call.waiter) {
            (Ok(work_us), Waiter::Task(id)) => {
                let Some(task) = self.tasks.get_mut(id) else { return };
                task.work_us += work_us;
                task.plan.answered += 1;
                self.proceed(call.waiter);
            }
            (Ok(work_us), Waiter::Attempt(id)) => {
                let Some(attempt) = self.attempts.get_mut(id) else { return };
                attempt.work_us += work_us;
                attempt.plan.answered += 1;
                self.proceed(call.waiter);
            }
            (Err(why), waiter) => self.waiter_ends(waiter, Err(why)),
        }
    }

    fn waiter_ends(&mut self, waiter: Waiter, outcome: Result<(), Refusal>) {
        match waiter {
            Waiter::Task(id) => self.task_ends(id, outcome),
            Waiter::Attempt(id) => self.reply(id, outcome.map_err(|_| Refusal::Downstream)),
        }
    }

    fn progress(&self, waiter: Waiter) -> Option<(Progress, &[(usize, &crate::script::Calls)])> {
        match waiter {
            Waiter::Task(id) => self.tasks.get(id).map(|task| (task.plan, &self.stream_plans[task.stream][..])),
            Waiter::Attempt(id) => {
                let attempt = self.attempts.get(id).filter(|attempt| !attempt.replied)?;
                Some((attempt.plan, &self.service_plans[attempt.service][..]))
            }
        }
    }

    fn update(&mut self, waiter: Waiter, change: impl FnOnce(&mut Progress)) {
        let plan = match waiter {
            Waiter::Task(id) => self.tasks.get_mut(id).map(|task| &mut task.plan),
            Waiter::Attempt(id) => self.attempts.get_mut(id).map(|attempt| &mut attempt.plan),
        };
        if let Some(plan) = plan {
            change(plan);
        }
    }

    /// Makes a call for a waiter.
    fn call(&mut self, waiter: Waiter, service: usize) {
        let (task_id, from) = match waiter {
            Waiter::Task(id) => (id, self.tasks.get(id).map(|task| (task.front, task.deadline_us))),
            Waiter::Attempt(id) => {
                let Some(attempt) = self.attempts.get(id) else { return };
                let origin = self.first_origin[attempt.service] + attempt.endpoint as u32;
                // Deadlines propagate: a sub-call has the time that its caller was given.
                (attempt.task, Some((origin, attempt.head.deadline_us)))
            }
        };
        // A task that has ended is asked for nothing more: what still works for it fails at its next call.
        let (Some(task), Some((origin, deadline_us))) = (self.tasks.get_mut(task_id), from) else {
            return self.waiter_ends(waiter, Err(Refusal::Timeout));
        };
        task.calls += 1;
        let measured = task.measured;
        let key = mix_all(&[task.number, u64::from(task.calls)]);
        let call = Call { waiter, task: task_id, origin, service, attempts: 0, was_sent: false, key, deadline_us };
        let call = self.calls.insert(call);
        self.record.called(measured);
        self.send(call);
    }
}
