//! `load`: open-loop load on any HTTP/1.1 address, timed from the intended send.

use super::failure::Failure;
use super::output::{Format, Output, duration, print};
use loadgen::{Arrivals, Plan, Profile, Progress, Report, Step, Users};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

/// Send open-loop load and measure what comes back
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  springtide load http://127.0.0.1:8080/login --rps 500 --seconds 30\n  springtide load http://127.0.0.1:8080/draw?user={user} --ramp 100:2000 --seconds 60 --arrivals poisson\n  springtide load http://127.0.0.1:8080/ --steps 200:10,400:10,800:10 -o json\n  springtide load http://127.0.0.1:8080/ --replay evening.csv   # lines of SECONDS,RPS\n\nRequests are sent when the profile intends, whatever the server does; latency counts from that moment.\nExit codes: 0 measured, 1 void (this generator was late: less load, or more CPU), 2 wrong usage."
)]
pub struct Args {
    /// Where to send: http://HOST:PORT/PATH; `{user}` in the path stands for the user's id
    url: String,
    #[command(flatten)]
    profile: ProfileArgs,
    /// Length of --rps and --ramp
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Method
    #[arg(long, default_value = "GET")]
    method: String,
    /// Header, NAME: VALUE; may stand several times
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// Body of each request
    #[arg(long, default_value = "")]
    body: String,
    /// How requests lie in time
    #[arg(long, value_enum, default_value_t = ArrivalsArg::Even)]
    arrivals: ArrivalsArg,
    /// Users told apart (header x-user-id)
    #[arg(long, default_value_t = 100_000)]
    users: u64,
    /// Skew of the users: user k in proportion to k^-EXPONENT [default: all alike]
    #[arg(long, value_name = "EXPONENT")]
    zipf: Option<f64>,
    /// Seed of users and arrivals
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Time allowed for each request
    #[arg(long, default_value_t = 5_000)]
    timeout_ms: u32,
    /// Connections to each address
    #[arg(long, default_value_t = 512)]
    connections: u32,
    /// 99th percentile of this generator's own lag above which the run is void
    #[arg(long, default_value_t = 5.0)]
    lag_ms: f64,
    #[command(flatten)]
    output: Output,
}

/// How many requests when: one of these.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct ProfileArgs {
    /// So many requests a second
    #[arg(long)]
    rps: Option<f64>,
    /// From one rate to another
    #[arg(long, value_name = "FROM:TO")]
    ramp: Option<String>,
    /// One rate after another
    #[arg(long, value_name = "RPS:SECONDS,…")]
    steps: Option<String>,
    /// A recorded curve: lines of SECONDS,RPS
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
}

/// How requests lie in time.
#[derive(clap::ValueEnum, Debug, Clone, Copy)]
enum ArrivalsArg {
    /// Evenly
    Even,
    /// As independent users do
    Poisson,
}

/// `springtide load`.
pub async fn load(args: Args) -> Result<(), Failure> {
    let plan = args.plan()?;
    let output = args.output;
    let heard = |progress: Progress| {
        // A reader that is gone is noticed when the result is printed.
        let _ = output.note(&line(&progress));
    };
    let handle = loadgen::Handle::new();
    let running = loadgen::run_with(plan, &handle, heard);
    tokio::pin!(running);
    let report = tokio::select! {
        report = &mut running => report,
        _ = tokio::signal::ctrl_c() => {
            handle.stop();
            running.await
        }
    };
    let report = report.map_err(|error| Failure::Usage(error.to_string()))?;
    match output.format {
        Format::Table => print(&shown(&report))?,
        Format::Json | Format::Yaml => output.show(&report, String::new)?,
    }
    if report.void {
        let lag = report.lag_p99_ms;
        return Err(Failure::Refused(format!(
            "void: this generator lagged {lag:.1} ms at p99; send less, or give it more CPU"
        )));
    }
    Ok(())
}

impl Args {
    fn plan(&self) -> Result<Plan, Failure> {
        let (host, targets, path) = target(&self.url)?;
        let first = *targets.first().ok_or_else(|| Failure::Usage(format!("{host} has no address")))?;
        let mut plan = Plan::new(first, &path, self.profile.read(self.seconds)?);
        plan.targets = targets;
        plan.host = Some(host);
        let method = self.method.to_uppercase();
        plan.method = method.parse().map_err(|_| Failure::Usage(format!("{method} is no HTTP method")))?;
        for header in &self.headers {
            let parts = header.split_once(':').map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()));
            plan.headers
                .push(parts.ok_or_else(|| Failure::Usage(format!("{header:?} is no header; write NAME: VALUE")))?);
        }
        plan.body = self.body.clone().into();
        plan.arrivals = match self.arrivals {
            ArrivalsArg::Even => Arrivals::Even,
            ArrivalsArg::Poisson => Arrivals::Poisson,
        };
        plan.users = Users { count: self.users, zipf_exponent: self.zipf };
        (plan.seed, plan.timeout_ms, plan.connections_max) = (self.seed, self.timeout_ms, self.connections);
        plan.lag_p99_ms_max = self.lag_ms;
        Ok(plan)
    }
}

/// `Host` header, addresses and path of a URL.
fn target(url: &str) -> Result<(String, Vec<SocketAddr>, String), Failure> {
    let wrong = |why: String| Failure::Usage(format!("{url}: {why}; write http://HOST:PORT/PATH"));
    let rest = url.strip_prefix("http://").ok_or_else(|| wrong("no http:// address".to_owned()))?;
    let (host, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let with_port = if host.rsplit(']').next().is_some_and(|end| end.contains(':')) {
        host.to_owned()
    } else {
        format!("{host}:80")
    };
    let found = with_port.to_socket_addrs().map_err(|error| wrong(error.to_string()))?;
    Ok((host.to_owned(), found.take(1).collect(), path.to_owned()))
}

impl ProfileArgs {
    fn read(&self, seconds: f64) -> Result<Profile, Failure> {
        if let Some(rps) = self.rps {
            return Ok(Profile::Constant { rps, seconds });
        }
        if let Some(text) = &self.ramp {
            let (from_rps, to_rps) = pair(text, ':')
                .ok_or_else(|| Failure::Usage(format!("--ramp {text}: write FROM:TO, such as 100:2000")))?;
            return Ok(Profile::Ramp { from_rps, to_rps, seconds });
        }
        if let Some(text) = &self.steps {
            let steps = text.split(',').map(|step| pair(step, ':').map(|(rps, seconds)| Step { rps, seconds }));
            let steps: Option<Vec<Step>> = steps.collect();
            let wrong =
                || Failure::Usage(format!("--steps {text}: write RPS:SECONDS,RPS:SECONDS, such as 200:10,400:10"));
            return Ok(Profile::Steps(steps.ok_or_else(wrong)?));
        }
        let file = self.replay.as_ref().expect("clap requires one of the group");
        replay(file)
    }
}

/// Longest recorded curve read, in bytes.
const REPLAY_BYTES_MAX: u64 = 16 << 20;

fn replay(file: &Path) -> Result<Profile, Failure> {
    let wrong = |why: String| Failure::Usage(format!("{}: {why}", file.display()));
    let size = std::fs::metadata(file).map_err(|error| wrong(error.to_string()))?.len();
    if size > REPLAY_BYTES_MAX {
        return Err(wrong(format!("has {size} bytes; at most {REPLAY_BYTES_MAX} are read")));
    }
    let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
    let mut points = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let blank = line.trim().is_empty() || line.starts_with('#');
        match pair(line, ',') {
            Some(point) => points.push(point),
            None if blank || index == 0 => {}
            None => return Err(wrong(format!("line {}: {line:?} is not SECONDS,RPS", index + 1))),
        }
    }
    Ok(Profile::Replay(points))
}

fn pair(text: &str, by: char) -> Option<(f64, f64)> {
    let (one, other) = text.split_once(by)?;
    Some((one.trim().parse().ok()?, other.trim().parse().ok()?))
}

fn line(progress: &Progress) -> String {
    let second = &progress.second;
    format!(
        "{:>5.0} s of {:.0}: {} sent, {} ok, {} errors, {} rejected, {} dropped, p50 {:.1} ms, p99 {:.1} ms, {} in flight",
        second.at_s,
        progress.end_s,
        second.offered,
        second.done,
        second.errors,
        second.rejected,
        second.dropped,
        second.p50_ms,
        second.p99_ms,
        progress.in_flight
    )
}

fn shown(report: &Report) -> String {
    let (latency, errors) = (&report.latency, &report.errors);
    let rate = if report.duration_s > 0.0 { report.done as f64 / report.duration_s } else { 0.0 };
    format!(
        "\nsent       {} in {} ({rate:.1} ok/s)\n\
         ok         {}\n\
         rejected   {}\n\
         dropped    {}\n\
         errors     {} (1xx {}, 3xx {}, 4xx {}, 5xx {}, timeouts {}, connect {}, broken {})\n\
         latency    mean {:.2}, p50 {:.2}, p90 {:.2}, p99 {:.2}, p99.9 {:.2}, max {:.2} ms\n\
         own lag    p99 {:.2}, max {:.2} ms\n",
        report.offered,
        duration((report.duration_s * 1_000.0) as u64),
        report.done,
        report.rejected,
        report.dropped,
        errors.total(),
        errors.informational_1xx,
        errors.redirect_3xx,
        errors.client_4xx,
        errors.server_5xx,
        errors.timeouts,
        errors.connect,
        errors.broken,
        latency.mean_ms,
        latency.p50_ms,
        latency.p90_ms,
        latency.p99_ms,
        latency.p999_ms,
        latency.max_ms,
        report.lag_p99_ms,
        report.lag_max_ms
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(rps: Option<f64>, ramp: Option<&str>, steps: Option<&str>) -> Result<Profile, Failure> {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        ProfileArgs { rps, ramp: owned(ramp), steps: owned(steps), replay: None }.read(7.0)
    }

    #[test]
    fn profiles_are_read() {
        assert_eq!(profile(Some(5.0), None, None).unwrap(), Profile::Constant { rps: 5.0, seconds: 7.0 });
        let ramp = Profile::Ramp { from_rps: 1.0, to_rps: 9.5, seconds: 7.0 };
        assert_eq!(profile(None, Some("1:9.5"), None).unwrap(), ramp);
        let steps = Profile::Steps(vec![Step { rps: 1.0, seconds: 2.0 }, Step { rps: 3.0, seconds: 4.0 }]);
        assert_eq!(profile(None, None, Some("1:2,3:4")).unwrap(), steps);
        assert_eq!(profile(None, None, Some("1:2,3")).unwrap_err().code(), 2);
        assert_eq!(profile(None, Some("1"), None).unwrap_err().code(), 2);
    }

    #[test]
    fn a_recorded_curve_is_read_with_or_without_a_head() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("curve.csv");
        std::fs::write(&file, "seconds,rps\n# evening\n0,100\n60, 250.5\n\n").unwrap();
        assert_eq!(replay(&file).unwrap(), Profile::Replay(vec![(0.0, 100.0), (60.0, 250.5)]));
        std::fs::write(&file, "0,100\nx\n").unwrap();
        let Err(Failure::Usage(why)) = replay(&file) else { panic!("a fault") };
        assert!(why.ends_with("line 2: \"x\" is not SECONDS,RPS"), "{why}");
    }

    #[test]
    fn a_url_gives_host_address_and_path() {
        let (host, addresses, path) = target("http://127.0.0.1:81/a?b={user}").unwrap();
        assert_eq!((host.as_str(), path.as_str()), ("127.0.0.1:81", "/a?b={user}"));
        assert_eq!(addresses, ["127.0.0.1:81".parse().unwrap()]);
        assert_eq!(target("http://127.0.0.1").unwrap().1, ["127.0.0.1:80".parse().unwrap()]);
        assert_eq!(target("https://127.0.0.1").unwrap_err().code(), 2);
    }
}
