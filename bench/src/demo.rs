//! New Year's Eve of the red-packet business on this machine: what `cargo xtask demo` shows.
//!
//! Everything goes through the product as a user would go: `springtide dev`, the command line, the API. The script only
//! plays the crowd, and prints what happened.

mod crowd;
mod overload;
mod page;

use anyhow::{Context, Result, ensure};
use api::http::OperationRequest;
use crowd::{Crowd, Tally};
use model::Operation;
use page::Page;
use springtide_bench::fleet::{self, Fleet, Guard, Size};
use springtide_bench::load::failed;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The evening: seconds, and requests a second at the entry.
const EVENING: &[(u64, f64)] = &[(4, 20.0), (4, 50.0), (4, 90.0), (4, 130.0)];
/// Requests a second while capacities are measured.
const MEASURED_AT: f64 = 160.0;
/// Services whose capacity is measured: first the one that decides the night.
const MEASURED: &[&str] = &["lottery", "sso", "gift", "pay", "message", "records"];
/// Longest stress test of the demo.
const STRESS_MS_MAX: u32 = 12_000;
/// Length of the surge.
const SURGE_SECONDS: u64 = 20;
/// Share of the surge that must be served.
const SERVED_MIN: f64 = 0.99;
/// 99th percentile of the evening and of the surge, at most: twice what `sso` promises, this machine being small.
const P99_MS_MAX: f64 = 800.0;
/// Where the night's page is written.
const PAGE: &str = "target/springtide-demo.html";

/// The night
#[derive(clap::Args)]
pub struct Args {
    /// Keep the fleet running afterwards, until Ctrl-C
    #[arg(long)]
    stay: bool,
    /// Seed of the crowd
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

struct Night {
    began: Instant,
    fleet: Fleet,
    crowd: Crowd,
    page: Page,
}

/// Runs it; false when the surge was not served.
pub async fn run(args: Args) -> Result<bool> {
    let began = Instant::now();
    say(began, "standing up 2 datacenters × 3 hosts: control plane, 6 agents, an access proxy");
    let fleet = Fleet::start(&Size { datacenters: 2, hosts: 3, cpu: "4", memory: "4GiB" }).await?;
    let bank =
        Command::new(fleet::built("red-packet")?).arg("bank").stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let _bank = Guard(bank);
    say(began, "deploying the red-packet business: sso → lottery → gift, message, pay → records, and a bank outside");
    let manifests = fleet.copy_example("red-packet")?;
    let applied = fleet.cli(&["apply", "-f", &manifests.display().to_string()])?;
    show_where(&applied, |line| line.contains('→') || line.contains(": succeeded in ") || line.contains(" changes"));
    fleet.await_steady(90).await?;
    show(&fleet.cli(&["get", "instances"])?);
    show(&fleet.cli(&["protect", "apply", "-f", overload::PRESETS])?);
    let crowd = Crowd::start(fleet.entry, EVENING[0].1, args.seed);
    let mut night = Night { began, fleet, crowd, page: Page::default() };
    let evening = night.evening().await?;
    night.measure().await?;
    let surge_rps = night.size_and_scale().await?;
    let sized = night.provisioned().await?;
    let (surge, served) = night.surge(surge_rps).await?;
    night.scale_in().await?;
    let protected = night.overload((sized, surge)).await?;
    night.end(args.stay, evening && served && protected).await
}

/// A model's word as people write it: `too_few_requests` is "too few requests".
fn words(of: &impl serde::Serialize) -> String {
    let word = serde_json::to_value(of).expect("an enum is plain data");
    word.as_str().expect("a plain enum is written as its name").replace('_', " ")
}

fn say(began: Instant, text: &str) {
    println!("\n[{:>5.1} s] {text}", began.elapsed().as_secs_f64());
}

fn show(text: &str) {
    show_where(text, |_| true);
}

fn show_where(text: &str, wanted: impl Fn(&str) -> bool) {
    text.lines().filter(|line| wanted(line)).for_each(|line| println!("    {line}"));
}

/// Whether what was served came in time. A generator that was late itself cannot tell.
fn in_time(phase: &str, tally: &Tally) -> bool {
    let late = tally.p99_ms > P99_MS_MAX;
    if tally.lag_p99_ms > overload::LAG_MS_MAX {
        println!("    {phase}: the generator itself was late (p99 {:.0} ms): its p99 is not judged", tally.lag_p99_ms);
        return true;
    }
    if late {
        println!("    missed: {phase}: p99 {:.0} ms, {P99_MS_MAX:.0} at most", tally.p99_ms);
    }
    !late
}

impl Night {
    fn say(&mut self, text: &str) {
        say(self.began, text);
        self.page.line(self.began.elapsed(), text);
    }

    /// The crowd grows as on any evening. True when it was served in time.
    async fn evening(&mut self) -> Result<bool> {
        self.say("the evening: the crowd grows");
        let from = Instant::now();
        for (seconds, rate) in EVENING {
            self.crowd.set_rate(*rate);
            tokio::time::sleep(Duration::from_secs(*seconds)).await;
            self.print_services().await?;
        }
        Ok(in_time("the evening", &self.crowd.tally(from, Instant::now())))
    }

    async fn print_services(&self) -> Result<()> {
        let top = self.fleet.client.top().await?;
        let cell = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.0}"));
        let services =
            top.services.iter().map(|row| format!("{} {} rps p99 {} ms", row.name, cell(row.qps), cell(row.p99_ms)));
        println!("    {}", services.collect::<Vec<_>>().join("  ·  "));
        Ok(())
    }

    /// Online stress tests, with the evening's own traffic.
    async fn measure(&mut self) -> Result<()> {
        self.crowd.set_rate(MEASURED_AT);
        for service in MEASURED {
            self.say(&format!("stress test of {service}: live traffic moves onto one instance until its queue grows"));
            let request = OperationRequest::Stress {
                service: (*service).to_owned(),
                instance: None,
                duration_ms_max: Some(STRESS_MS_MAX),
            };
            let operation = self.fleet.client.open_operation(&request).await?;
            let operation = self.fleet.await_operation(operation.id.as_str(), 60).await?;
            fleet::succeeded(&operation)?;
            let curve = self.fleet.cli(&["curve", service])?;
            // The first one whole, with its plot; of the others the figures.
            let figures = curve.rsplit_once("\n\n").map_or(curve.as_str(), |(_plot, figures)| figures);
            show(if *service == MEASURED[0] { &curve } else { figures });
            self.page.figure(service, &self.fleet.client.curve_svg(operation.id.as_str()).await?);
        }
        Ok(())
    }

    /// What midnight needs, and the one click that gets there. Gives the crowd to expect.
    async fn size_and_scale(&mut self) -> Result<f64> {
        self.say("what does midnight need?");
        let table = self.fleet.cli(&["size", "midnight"])?;
        show(&table);
        self.page.text(&table);
        self.say("one click: scale out, each gray stage judged against the running fleet");
        let sized = self.fleet.client.size(&api::http::SizeRequest { event: "midnight".into(), apply: true }).await?;
        for id in &sized.operations {
            let operation = self.fleet.await_operation(id, 120).await?;
            self.tell(&operation).await?;
            fleet::succeeded(&operation)?;
        }
        self.fleet.await_steady(60).await?;
        let entry = sized.services.iter().find(|size| size.service == "sso").context("the entry is sized")?;
        Ok(entry.load_rps)
    }

    async fn tell(&mut self, operation: &Operation) -> Result<()> {
        let seconds =
            operation.finished_at.unwrap_or(operation.created_at).saturating_sub(operation.created_at) as f64 / 1_000.0;
        let gates = operation.verdicts.iter().map(|verdict| {
            let (outcome, percent) = (words(&verdict.outcome), f64::from(verdict.gray_permille) / 10.0);
            format!("{percent}% {outcome} ({} requests)", verdict.requests_new)
        });
        let line = format!(
            "{} {} in {seconds:.1} s: +{} −{} instances; gates: {}",
            operation.id,
            words(&operation.phase),
            operation.adds.len(),
            operation.removes.len(),
            gates.collect::<Vec<_>>().join(", ")
        );
        println!("    {line}");
        self.page.text(&line);
        let path = PathBuf::from(format!("target/springtide-demo-{}.html", operation.id));
        if operation.report.is_some() {
            std::fs::write(&path, self.fleet.client.report(operation.id.as_str()).await?)?;
            self.page.link(&path);
        }
        Ok(())
    }

    /// Midnight, and whether it was served.
    async fn surge(&mut self, rate: f64) -> Result<(Tally, bool)> {
        self.say(&format!(
            "midnight: {rate:.0} requests a second at the entry, {:.1}× the evening",
            rate / MEASURED_AT
        ));
        let from = Instant::now();
        self.crowd.set_rate(rate);
        for _ in 0..SURGE_SECONDS / 5 {
            tokio::time::sleep(Duration::from_secs(5)).await;
            self.print_services().await?;
        }
        let to = Instant::now();
        self.crowd.set_rate(MEASURED_AT / 2.0);
        tokio::time::sleep(crowd::PATIENCE).await;
        let tally = self.crowd.tally(from, to);
        let served = tally.share(tally.served);
        self.say(&format!(
            "the surge: {} draws, {:.2}% served, p99 {:.0} ms",
            tally.offered,
            served * 100.0,
            tally.p99_ms
        ));
        let passed = in_time("the surge", &tally) && served >= SERVED_MIN;
        Ok((tally, passed))
    }

    async fn scale_in(&mut self) -> Result<()> {
        self.say("the night is over: scaling in, drained first");
        for service in self.fleet.client.services().await? {
            if service.wanted <= 2 {
                continue;
            }
            let request = OperationRequest::Scale { service: service.name, to: Some(2), instances: Default::default() };
            let operation = self.fleet.client.open_operation(&request).await?;
            let operation = self.fleet.await_operation(operation.id.as_str(), 90).await?;
            self.tell(&operation).await?;
            fleet::succeeded(&operation)?;
        }
        Ok(())
    }

    async fn end(mut self, stay: bool, passed: bool) -> Result<bool> {
        let report = self.crowd.stop()?;
        let line = format!(
            "the whole night: {} draws offered, {} answered, {} rejected, {} failed; p50 {:.1} ms, p99 {:.1} ms, generator lag p99 {:.2} ms",
            report.offered,
            report.done,
            report.rejected,
            failed(&report),
            report.latency.p50_ms,
            report.latency.p99_ms,
            report.lag_p99_ms
        );
        say(self.began, &line);
        self.page.text(&line);
        std::fs::write(PAGE, self.page.html(&report.seconds))?;
        println!("    report: {PAGE}");
        if stay {
            println!(
                "\nstaying: export SPRINGTIDE_SERVER={}/springtide.sock; Ctrl-C ends it",
                self.fleet.folder().display()
            );
            tokio::signal::ctrl_c().await?;
        }
        let left = self.fleet.stop().await?;
        ensure!(left.is_empty(), "left behind: {left:#?}");
        println!("    every process and cgroup is gone");
        Ok(passed)
    }
}
