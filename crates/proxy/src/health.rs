//! Active checks: each endpoint once in an interval for the whole proxy, not for each worker.
//!
//! A check opens its own connection: it proves that the endpoint still accepts one. No thresholds for coming back: one
//! good answer is enough, and passive ejection guards against a wrong one.

use crate::endpoint::EndpointState;
use crate::table::{Health, Table};
use bytes::Bytes;
use http::{Request, header};
use http_body_util::Empty;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

/// Checks at the same time.
const CHECKS_MAX: usize = 64;

/// What is checked: the endpoint by identity, and how.
#[derive(Clone)]
struct Target {
    service: Arc<str>,
    state: Arc<EndpointState>,
    address: SocketAddr,
    http2: bool,
    health: Health,
}

impl Target {
    fn is_as(&self, other: &Self) -> bool {
        self.health == other.health && self.address == other.address && self.http2 == other.http2
    }
}

struct Checking {
    target: Target,
    task: JoinHandle<()>,
}

impl Drop for Checking {
    fn drop(&mut self) {
        self.task.abort();
        // Nobody would ever take a verdict back that outlived its check.
        self.target.state.set_unhealthy(false);
    }
}

/// Checks whatever the newest table holds, for ever.
pub async fn run(mut tables: watch::Receiver<Arc<Table>>) {
    let places = Arc::new(Semaphore::new(CHECKS_MAX));
    let mut running: HashMap<*const EndpointState, Checking> = HashMap::new();
    tables.mark_changed();
    while tables.changed().await.is_ok() {
        let targets = targets(&tables.borrow_and_update());
        running.retain(|id, checking| targets.get(id).is_some_and(|target| target.is_as(&checking.target)));
        for (id, target) in targets {
            running.entry(id).or_insert_with(|| {
                let task = tokio::spawn(check_for_ever(target.clone(), Arc::clone(&places)));
                Checking { target, task }
            });
        }
    }
}

fn targets(table: &Table) -> HashMap<*const EndpointState, Target> {
    let clusters = table.clusters.values().filter_map(|cluster| Some((cluster, cluster.health.as_ref()?)));
    clusters
        .flat_map(|(cluster, health)| {
            cluster.endpoints.iter().zip(&cluster.health_ports).map(move |(state, port)| {
                let address = SocketAddr::new(state.address.ip(), port.unwrap_or(state.address.port()));
                let service = Arc::clone(&cluster.name);
                let http2 = cluster.http2;
                let target = Target { service, state: Arc::clone(state), address, http2, health: health.clone() };
                (Arc::as_ptr(state), target)
            })
        })
        .collect()
}

async fn check_for_ever(target: Target, places: Arc<Semaphore>) {
    let interval = target.health.interval;
    // Spread over the interval, so that a new table does not start all checks at once.
    tokio::time::sleep(interval.mul_f64(rand::random::<f64>())).await;
    let mut tick = tokio::time::interval(interval);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut failures = 0;
    loop {
        tick.tick().await;
        let Ok(_place) = places.acquire().await else { return };
        let well = tokio::time::timeout(target.health.timeout, check(&target)).await;
        failures = match well {
            Ok(Ok(true)) => 0,
            _ => failures + 1,
        };
        let unhealthy = failures >= target.health.failures_max;
        if unhealthy != target.state.is_unhealthy() && (unhealthy || failures == 0) {
            let instance = &target.state.instance;
            tracing::warn!(%instance, address = %target.address, unhealthy, "active check changed its mind");
            target.state.set_unhealthy(unhealthy);
        }
    }
}

async fn check(target: &Target) -> Result<bool, Box<dyn std::error::Error + Send + Sync>> {
    let stream = TokioIo::new(TcpStream::connect(target.address).await?);
    let request = Request::get(target.health.path.as_str()).header(header::USER_AGENT, "springtide-proxy");
    let response = if target.http2 {
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
        let _connection = Checked(tokio::spawn(connection));
        let target = format!("http://{}{}", target.service, target.health.path);
        sender.send_request(request.uri(target).body(Empty::<Bytes>::new())?).await?
    } else {
        let (mut sender, connection) = http1::handshake(stream).await?;
        let _connection = Checked(tokio::spawn(connection));
        let request = request.header(header::HOST, target.service.as_ref()).header(header::CONNECTION, "close");
        sender.send_request(request.body(Empty::<Bytes>::new())?).await?
    };
    Ok(response.status().is_success())
}

/// Ends the connection with its check, also when the check is cut short.
struct Checked(JoinHandle<Result<(), hyper::Error>>);

impl Drop for Checked {
    fn drop(&mut self) {
        self.0.abort();
    }
}
