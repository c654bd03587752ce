//! `bench ui`: the war room in a real browser over a simulated fleet: the heat map's frame, and from a metric to its pixel.
//!
//! The fleet's agents and proxies are simulated in this process but speak the real protocol to a real server; the page is
//! the embedded one in headless Chromium. Every instance's memory moves to another colour each second, so each frame paints
//! every cell anew, and a pixel tells which sample it shows. A sample counts as shown once the frame with it, or with a
//! newer one of that instance, has been presented. Agents, server, browser and bench share the machine, which counts
//! against us.

mod browser;
mod night;

use anyhow::{Context, Result, ensure};
use browser::{Browser, Round};
use night::{Night, Seen};
use springtide_bench::machine::{CpuTime, STEAL_MAX};
use springtide_bench::server::Server;
use springtide_bench::simulated::shape::Shape;
use springtide_bench::simulated::{Agents, Behaviour, Place, Proxies};
use springtide_bench::stats;
use springtide_bench::table::{self, Row};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longest time for a frame of the heat map, at the 99th percentile.
const FRAME_MS_MAX: f64 = 16.0;
/// Longest time from a sample at its agent to the presented frame, at the 99th percentile.
const PIXEL_MS_MAX: f64 = 2_000.0;
/// Largest page as sent, compressed.
const PAGE_KIB_MAX: f64 = 100.0;
/// Time in which all agents must be connected, and all instances run.
const UP_SECONDS_MAX: u64 = 180;

/// The heat map's frame and from metric to pixel, in Chromium over a simulated fleet
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  cargo xtask bench ui\n  cargo xtask bench ui --hosts 10000 --rounds 2 --seed 7")]
pub struct Args {
    /// Seed of the instances' numbers
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Simulated hosts
    #[arg(long, default_value_t = 1_000)]
    hosts: usize,
    /// Instances on them: the cells
    #[arg(long, default_value_t = 10_000)]
    instances: usize,
    /// Services
    #[arg(long, default_value_t = 24)]
    services: usize,
    /// Rounds
    #[arg(long, default_value_t = 4)]
    rounds: u32,
    /// Seconds of a round
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    /// Folder of screenshots
    #[arg(long, default_value = "target/war-room")]
    shots: PathBuf,
    /// Only take screenshots
    #[arg(long)]
    only_shots: bool,
    /// Keep the fleet this long afterwards, to look at it
    #[arg(long, default_value_t = 0, hide = true)]
    stay_seconds: u64,
}

/// What all rounds found.
#[derive(Default)]
struct Found {
    frames_ms: Vec<f64>,
    pixels_ms: Vec<f64>,
    busy: Vec<f64>,
    void: u32,
}

/// Runs it; false when a floor is missed.
pub async fn run(args: Args) -> Result<bool> {
    ensure!((1..=10_000).contains(&args.hosts), "--hosts {}: between 1 and 10000", args.hosts);
    ensure!((1..=20_000).contains(&args.instances), "--instances {}: between 1 and 20000", args.instances);
    ensure!((4..=200).contains(&args.services), "--services {}: between 4 and 200", args.services);
    ensure!((1..=20).contains(&args.rounds), "--rounds {}: between 1 and 20", args.rounds);
    ensure!((5..=120).contains(&args.seconds), "--seconds {}: between 5 and 120", args.seconds);
    let began = Instant::now();
    let shape = Shape {
        datacenters: 3,
        racks: (args.hosts / 3 / 40).clamp(1, 100),
        hosts: args.hosts,
        services: args.services,
        instances: args.instances,
    };
    let night = Arc::new(Night::new(args.seed));
    let server = Server::start().await?;
    let fleet = start(&server, shape, &night).await?;
    println!("{} instances run on {} hosts after {:.0} s", args.instances, args.hosts, began.elapsed().as_secs_f64());
    std::fs::create_dir_all(&args.shots)?;
    if args.only_shots {
        browser::shots(&server, &args.shots.canonicalize()?).await?;
        tokio::time::sleep(Duration::from_secs(args.stay_seconds)).await;
        return Ok(true);
    }
    let mut browser = Browser::open(&server, args.instances, &args.shots.canonicalize()?).await?;
    let page_kib = browser.page_bytes as f64 / 1024.0;
    println!("the page is open: {page_kib:.1} KiB came over the wire, {} cells watched", browser.cells.len());
    let mut found = Found::default();
    for round in 0..args.rounds {
        measure(round, &args, &mut browser, &night, &mut found).await?;
    }
    ensure!(found.void < args.rounds, "every round is void: the machine is not ours");
    browser.close().await?;
    drop(fleet);
    Ok(verdict(&args, &found, page_kib, began.elapsed()))
}

/// Agents and proxies; they end when dropped.
struct Fleet(
    #[expect(dead_code, reason = "held until dropped")] Agents,
    #[expect(dead_code, reason = "held until dropped")] Proxies,
);

async fn start(server: &Server, shape: Shape, night: &Arc<Night>) -> Result<Fleet> {
    let folder = server.folder().join("manifests");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("app"), "#!/bin/sh\n")?;
    let (starts, ends) = night::hours();
    std::fs::write(folder.join("fleet.yaml"), shape.manifests("app", &starts, &ends))?;
    server.cli(&["apply", "-f", folder.to_str().context("the folder's name is text")?, "--no-wait"])?;
    let (address, token) = server.place()?;
    let place = Place { server: address, token };
    let behaviour: Arc<dyn Behaviour> = Arc::clone(night) as _;
    let agents = Agents::start(shape.hosts(), &place, Arc::clone(&behaviour));
    agents.all_connected(UP_SECONDS_MAX).await?;
    let proxies = Proxies::start(&shape.datacenters(), &place, &agents.running, shape.callers(), &behaviour);
    let deadline = Instant::now() + Duration::from_secs(UP_SECONDS_MAX);
    while agents.running.count() < shape.instances || server.client.status().await?.operations_open > 0 {
        ensure!(
            Instant::now() < deadline,
            "{} of {} instances run after {UP_SECONDS_MAX} s",
            agents.running.count(),
            shape.instances
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(Fleet(agents, proxies))
}

async fn measure(round: u32, args: &Args, browser: &mut Browser, night: &Night, found: &mut Found) -> Result<()> {
    let cpu = CpuTime::now()?;
    let seen: Round = browser.round(args.seconds).await?;
    let steal = CpuTime::now()?.steal_since(cpu);
    let pixels: Vec<f64> = browser
        .cells
        .iter()
        .enumerate()
        .flat_map(|(cell, name)| {
            let changes: Vec<Seen> = seen.changes.iter().filter(|of| of.cell == cell).map(|of| of.seen).collect();
            night.delays(name, &changes, seen.from_ms, seen.to_ms)
        })
        .collect();
    ensure!(!pixels.is_empty() && !seen.frames_ms.is_empty(), "round {round}: no pixel changed");
    let void = if steal > STEAL_MAX { "  void: steal" } else { "" };
    let q = stats::quantile;
    println!(
        "round {round}: {} frames: p50 {:.1} ms  p99 {:.1}  max {:.1};  {} samples to pixel: p50 {:.0} ms  p99 {:.0}  max {:.0};  page's thread busy {:.0}%{void}",
        seen.frames_ms.len(),
        stats::median(&seen.frames_ms),
        q(&seen.frames_ms, 0.99),
        stats::max(&seen.frames_ms),
        pixels.len(),
        stats::median(&pixels),
        q(&pixels, 0.99),
        stats::max(&pixels),
        seen.busy * 100.0,
    );
    if steal > STEAL_MAX {
        found.void += 1;
        return Ok(());
    }
    found.frames_ms.extend(seen.frames_ms);
    found.pixels_ms.extend(pixels);
    found.busy.push(seen.busy);
    Ok(())
}

fn verdict(args: &Args, found: &Found, page_kib: f64, took: Duration) -> bool {
    let q = stats::quantile;
    let (frame, pixel) = (q(&found.frames_ms, 0.99), q(&found.pixels_ms, 0.99));
    let (frame_p50, pixel_p50) = (stats::median(&found.frames_ms), stats::median(&found.pixels_ms));
    let busy = stats::median(&found.busy);
    println!();
    let met = table::print(&[
        Row::new(
            "heat map's frame, every cell anew, p99, ms",
            format!("{frame:.1}"),
            FRAME_MS_MAX,
            frame <= FRAME_MS_MAX,
        ),
        Row::new("the same, median, ms", format!("{frame_p50:.1}"), "-", true),
        Row::new("the same, worst, ms", format!("{:.1}", stats::max(&found.frames_ms)), "-", true),
        Row::new(
            "sample at its agent to presented frame, p99, ms",
            format!("{pixel:.0}"),
            PIXEL_MS_MAX,
            pixel <= PIXEL_MS_MAX,
        ),
        Row::new("the same, median, ms", format!("{pixel_p50:.0}"), "-", true),
        Row::new("the same, worst, ms", format!("{:.0}", stats::max(&found.pixels_ms)), "-", true),
        Row::new("page as sent, KiB", format!("{page_kib:.1}"), PAGE_KIB_MAX, page_kib <= PAGE_KIB_MAX),
        Row::new("the page's thread is busy, %", format!("{:.0}", busy * 100.0), "-", true),
    ]);
    println!(
        "\nbench ui: cells={} hosts={} frames={} frame_p50_ms={frame_p50:.1} frame_p99_ms={frame:.1} samples={} pixel_p50_ms={pixel_p50:.0} pixel_p99_ms={pixel:.0} page_kib={page_kib:.1} busy={busy:.2} void={} seconds={:.0} seed={}",
        args.instances,
        args.hosts,
        found.frames_ms.len(),
        found.pixels_ms.len(),
        found.void,
        took.as_secs_f64(),
        args.seed
    );
    met
}
