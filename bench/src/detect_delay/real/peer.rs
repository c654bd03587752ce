//! A Prometheus from Debian beside it, on the first business: scraped each second, rules evaluated each second.
//!
//! The rules are what a careful operator writes: shares of failures by service over three seconds, latency against the
//! last two minutes, instances that no longer report. Found means: an alert fires that names the service or instance.

use super::super::faults::{Fault, FaultKind};
use super::super::run::Verdict;
use super::business::Business;
use super::now_ms;
use anyhow::{Context, Result};
use springtide_bench::stats::quantile;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Handle;

/// Time between looks at what fires.
const LOOK: Duration = Duration::from_secs(1);

const RULES: &str = r#"groups:
- name: all
  interval: 1s
  rules:
  - {alert: ServiceErrors, expr: 'sum by (service) (rate(errors_total[3s])) / sum by (service) (rate(requests_total[3s])) > 0.03 + 2 * sum by (service) (rate(errors_total[2m])) / sum by (service) (rate(requests_total[2m]))'}
  - {alert: ServiceRejects, expr: 'sum by (service) (rate(rejects_total[3s])) / sum by (service) (rate(requests_total[3s])) > 0.03'}
  - {alert: ServiceSlow, expr: 'sum by (service) (rate(latency_seconds_sum[3s])) / sum by (service) (rate(requests_total[3s])) > 1.4 * sum by (service) (rate(latency_seconds_sum[2m])) / sum by (service) (rate(requests_total[2m]))'}
  - {alert: InstanceErrors, expr: 'rate(errors_total[3s]) / rate(requests_total[3s]) > 0.1 and rate(requests_total[3s]) > 3'}
  - {alert: InstanceSlow, expr: 'rate(latency_seconds_sum[3s]) / rate(requests_total[3s]) > 1.6 * rate(latency_seconds_sum[2m]) / rate(requests_total[2m]) and rate(requests_total[3s]) > 3'}
  - {alert: InstanceDown, expr: 'max_over_time(reports[2s]) == 0'}
  - {alert: Surge, expr: 'sum by (service) (rate(requests_total[3s])) > 1.8 * sum by (service) (rate(requests_total[2m]))'}
"#;

#[derive(Default)]
struct Sums {
    requests: f64,
    errors: f64,
    rejects: f64,
    latency_s: f64,
    reports: bool,
}

/// The peer, or its absence.
pub struct Peer {
    process: Option<Child>,
    page: Arc<Mutex<String>>,
    sums: BTreeMap<String, (String, Sums)>,
    /// Names that fired, and when each began to.
    fired: Arc<Mutex<Vec<(u64, String)>>>,
    found: Vec<(FaultKind, Option<f64>)>,
    faults: Vec<Fault>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // It may be dead already.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Peer {
    /// Starts it, when it is wanted and there.
    pub async fn start(side: &Handle, folder: &Path, wanted: bool) -> Result<Self> {
        let page = Arc::new(Mutex::new(String::new()));
        let mut peer = Self {
            process: None,
            page: page.clone(),
            sums: BTreeMap::new(),
            fired: Arc::default(),
            found: Vec::new(),
            faults: Vec::new(),
        };
        if !wanted {
            return Ok(peer);
        }
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let target = listener.local_addr()?;
        side.spawn(serve(listener, page));
        let own = testkit::address();
        let here = folder.join("prometheus");
        std::fs::create_dir_all(&here)?;
        std::fs::write(here.join("rules.yml"), RULES)?;
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s, scrape_timeout: 1s}}\nrule_files: [rules.yml]\nscrape_configs:\n- {{job_name: fleet, static_configs: [{{targets: ['{target}']}}]}}\n"
        );
        std::fs::write(here.join("prometheus.yml"), config)?;
        let log = std::fs::File::create(here.join("log"))?;
        let started = Command::new("prometheus")
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"])
            .arg(format!("--web.listen-address={own}"))
            .current_dir(&here)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn();
        match started {
            Ok(process) => {
                peer.process = Some(process);
                // Beside the sources: an answer that takes long must not hold a second's samples up.
                side.spawn(look(format!("http://{own}/api/v1/alerts"), peer.fired.clone()));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                println!("no prometheus here: apt-get install prometheus; it is left out");
            }
            Err(error) => return Err(error).context("cannot start prometheus"),
        }
        Ok(peer)
    }

    /// Shows it one second of a business.
    pub fn second(&mut self, business: &Business, faults: &[Fault]) {
        if self.process.is_none() {
            return;
        }
        self.faults = faults.to_vec();
        self.count(business);
        *self.page.lock().expect("no panic") = self.exposition();
    }

    fn count(&mut self, business: &Business) {
        let (fleet, frame) = (&business.fleet, &business.frame);
        let add = |value: f32| if value.is_finite() { f64::from(value) } else { 0.0 };
        for (at, member) in fleet.members.iter().enumerate() {
            let service = &fleet.services[member.service as usize].name;
            let (_, sums) = self.sums.entry(member.name.clone()).or_insert_with(|| (service.clone(), Sums::default()));
            let columns = &frame.instances;
            sums.requests += add(columns.requests[at]);
            sums.errors += add(columns.errors[at]);
            sums.rejects += add(columns.rejects[at]);
            sums.latency_s += add(columns.requests[at] * columns.latency_ms[at]) / 1e3;
            sums.reports = columns.cpu[at].is_finite();
        }
        for (at, pair) in fleet.pairs.iter().enumerate() {
            let callee = &fleet.services[pair.callee as usize];
            if callee.external {
                let key = format!("{}->{}", fleet.services[pair.caller as usize].name, callee.name);
                let (_, sums) = self.sums.entry(key).or_insert_with(|| (callee.name.clone(), Sums::default()));
                let columns = &frame.pairs;
                sums.requests += add(columns.requests[at]);
                sums.errors += add(columns.errors[at]);
                sums.latency_s += add(columns.requests[at] * columns.latency_ms[at]) / 1e3;
                sums.reports = true;
            }
        }
    }

    fn exposition(&self) -> String {
        let mut text = String::new();
        for (instance, (service, sums)) in &self.sums {
            let labels = format!("{{service=\"{service}\",instance_id=\"{instance}\"}}");
            let written = write!(
                text,
                "requests_total{labels} {}\nerrors_total{labels} {}\nrejects_total{labels} {}\nlatency_seconds_sum{labels} {}\nreports{labels} {}\n",
                sums.requests,
                sums.errors,
                sums.rejects,
                sums.latency_s,
                u8::from(sums.reports)
            );
            written.expect("a text takes what is written");
        }
        text
    }

    /// Tells its delays beside ours, for the same faults.
    pub fn report(&mut self, ours: &[Verdict]) {
        if self.process.is_none() {
            return;
        }
        println!("beside a Prometheus scraped and evaluated each second, on business 0:");
        let fired = self.fired.lock().expect("no panic").clone();
        for verdict in ours {
            let fault = &verdict.fault;
            let names = |name: &String| {
                *name == fault.target
                    || name.starts_with(&format!("{}-", fault.target))
                    || name.ends_with(&fault.target)
            };
            let window = fault.onset_ms..fault.until_ms + 5_000;
            let first = fired.iter().find(|(at, name)| window.contains(at) && names(name));
            let theirs = first.map(|(at, _)| (at - fault.onset_ms) as f64 / 1e3);
            let shown = |delay: Option<f64>| delay.map_or_else(|| "missed".to_owned(), |delay| format!("{delay:.1} s"));
            println!(
                "  {:<18} ours {:>7}  prometheus {:>7}",
                fault.kind.name(),
                shown(verdict.delay_ms.map(|ms| ms as f64 / 1e3)),
                shown(theirs)
            );
            self.found.push((fault.kind, theirs));
        }
        let quiet = |at: u64| self.faults.iter().all(|fault| !(fault.onset_ms..fault.until_ms + 130_000).contains(&at));
        let alone = fired.iter().filter(|(at, _)| quiet(*at)).count();
        let delays: Vec<f64> = self.found.iter().filter_map(|(_, delay)| *delay).collect();
        println!(
            "  prometheus: found {} of {}, p50 {:.1} s; {} alerts began in all, {alone} of them far from any fault",
            delays.len(),
            self.found.len(),
            quantile(&delays, 0.5),
            fired.len(),
        );
    }
}

/// Looks each second what fires; a failed look is looked again in the next.
async fn look(alerts: String, fired: Arc<Mutex<Vec<(u64, String)>>>) {
    let http = reqwest::Client::new();
    let mut firing = BTreeSet::new();
    let mut beat = tokio::time::interval(LOOK);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        let Ok(answer) = http.get(&alerts).send().await else { continue };
        let Ok(answer) = answer.json::<serde_json::Value>().await else { continue };
        let fire = answer["data"]["alerts"].as_array().into_iter().flatten().filter(|alert| alert["state"] == "firing");
        let name = |alert: &serde_json::Value| {
            ["instance_id", "service"].iter().find_map(|label| alert["labels"][*label].as_str().map(str::to_owned))
        };
        let now: BTreeSet<String> = fire.filter_map(name).collect();
        let at_ms = now_ms();
        fired.lock().expect("no panic").extend(now.difference(&firing).map(|name| (at_ms, name.clone())));
        firing = now;
    }
}

/// Answers every request with the page.
async fn serve(listener: TcpListener, page: Arc<Mutex<String>>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    while let Ok((mut stream, _)) = listener.accept().await {
        let page = page.clone();
        tokio::spawn(async move {
            let mut request = [0; 4_096];
            // Requests have no body and come one after the other.
            while stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                let body = page.lock().expect("no panic").clone();
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                if stream.write_all(head.as_bytes()).await.is_err() || stream.write_all(body.as_bytes()).await.is_err()
                {
                    return;
                }
            }
        });
    }
}
