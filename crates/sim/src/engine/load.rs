//! Arrivals: a Poisson process whose rate follows the script's profile, or times that were recorded.

use super::events::Event;
use super::plan::finished;
use super::{Engine, Progress, Task, Waiter, us};
use crate::rng::{Rng, mix_all};
use crate::scheme::Refusal;
use crate::script::{Load, Stream};

/// The arrivals of one stream.
pub(super) struct Arrivals {
    load: Vec<Load>,
    recorded: Option<std::vec::IntoIter<f64>>,
    at_s: f64,
    rng: Rng,
}

impl Arrivals {
    pub fn new(stream: &Stream, seed: u64, number: u64) -> Self {
        let recorded = (!stream.arrivals_s.is_empty()).then(|| stream.arrivals_s.clone().into_iter());
        Self { load: stream.load.clone(), recorded, at_s: 0.0, rng: Rng::new(seed, 1_000 + number) }
    }

    /// The next arrival before `end_s`, in seconds.
    fn next(&mut self, end_s: f64) -> Option<f64> {
        match &mut self.recorded {
            Some(recorded) => recorded.next().filter(|at_s| *at_s < end_s),
            None => self.drawn(end_s),
        }
    }

    /// Where the rate's integral since the last arrival reaches an exponential of mean 1.
    fn drawn(&mut self, end_s: f64) -> Option<f64> {
        let mut left = self.rng.exponential();
        loop {
            let here = self.load.iter().rposition(|load| load.at_s <= self.at_s);
            let next = self.load.get(here.map_or(0, |at| at + 1));
            let until_s = next.map_or(end_s, |next| next.at_s.min(end_s));
            let span_s = until_s - self.at_s;
            let (rate, slope) = match (here.map(|at| self.load[at]), next) {
                (Some(here), Some(next)) if next.ramp => {
                    let slope = (next.rps - here.rps) / (next.at_s - here.at_s);
                    (here.rps + slope * (self.at_s - here.at_s), slope)
                }
                (Some(here), _) => (here.rps, 0.0),
                (None, _) => (0.0, 0.0),
            };
            let area = rate * span_s + slope * span_s * span_s / 2.0;
            if left < area {
                // Root of slope/2 t² + rate t = left, in the form that stays exact for a slope near 0.
                self.at_s += 2.0 * left / (rate + (rate * rate + 2.0 * slope * left).max(0.0).sqrt());
                return Some(self.at_s);
            }
            if until_s >= end_s {
                return None;
            }
            left -= area;
            self.at_s = until_s;
        }
    }
}

impl Engine<'_> {
    pub(super) fn expect_arrival(&mut self, stream: usize) {
        if let Some(at_s) = self.arrivals[stream].next(self.script.duration_s) {
            self.events.plan(us(at_s), Event::Arrive(stream));
        }
    }

    pub(super) fn task_arrives(&mut self, stream: usize) {
        self.expect_arrival(stream);
        let number = self.task_count;
        self.task_count += 1;
        // From the stream's own randomness, so that every scheme meets the same users.
        let user = self.arrivals[stream].rng.below(self.script.users as usize) as u64;
        let class = self.script.streams[stream].class;
        let measured = self.now_us >= us(self.script.measure_from_s);
        let task = Task {
            user,
            class,
            priority: self.scheme.priority(user, class, self.now_us),
            number: mix_all(&[self.seed, number]),
            stream,
            front: (number % u64::from(self.script.callers)) as u32,
            arrived_us: self.now_us,
            deadline_us: self.now_us + us(self.script.deadline_ms / 1000.0),
            measured,
            admitted: 0,
            calls: 0,
            work_us: 0,
            plan: Progress::default(),
        };
        self.record.arrived(stream, self.now_us, user, measured);
        let id = self.tasks.insert(task);
        self.proceed(Waiter::Task(id));
    }

    /// A task is over: its front knows how it went.
    pub(super) fn task_ends(&mut self, id: super::Id, outcome: Result<(), Refusal>) {
        let Some(task) = self.tasks.remove(id) else { return };
        let in_time = if self.now_us <= task.deadline_us { Ok(()) } else { Err(Refusal::Timeout) };
        let outcome = outcome.and(in_time);
        self.record.ended(&finished(&task, outcome), self.now_us);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_follow_steps_and_ramps() {
        let load = |at_s, rps, ramp| Load { at_s, rps, ramp };
        let stream = Stream {
            name: "s".to_owned(),
            class: 0,
            calls: Vec::new(),
            load: vec![
                load(1.0, 1_000.0, false),
                load(11.0, 3_000.0, true),
                load(11.0, 0.0, false),
                load(21.0, 500.0, false),
            ],
            arrivals_s: Vec::new(),
        };
        let mut arrivals = Arrivals::new(&stream, 3, 0);
        let mut counts = [0u32; 31];
        while let Some(at_s) = arrivals.next(31.0) {
            counts[at_s as usize] += 1;
        }
        let sum = |from: usize, to: usize| counts[from..to].iter().sum::<u32>();
        assert_eq!((sum(0, 1), sum(11, 21)), (0, 0));
        assert!((19_400..20_600).contains(&sum(1, 11)), "{}", sum(1, 11));
        assert!((4_700..5_300).contains(&sum(21, 31)), "{}", sum(21, 31));
        assert!(counts[10] > 2_700 && counts[1] < 1_300);
    }

    #[test]
    fn recorded_arrivals_come_when_they_came() {
        let stream = Stream {
            name: "s".to_owned(),
            class: 0,
            calls: Vec::new(),
            load: vec![Load { at_s: 0.0, rps: 1.0, ramp: false }],
            arrivals_s: vec![0.5, 0.5, 2.0, 9.0],
        };
        let mut arrivals = Arrivals::new(&stream, 3, 0);
        let came: Vec<f64> = std::iter::from_fn(|| arrivals.next(5.0)).collect();
        assert_eq!(came, [0.5, 0.5, 2.0]);
    }
}
