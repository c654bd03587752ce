//! `stress` and `curve`: measuring what an instance carries, and showing what was measured.

use super::connect::Connect;
use super::failure::Failure;
use super::nearest::{must_exist, or_nearest};
use super::output::{Format, Output, duration, print};
use super::progress::{self, Wait};
use super::tables;
use api::client::Client;
use api::http::OperationRequest;
use model::{BindingResource, Curve, Kind, StressEnd};
use std::path::{Path, PathBuf};

/// Measure the capacity of one instance with live traffic
#[derive(clap::Args)]
#[command(
    after_help = "Example: springtide stress lottery --svg lottery.svg\n\nLive traffic moves onto one instance until its capacity is known; weights return when the test ends,\nor within 5 s of the death of whatever runs it.\nExit codes: 0 measured, 1 refused or aborted, 3 no server."
)]
pub struct StressArgs {
    /// The service
    service: String,
    /// The instance [default: the controller chooses]
    #[arg(long)]
    instance: Option<String>,
    /// Longest duration
    #[arg(long, default_value_t = 20, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Also draw the curve into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    #[command(flatten)]
    wait: Wait,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connect: Connect,
}

/// Show a service's measured curve
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  springtide curve lottery\n  springtide curve lottery --all\n  springtide curve lottery --operation op-7 --svg lottery.svg"
)]
pub struct CurveArgs {
    /// The service
    service: String,
    /// The stress test that measured it [default: the newest]
    #[arg(long)]
    operation: Option<String>,
    /// List all of the service's curves instead
    #[arg(long, conflicts_with_all = ["operation", "svg"])]
    all: bool,
    /// Also draw the curve into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connect: Connect,
}

/// `springtide stress`.
pub async fn stress(args: StressArgs) -> Result<(), Failure> {
    let client = args.connect.client()?;
    let duration_ms_max = Some(args.seconds * 1_000);
    let request = OperationRequest::Stress { service: args.service.clone(), instance: args.instance, duration_ms_max };
    let opened = match client.open_operation(&request).await {
        Ok(opened) => opened,
        Err(error) => return Err(or_nearest(&client, Kind::Service, &args.service, error).await),
    };
    if args.wait.no_wait {
        return args.output.show(&opened, || format!("{} {} accepted\n", opened.id, progress::title(&opened)));
    }
    progress::follow(&client, &opened.id, &args.wait, args.output).await?;
    let curve = find(&client, &args.service, Some(opened.id.as_str())).await?;
    present(&client, &curve, args.svg.as_deref(), args.output).await
}

/// `springtide curve`.
pub async fn show(args: CurveArgs) -> Result<(), Failure> {
    let client = args.connect.client()?;
    if args.all {
        let curves = client.curves(Some(&args.service)).await?;
        return args.output.show(&curves, || tables::curves(&curves).text());
    }
    let curve = find(&client, &args.service, args.operation.as_deref()).await?;
    present(&client, &curve, args.svg.as_deref(), args.output).await
}

async fn find(client: &Client, service: &str, operation: Option<&str>) -> Result<Curve, Failure> {
    let curves = client.curves(Some(service)).await?;
    if curves.is_empty() {
        must_exist(client, Kind::Service, service).await?;
    }
    let found = curves.into_iter().find(|curve| operation.is_none_or(|id| curve.operation.as_str() == id));
    found.ok_or_else(|| match operation {
        Some(id) => Failure::Refused(format!("{id} measured no curve of {service}")),
        None => Failure::Refused(format!("{service} has no curve yet; measure one: springtide stress {service}")),
    })
}

async fn present(client: &Client, curve: &Curve, svg: Option<&Path>, output: Output) -> Result<(), Failure> {
    match output.format {
        Format::Table => print(&drawn(curve))?,
        Format::Json | Format::Yaml => output.show(curve, String::new)?,
    }
    let Some(file) = svg else { return Ok(()) };
    let drawing = client.curve_svg(curve.operation.as_str()).await?;
    let written = std::fs::write(file, drawing);
    written.map_err(|error| Failure::Local(format!("cannot write {}: {error}", file.display())))?;
    output.note(&format!("drawn into {}", file.display()))
}

/// What ran out first, for people.
pub fn binding(curve: &Curve) -> String {
    match curve.binding {
        BindingResource::Cpu => "CPU".to_owned(),
        BindingResource::Serial => "one at a time (a lock or a single thread)".to_owned(),
        BindingResource::Concurrency { limit } => format!("{limit:.0} at a time (workers or a pool)"),
        BindingResource::NotReached => "nothing yet".to_owned(),
    }
}

fn ended(curve: &Curve) -> &'static str {
    match curve.ended {
        StressEnd::Converged => "the interval is narrow enough",
        StressEnd::TimeUp => "the time was up",
        StressEnd::TrafficExhausted => "all live traffic was on it and it still had room",
        StressEnd::Errors => "errors passed the bound",
        StressEnd::Aborted => "aborted",
    }
}

/// Size of the drawing, in characters.
const DRAWING: (usize, usize) = (76, 18);

/// True when traffic ran out before the instance did.
pub fn is_lower_bound(curve: &Curve) -> bool {
    curve.ended == StressEnd::TrafficExhausted || curve.binding == BindingResource::NotReached
}

/// What one instance takes, for people.
fn capacity_of(curve: &Curve) -> String {
    let capacity = &curve.capacity_rps;
    match (is_lower_bound(curve), capacity.high.is_finite()) {
        (true, _) => format!("at least {:.0} requests/s", capacity.value),
        (false, true) => {
            format!("{:.0} requests/s (95%: {:.0} to {:.0})", capacity.value, capacity.low, capacity.high)
        }
        (false, false) => format!("{:.0} requests/s (95%: {:.0} or more)", capacity.value, capacity.low),
    }
}

/// A curve, for people.
fn drawn(curve: &Curve) -> String {
    let cpu = &curve.cpu_us_per_request;
    let knee = if is_lower_bound(curve) { "not seen".to_owned() } else { format!("{:.0} requests/s", curve.knee_rps) };
    format!(
        "{} {} on {}, {} ({} by {}, {})\n\n{}\n\
         capacity      {}\n\
         bound by      {}\n\
         knee          {knee}\n\
         CPU           {:.0} µs a request (95%: {:.0} to {:.0}), {:.3} cores in the background\n\
         by the rule   {:.0} requests/s (current peak ÷ empirical CPU ceiling)\n\
         requests      {} moved onto it, {} failed\n\
         ended         {}\n",
        curve.service,
        curve.package_version,
        curve.host_type,
        curve.shape,
        curve.instance,
        curve.operation,
        duration(curve.duration_ms),
        capacity::plot::text(curve, DRAWING.0, DRAWING.1),
        capacity_of(curve),
        binding(curve),
        cpu.value,
        cpu.low,
        cpu.high,
        curve.background_cores,
        curve.plain_estimate_rps,
        curve.requests,
        curve.errors,
        ended(curve),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{CurvePoint, Interval};

    #[test]
    fn a_curve_reads_well() {
        let interval = |value: f64| Interval { value, low: value * 0.9, high: value * 1.1 };
        let point = |at: f64| CurvePoint {
            at_ms: 0,
            offered_rps: at * 100.0,
            completed_rps: at * 100.0,
            latency_mean_ms: at,
            latency_p99_ms: at * at,
            in_flight: at,
            cpu_cores: 0.1,
        };
        let curve = Curve {
            operation: "op-3".parse().unwrap(),
            service: "lottery".parse().unwrap(),
            host_type: "small".parse().unwrap(),
            package_version: "1.4".to_owned(),
            instance: "lottery-2".parse().unwrap(),
            shape: "1C1G".parse().unwrap(),
            measured_at: 0,
            duration_ms: 18_200,
            cpu_us_per_request: interval(400.0),
            background_cores: 0.01,
            knee_rps: 900.0,
            capacity_rps: interval(1_000.0),
            binding: BindingResource::Concurrency { limit: 2.0 },
            plain_estimate_rps: 800.0,
            requests: 12_345,
            errors: 3,
            ended: StressEnd::Converged,
            points: (1..=10).map(|at| point(f64::from(at))).collect(),
        };
        let text = drawn(&curve);
        let (head, rest) = text.split_once("\n\n").unwrap();
        assert_eq!(head, "lottery 1.4 on small, 1C 1GiB (lottery-2 by op-3, 18.2 s)");
        let (drawing, facts) = rest.split_once("\n\n").unwrap();
        assert!(drawing.ends_with("│ capacity 1000 requests/s"), "{drawing}");
        assert!(drawing.lines().all(|line| line.chars().count() <= 80), "{drawing}");
        let wanted = "\
capacity      1000 requests/s (95%: 900 to 1100)
bound by      2 at a time (workers or a pool)
knee          900 requests/s
CPU           400 µs a request (95%: 360 to 440), 0.010 cores in the background
by the rule   800 requests/s (current peak ÷ empirical CPU ceiling)
requests      12345 moved onto it, 3 failed
ended         the interval is narrow enough
";
        assert_eq!(facts, wanted);
        let bound = Curve { ended: StressEnd::TrafficExhausted, binding: BindingResource::NotReached, ..curve };
        let text = drawn(&bound);
        let lines = "capacity      at least 1000 requests/s\nbound by      nothing yet\nknee          not seen\n";
        assert!(text.contains(lines), "{text}");
    }
}
