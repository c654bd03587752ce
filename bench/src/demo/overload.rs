//! The chapter that nobody sized for: five times what is provisioned, first with what protects by itself, then with the
//! preset that was made ready before the night. One table tells who was served; a verdict judges it.

use super::crowd::{PATIENCE, Tally};
use super::{Night, show, show_where};
use anyhow::{Context, Result, bail};
use std::time::{Duration, Instant};

/// How much more comes than is provisioned.
const TIMES: f64 = 5.0;
/// Time after a change of the load, or of what is in force, before a phase is measured.
const SETTLE: Duration = Duration::from_secs(2);
/// The same after the jump to five times as much: queues of the first seconds, before levels are known, have to drain.
const SETTLE_JUMP: Duration = Duration::from_secs(6);
/// Length of each phase under overload.
const PHASE: Duration = Duration::from_secs(8);
/// Length of the phase after it.
const AFTER: Duration = Duration::from_secs(4);
/// Share of what is provisioned that must still be served at five times as much.
const GOODPUT_MIN: f64 = 0.8;
/// 99th percentile of the latency of what is served, at most.
const P99_MS_MAX: f64 = 500.0;
/// Share of the requests that may fail in another way than by a rejection.
const FAILED_MAX: f64 = 0.01;
/// Beyond this the generator itself was late: nothing can be said, the phases are measured again.
pub const LAG_MS_MAX: f64 = 25.0;
/// Times that the phases are measured at most.
const TRIES_MAX: u32 = 2;
/// Longest wait for the slow lane to pay what waits in it.
const LANE_SECONDS_MAX: u64 = 30;

/// What the preset is called.
const PRESET: &str = "midnight-surge";
/// Where presets lie.
pub const PRESETS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/red-packet/presets");

/// A line of the table.
struct Phase {
    name: &'static str,
    /// Draws a second that the instances standing can do.
    provisioned: f64,
    tally: Tally,
}

impl Night {
    /// Five times what is provisioned, and back to normal. True when as many were served as could be, and fast.
    pub async fn overload(&mut self, surge: (f64, Tally)) -> Result<bool> {
        let provisioned = self.provisioned().await?;
        let mut phases = vec![Phase { name: "midnight, as sized", provisioned: surge.0, tally: surge.1 }];
        for attempt in 1.. {
            let flood = self.flood(provisioned).await?;
            let late = flood.iter().map(|phase| phase.tally.lag_p99_ms).fold(0.0, f64::max);
            if late <= LAG_MS_MAX || attempt >= TRIES_MAX {
                phases.extend(flood);
                break;
            }
            self.say(&format!("void: the generator itself was late (p99 {late:.0} ms): once more"));
        }
        self.say("who was served");
        let table = table(&phases);
        show(&table);
        self.page.text(&table);
        let misses = misses(&phases[1..]);
        misses.iter().for_each(|miss| println!("    missed: {miss}"));
        let unknown = phases[1..].iter().filter(|phase| phase.tally.lag_p99_ms > LAG_MS_MAX);
        unknown.for_each(|phase| println!("    not judged: {}: the generator itself was late", phase.name));
        Ok(misses.is_empty())
    }

    /// Draws a second that the fleet as it stands can do: by the measured curves, of the service that runs out first.
    pub async fn provisioned(&self) -> Result<f64> {
        let sized = self.fleet.client.size(&api::http::SizeRequest { event: "midnight".into(), apply: false }).await?;
        let entry = sized.services.iter().find(|size| size.service == "sso").context("the entry is sized")?.load_rps;
        let draws = sized.services.iter().filter_map(|size| {
            // What lies outside has no instances of ours: its capacity is the whole.
            let instances = size.now.values().sum::<u32>().max(1);
            Some(size.capacity_rps? * f64::from(instances) * entry / size.load_rps)
        });
        Ok(draws.fold(f64::INFINITY, f64::min))
    }

    async fn flood(&mut self, provisioned: f64) -> Result<Vec<Phase>> {
        let rate = provisioned * TIMES;
        self.say(&format!("a wave that nobody sized for: {rate:.0} draws a second, {TIMES:.0}× what is provisioned"));
        self.crowd.set_rate(rate);
        let protected = self.phase(SETTLE_JUMP, PHASE).await?;
        self.say(&format!("one click: the preset made ready for it, `springtide protect fire {PRESET}`"));
        show_where(&self.fleet.cli(&["protect", "fire", PRESET])?, |line| line.starts_with("in force"));
        let preset = self.phase(SETTLE, PHASE).await?;
        let wanted = |line: &str| line.starts_with("NAME") || line.starts_with(PRESET);
        show_where(&self.fleet.cli(&["protect", "list"])?, wanted);
        self.say("the wave is over: the preset is lifted, what waits in the slow lane is paid");
        self.crowd.set_rate(super::MEASURED_AT / 2.0);
        show(&self.fleet.cli(&["protect", "lift", "--preset", PRESET])?);
        self.await_lane().await?;
        let after = self.phase(SETTLE, AFTER).await?;
        tokio::time::sleep(PATIENCE).await;
        let line = |name, (from, to)| Phase { name, provisioned, tally: self.crowd.tally(from, to) };
        Ok(vec![line("5×, levels alone", protected), line("5×, with the preset", preset), line("afterwards", after)])
    }

    /// Lets a phase pass, after what was changed has settled; from when to when it was.
    async fn phase(&self, settle: Duration, length: Duration) -> Result<(Instant, Instant)> {
        tokio::time::sleep(settle).await;
        let from = Instant::now();
        tokio::time::sleep(length).await;
        let to = Instant::now();
        self.print_services().await?;
        Ok((from, to))
    }

    /// Waits until the slow lane has released all that waits.
    async fn await_lane(&mut self) -> Result<()> {
        let url = format!("http://{}/.well-known/springtide/lane", self.fleet.mesh);
        let began = Instant::now();
        let mut most = 0;
        while began.elapsed() < Duration::from_secs(LANE_SECONDS_MAX) {
            let state: serde_json::Value = serde_json::from_str(&reqwest::get(&url).await?.text().await?)?;
            let waiting = state["waiting"].as_u64().with_context(|| format!("{url} says how many wait: {state}"))?;
            most = most.max(waiting);
            if waiting == 0 {
                let dead = state["dead"].as_u64().unwrap_or_default();
                let (released, seconds) = (&state["released"]["done"], began.elapsed().as_secs_f64());
                println!(
                    "    slow lane: {most} payments waited, empty after {seconds:.1} s; {released} paid, {dead} dead"
                );
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!("the slow lane was not empty within {LANE_SECONDS_MAX} s: {most} payments waited")
    }
}

fn table(phases: &[Phase]) -> String {
    let mut lines = vec![format!(
        "{:<20} {:>8} {:>8} {:>11} {:>9} {:>10} {:>8} {:>7} {:>8}",
        "DRAWS A SECOND", "OFFERED", "SERVED", "OF CAPACITY", "BY LEVEL", "BY POLICY", "BY OTHER", "FAILED", "P99 MS"
    )];
    for Phase { name, provisioned, tally } in phases {
        let rate = |count: u64| format!("{:.0}", tally.rate(count));
        lines.push(format!(
            "{name:<20} {:>8} {:>8} {:>10.0}% {:>9} {:>10} {:>8} {:>7} {:>8.0}",
            rate(tally.offered),
            rate(tally.served),
            100.0 * tally.rate(tally.served) / provisioned,
            rate(tally.by_level),
            rate(tally.by_policy),
            rate(tally.by_other),
            tally.failed,
            tally.p99_ms
        ));
    }
    for Phase { name, tally, .. } in phases.iter().filter(|phase| phase.tally.rejected() > 0) {
        lines.push(format!("{name}: {}", tally.users_served()));
        let (throttled, past) = tally.users_throttled();
        if throttled > 0 {
            lines.push(format!(
                "{name}: the policy turned {throttled} of {} users away, the same ones all along ({past} of them got past it once)",
                tally.users_asked()
            ));
        }
    }
    lines.join("\n")
}

/// What falls short of what protection promises. Phases in which the generator was late say nothing.
fn misses(phases: &[Phase]) -> Vec<String> {
    phases.iter().filter(|phase| phase.tally.lag_p99_ms <= LAG_MS_MAX).flat_map(misses_of).collect()
}

fn misses_of(Phase { name, provisioned, tally }: &Phase) -> Vec<String> {
    let (goodput, failed) = (tally.rate(tally.served), tally.share(tally.failed));
    let wanted = provisioned.min(tally.rate(tally.offered)) * GOODPUT_MIN;
    let mut misses = Vec::new();
    if goodput < wanted {
        misses.push(format!("{name}: {goodput:.0} draws a second served, {wanted:.0} wanted"));
    }
    if tally.p99_ms > P99_MS_MAX {
        misses.push(format!("{name}: p99 {:.0} ms, {P99_MS_MAX:.0} at most", tally.p99_ms));
    }
    if failed > FAILED_MAX {
        misses.push(format!("{name}: {:.1}% failed, {:.0}% at most", failed * 100.0, FAILED_MAX * 100.0));
    }
    misses
}

#[cfg(test)]
mod tests {
    use super::*;
    use loadgen::{End, Ended};

    /// A second in which so many were served, rejected and failed.
    fn phase(served: u64, rejected: u64, failed: u64, latency_ms: u64, lag_ms: u64) -> Phase {
        let ended = |user, end| {
            let (lag_us, latency_us) = (lag_ms * 1_000, latency_ms * 1_000);
            Ended { user, due: Instant::now(), lag_us, latency_us, end }
        };
        let policy = || End::Rejected("policy; by=half".to_owned());
        let mut all: Vec<Ended> = (0..served).map(|user| ended(user, End::Served)).collect();
        all.extend((0..rejected).map(|user| ended(1_000 + user, policy())));
        all.extend((0..failed).map(|user| ended(2_000 + user, End::Failed)));
        Phase { name: "5×", provisioned: 100.0, tally: Tally::of(all.iter(), 1.0) }
    }

    #[test]
    fn the_verdict_wants_goodput_in_time_without_failures() {
        let miss = |phase| misses(&[phase]).join("; ");
        assert_eq!(miss(phase(95, 405, 0, 300, 1)), "");
        assert_eq!(miss(phase(79, 421, 0, 300, 1)), "5×: 79 draws a second served, 80 wanted");
        assert_eq!(miss(phase(95, 405, 0, 501, 1)), "5×: p99 501 ms, 500 at most");
        assert_eq!(miss(phase(95, 395, 10, 300, 1)), "5×: 2.0% failed, 1% at most");
        assert_eq!(miss(phase(40, 0, 0, 20, 1)), "", "no more than come can be served");
        assert_eq!(miss(phase(10, 400, 90, 3_000, 60)), "", "the generator was late: nothing is known");
    }

    #[test]
    fn the_table_has_a_line_for_each_phase_and_tells_of_users_where_some_were_rejected() {
        let text = table(&[phase(62, 0, 0, 20, 1), phase(95, 405, 0, 300, 1)]);
        let lines: Vec<&str> = text.lines().collect();
        let words: Vec<&str> = lines[2].split_whitespace().collect();
        assert_eq!(words, ["5×", "500", "95", "95%", "0", "405", "0", "0", "300"]);
        assert_eq!(lines.len(), 5, "{text}");
        assert!(lines[4].contains("turned 405 of 500 users away"), "{text}");
    }
}
