//! `bench policy-push`: from one click to in force on a thousand proxies; kill -9 of the server; ends kept everywhere.
//!
//! The proxies are simulated in this process, but their streams are not: each has its own TCP connection, speaks ADS, and
//! decodes, compiles and asks the policies as `proxy` does. In force is what a proxy's own set decides for a probe request,
//! never what the server says. Proxies, bench and server share the machine's cores, which counts against us.

mod proxies;

use anyhow::{Context, Result, bail, ensure};
use api::http::{FireRequest, LiftRequest, ManifestFile, ProtectRequest, ProtectResponse};
use proxies::Proxies;
use rand::{RngExt, SeedableRng};
use springtide_bench::machine::{CpuTime, STEAL_MAX};
use springtide_bench::server::Server;
use springtide_bench::stats;
use springtide_bench::table::{self, Row};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Longest time from the click to in force, at the 99th percentile of proxies.
const PUSH_MS_MAX: f64 = 1_000.0;
/// Longest time after its end for which a policy may act anywhere.
const LATE_MS_MAX: f64 = 2_000.0;
/// Time in which all proxies must be connected, or back.
const CONNECT_SECONDS_MAX: u64 = 60;
/// Time in which a click must be in force everywhere.
const PUSH_SECONDS_MAX: u64 = 20;
/// Latest moment of a kill after the click that it cuts.
const KILL_MS_MAX: u64 = 60;
/// Life of a policy whose end is watched.
const SHORT_SECONDS: u64 = 4;

/// One click to in force on simulated proxies that speak real ADS
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask bench policy-push\n  cargo xtask bench policy-push --proxies 200 --seed 7"
)]
pub struct Args {
    /// Seed of the kills' moments
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Simulated proxies
    #[arg(long, default_value_t = 1_000)]
    proxies: usize,
    /// Clicks
    #[arg(long, default_value_t = 30)]
    clicks: u32,
    /// Kills of the server
    #[arg(long, default_value_t = 12)]
    kills: u32,
    /// Ends that are watched; every second one with the server dead
    #[arg(long, default_value_t = 6)]
    ends: u32,
}

/// What all rounds found.
#[derive(Default)]
struct Found {
    /// 99th percentile of each click, in ms.
    push_p99_ms: Vec<f64>,
    push_max_ms: Vec<f64>,
    /// The same as the server's answer told it.
    told_ms: Vec<f64>,
    void: u32,
    lost: u32,
    not_kept: u32,
    back_ms: Vec<f64>,
    late_ms: Vec<f64>,
}

const EXTERNAL: &str = "kind: External\nname: bank\nrequests_per_second_max: 100000\naddress: 127.0.0.1:9\n";

/// A preset of five policies, one with an expression.
fn preset(name: &str) -> String {
    let mut text = format!("kind: Preset\nname: {name}\npolicies:\n");
    for n in 0..4 {
        text += &format!(
            "- {{name: p{n}, service: bank, route: /p{n}, action: {{throttle: {{users_percent: {}}}}}, for: 1h}}\n",
            n + 1
        );
    }
    text + "- {name: when, service: bank, when: 'request.path.startsWith(\"/when\") && priority > 9', action: {suppress: {}}, for: 1h}\n"
}

fn suppress(name: &str) -> String {
    // Each has its own route, which a probe asks for.
    format!("kind: Policy\nname: {name}\nservice: bank\nroute: /{name}\naction: {{suppress: {{status: 204}}}}\n")
}

/// Runs it; false when a floor is missed.
pub async fn run(args: Args) -> Result<bool> {
    ensure!((1..=5_000).contains(&args.proxies), "--proxies {}: between 1 and 5000", args.proxies);
    let began = Instant::now();
    let mut server = Server::start().await?;
    server
        .client
        .apply(&api::http::ApplyRequest { files: vec![file(EXTERNAL.to_owned())], ..Default::default() })
        .await?;
    server.client.protect_apply(&request(preset("surge"), None)).await?;
    let proxies = Proxies::start(args.proxies, server.place()?);
    proxies.all_connected(CONNECT_SECONDS_MAX).await?;
    println!("{} proxies connected after {:.1} s", args.proxies, began.elapsed().as_secs_f64());
    let mut found = Found::default();
    clicks(&args, &server, &proxies, &mut found).await?;
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(args.seed);
    for round in 0..args.kills {
        let after = Duration::from_millis(rng.random_range(0..=KILL_MS_MAX));
        kill(round, after, &mut server, &proxies, &mut found).await?;
    }
    for round in 0..args.ends {
        end(round, &mut server, &proxies, &mut found).await?;
    }
    Ok(verdict(&args, &found, began.elapsed()))
}

fn file(text: String) -> ManifestFile {
    ManifestFile { path: "bench.yaml".to_owned(), text }
}

fn request(text: String, life: Option<&str>) -> ProtectRequest {
    ProtectRequest { files: vec![file(text)], life: life.map(str::to_owned), force: false, wait_ms: Some(10_000) }
}

/// Clicks of three kinds, one after the other: one policy, a preset of five, a lift.
async fn clicks(args: &Args, server: &Server, proxies: &Proxies, found: &mut Found) -> Result<()> {
    for round in 0..args.clicks {
        let cpu = CpuTime::now()?;
        let clicked = Instant::now();
        let (kind, response) = match round % 3 {
            0 => (
                "one policy",
                server.client.protect_apply(&request(suppress(&format!("click-{round}")), Some("1h"))).await?,
            ),
            1 => {
                let fire = FireRequest { wait_ms: Some(10_000), ..FireRequest::default() };
                ("a preset of 5", server.client.protect_fire("surge", &fire).await?)
            }
            _ => {
                let lift =
                    LiftRequest { preset: Some("surge".to_owned()), wait_ms: Some(10_000), ..LiftRequest::default() };
                ("a lift of 5", server.client.protect_lift(&lift).await?)
            }
        };
        let times = proxies.at_revision(response.revision, clicked, PUSH_SECONDS_MAX).await?;
        check(round, proxies, &response)?;
        let steal = CpuTime::now()?.steal_since(cpu);
        let (p50, p99, worst) = (stats::median(&times), stats::quantile(&times, 0.99), stats::max(&times));
        let told = response.in_force.after_ms.unwrap_or(f64::NAN);
        let void = if steal > STEAL_MAX { "  void: steal" } else { "" };
        println!(
            "click {round:2} {kind:13} in force on {}/{} proxies: p50 {p50:6.1} ms  p99 {p99:6.1}  worst {worst:6.1}  told {told:6.1}{void}",
            times.len(),
            args.proxies
        );
        if steal > STEAL_MAX {
            found.void += 1;
            continue;
        }
        found.push_p99_ms.push(p99);
        found.push_max_ms.push(worst);
        found.told_ms.push(told);
    }
    ensure!(
        found.push_p99_ms.len() * 2 > args.clicks as usize,
        "more than half of the clicks are void: the machine is not ours"
    );
    Ok(())
}

/// The answer must not claim more than the proxies themselves show.
fn check(round: u32, proxies: &Proxies, response: &ProtectResponse) -> Result<()> {
    let at = &response.in_force;
    ensure!(
        at.proxies as usize == proxies.count() && at.proxies_taken == at.proxies,
        "click {round}: told {}/{} proxies of {}",
        at.proxies_taken,
        at.proxies,
        proxies.count()
    );
    if round.is_multiple_of(3) {
        let name = format!("click-{round}");
        ensure!(proxies.taking(&name) == proxies.count(), "click {round}: not every proxy takes its requests");
    }
    Ok(())
}

/// A click, and a kill at some moment of it: what was answered is there afterwards, and proxies go on meanwhile.
async fn kill(round: u32, after: Duration, server: &mut Server, proxies: &Proxies, found: &mut Found) -> Result<()> {
    let before: BTreeSet<String> = names(server).await?;
    let name = format!("kill-{round}");
    let click = tokio::spawn({
        // Answered once it is committed: the moments before and after that are what a kill must not tear apart.
        let request = ProtectRequest { wait_ms: Some(0), ..request(suppress(&name), Some("1h")) };
        let client = server.client.clone();
        async move { client.protect_apply(&request).await.is_ok() }
    });
    tokio::time::sleep(after).await;
    server.kill()?;
    let answered = click.await?;
    // Cut off, each keeps what it had: the first click of all is a witness.
    let kept = proxies.taking("click-0");
    found.not_kept += (proxies.count() - kept) as u32;
    let started = Instant::now();
    server.start_again().await?;
    let there = names(server).await?;
    let missing: Vec<&String> = before.difference(&there).collect();
    let lost = missing.len() as u32 + u32::from(answered && !there.contains(&name));
    found.lost += lost;
    proxies.all_hold(&there, CONNECT_SECONDS_MAX).await?;
    let back_ms = started.elapsed().as_secs_f64() * 1e3;
    found.back_ms.push(back_ms);
    println!(
        "kill {round:2} {:2} ms after the click: {}; {} policies there, {lost} lost; {kept}/{} proxies kept theirs; all by the new server after {back_ms:.0} ms",
        after.as_millis(),
        if answered { "answered" } else { "not answered" },
        there.len(),
        proxies.count(),
    );
    Ok(())
}

async fn names(server: &Server) -> Result<BTreeSet<String>> {
    let view = server.client.protect().await?;
    Ok(view.policies.into_iter().map(|of| of.policy.name.to_string()).collect())
}

/// A short life: how long after its end any proxy, or the server's list, still has it.
async fn end(round: u32, server: &mut Server, proxies: &Proxies, found: &mut Found) -> Result<()> {
    let name = format!("end-{round}");
    let response = server.client.protect_apply(&request(suppress(&name), Some(&format!("{SHORT_SECONDS}s")))).await?;
    proxies.at_revision(response.revision, Instant::now(), PUSH_SECONDS_MAX).await?;
    let view = server.client.protect().await?;
    let policy = view.policies.iter().find(|of| of.policy.name.as_str() == name).context("the policy is in force")?;
    let ends = Instant::now() + Duration::from_millis(policy.life_ms);
    ensure!(proxies.taking(&name) == proxies.count(), "end {round}: not in force before its end");
    let dead = round % 2 == 1;
    if dead {
        server.kill()?;
    }
    let deadline = ends + Duration::from_secs(10);
    let mut early = false;
    let gone = loop {
        let taking = proxies.taking(&name);
        early |= taking < proxies.count() && Instant::now() + Duration::from_millis(50) < ends;
        if taking == 0 {
            break Instant::now();
        }
        if Instant::now() > deadline {
            bail!("end {round}: {taking} proxies go on 10 s after the end");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    ensure!(!early, "end {round}: a proxy ended it before its time");
    if dead {
        server.start_again().await?;
    }
    while names(server).await?.contains(&name) {
        ensure!(Instant::now() < deadline, "end {round}: the server lists it 10 s after the end");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let late_ms = gone.saturating_duration_since(ends).as_secs_f64() * 1e3;
    found.late_ms.push(late_ms);
    let how = if dead { "server dead" } else { "server alive" };
    println!("end {round:2} ({how}): the last of {} proxies let go {late_ms:.0} ms after the end", proxies.count());
    Ok(())
}

fn verdict(args: &Args, found: &Found, took: Duration) -> bool {
    let p99 = stats::max(&found.push_p99_ms);
    let worst = stats::max(&found.push_max_ms);
    let late = stats::max(&found.late_ms);
    let gap: Vec<f64> = found.told_ms.iter().zip(&found.push_max_ms).map(|(told, truth)| told - truth).collect();
    println!();
    let met = table::print(&[
        Row::new(
            "click to in force, p99 of proxies, worst click, ms",
            format!("{p99:.0}"),
            PUSH_MS_MAX,
            p99 <= PUSH_MS_MAX,
        ),
        Row::new("the same, median click, ms", format!("{:.0}", stats::median(&found.push_p99_ms)), "-", true),
        Row::new("the slowest proxy of all clicks, ms", format!("{worst:.0}"), "-", true),
        Row::new("told by protect less the truth, median, ms", format!("{:.0}", stats::median(&gap)), "-", true),
        Row::new("policies lost by kill -9", found.lost, 0, found.lost == 0),
        Row::new("proxies that let go while cut off", found.not_kept, 0, found.not_kept == 0),
        Row::new("all proxies on the new server, worst, ms", format!("{:.0}", stats::max(&found.back_ms)), "-", true),
        Row::new("last let go after the end, worst, ms", format!("{late:.0}"), LATE_MS_MAX, late <= LATE_MS_MAX),
    ]);
    println!(
        "\nbench policy-push: proxies={} clicks={} void={} p99_ms={p99:.0} p50_click_ms={:.0} worst_ms={worst:.0} kills={} lost={} not_kept={} late_ms={late:.0} seconds={:.0} seed={}",
        args.proxies,
        args.clicks,
        found.void,
        stats::median(&found.push_p99_ms),
        args.kills,
        found.lost,
        found.not_kept,
        took.as_secs_f64(),
        args.seed
    );
    met
}
