//! The HTTP API of `/v1`, as `api::http` lays it down: over a Unix socket, and over TCP loopback with a token.
//!
//! Everything that decides runs in the control loop. Pages for people are the dashboard's work and absent here.

pub mod access;
mod apply;
mod backup;
mod capacity;
pub mod describe;
mod extract;
mod incidents;
mod live;
mod logs;
mod metrics;
mod openapi;
mod operations;
mod packages;
mod page;
pub mod problem;
mod prometheus;
mod protect;
mod remote_write;
mod resources;
mod rows;
mod service_now;
mod status;
mod views;
mod watch;

pub use packages::get as package_blob;

use crate::control_loop::Loop;
use crate::fleet::logs::Logs;
use crate::incidents::Incidents;
use crate::policies::Protect;
use crate::query::Queries;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{any, get, post};
use problem::Failure;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use store::Store;
use store::records::{Blobs, Records};
use tokio::sync::Semaphore;

/// Largest JSON body.
const BODY_BYTES_MAX: usize = 64 << 20;
/// Time in which an answer must begin; uploads have their own.
const ANSWER_SECONDS_MAX: u64 = 60;
/// Requests at work at once.
const REQUESTS_AT_ONCE_MAX: usize = 1_024;

/// What the handlers share. Cheap to clone.
#[derive(Clone)]
pub struct App {
    /// The way to the control loop.
    pub control: Loop,
    /// The store, for watches only.
    pub store: Arc<dyn Store>,
    /// The records.
    pub records: Arc<Records>,
    /// The packages.
    pub blobs: Blobs,
    /// Log requests on their way.
    pub logs: Logs,
    /// Who enforces policies, and dry runs on their way.
    pub protect: Protect,
    /// What is wrong.
    pub incidents: Incidents,
    /// The series: read and written here without the control loop.
    pub series: Arc<::metrics::Store>,
    writes: Arc<Semaphore>,
    /// Where PromQL is evaluated.
    pub queries: Queries,
    /// The data folder.
    pub data: Arc<Path>,
    /// Backups that may be made at once: one.
    backups: Arc<Semaphore>,
    live: Arc<live::Live>,
    allowed: Arc<Semaphore>,
}

impl App {
    /// The state of a server.
    pub fn new(
        control: Loop,
        store: Arc<dyn Store>,
        records: Arc<Records>,
        blobs: Blobs,
        logs: Logs,
        protect: Protect,
        (incidents, series): (Incidents, Arc<::metrics::Store>),
    ) -> Self {
        let writes = Arc::new(Semaphore::new(remote_write::AT_ONCE_MAX));
        let allowed = Arc::new(Semaphore::new(REQUESTS_AT_ONCE_MAX));
        let (backups, data) = (Arc::new(Semaphore::new(1)), Path::new("").into());
        Self {
            control,
            store,
            records,
            blobs,
            logs,
            protect,
            incidents,
            queries: Queries::over(series.clone()),
            series,
            writes,
            data,
            backups,
            live: Arc::default(),
            allowed,
        }
    }

    /// With the data folder, of which backups are made.
    pub fn of(self, data: &Path) -> Self {
        Self { data: data.into(), ..self }
    }
}

/// All routes; who may come in is decided by the layer that each listener adds.
pub fn router(app: App) -> Router {
    Router::new()
        .route("/v1/plan", post(apply::plan))
        .route("/v1/apply", post(apply::apply))
        .route("/v1/resources/{kind}", get(resources::list))
        .route("/v1/resources/{kind}/{name}", get(resources::get).delete(resources::delete))
        .route("/v1/describe/{kind}/{name}", get(describe::describe))
        .route("/v1/instances", get(views::instances))
        .route("/v1/hosts", get(views::hosts))
        .route("/v1/services", get(views::services))
        .route("/v1/services/{name}/now", get(service_now::now))
        .route("/v1/rows/hosts", get(rows::hosts))
        .route("/v1/rows/instances", get(rows::instances))
        .route("/v1/instances/{instance}/logs", get(logs::logs))
        .route("/v1/packages/{digest}/blob", get(packages::get).head(packages::head).put(packages::put))
        .route("/v1/operations", get(operations::list).post(operations::open))
        .route("/v1/operations/plan", post(operations::plan))
        .route("/v1/operations/{id}", get(operations::get))
        .route("/v1/operations/{id}/watch", get(watch::operation))
        .route("/v1/operations/{id}/pause", post(operations::pause))
        .route("/v1/operations/{id}/resume", post(operations::resume))
        .route("/v1/operations/{id}/rollback", post(operations::rollback))
        .route("/v1/operations/{id}/retry", post(operations::retry))
        .route("/v1/operations/{id}/skip", post(operations::skip))
        .route("/v1/operations/{id}/report", get(operations::report))
        .route("/v1/curves", get(capacity::curves))
        .route("/v1/curves/{operation}/svg", get(capacity::svg))
        .route("/v1/size", post(capacity::size))
        .route("/v1/protect", get(protect::view))
        .route("/v1/protect/apply", post(protect::apply))
        .route("/v1/protect/fire/{preset}", post(protect::fire))
        .route("/v1/protect/lift", post(protect::lift))
        .route("/v1/protect/rollback", post(protect::rollback))
        .route("/v1/protect/dry-run", post(protect::dry_run))
        .route("/v1/protect/dead-letters", get(protect::dead_letters))
        .route("/v1/protect/dead-letters/{id}/retry", post(protect::retry_dead_letter))
        .route("/v1/protect/history/{name}", get(protect::history))
        .route("/v1/incidents", get(incidents::list))
        .route("/v1/incidents/{id}", get(incidents::get))
        .route("/v1/incidents/{id}/ack", post(incidents::acknowledge))
        .route("/v1/incidents/{id}/silence", post(incidents::silence).delete(incidents::unsilence))
        .route("/v1/metrics/range", get(metrics::range))
        .route("/api/v1/write", post(remote_write::write).layer(remote_write::body_max()))
        .route("/metrics", get(metrics::exposition))
        .route("/v1/top", get(metrics::top))
        .route("/api/v1/query", get(prometheus::instant).post(prometheus::instant))
        .route("/api/v1/query_range", get(prometheus::range).post(prometheus::range))
        .route("/api/v1/labels", get(prometheus::labels).post(prometheus::labels))
        .route("/api/v1/label/{name}/values", get(prometheus::values))
        .route("/api/v1/series", get(prometheus::series).post(prometheus::series))
        .route("/api/v1/metadata", get(prometheus::metadata))
        .route("/api/v1/status/buildinfo", get(prometheus::build_info))
        .route("/api/v1/{*rest}", any(prometheus::absent))
        .route("/v1/live", get(live::stream))
        .route("/v1/backup", get(backup::backup))
        .route("/v1/audit", get(status::audit))
        .route("/v1/watch", get(watch::changes))
        .route("/v1/status", get(status::status))
        .route("/", get(page::index))
        .route("/assets/{*path}", get(page::asset))
        .route("/openapi.json", get(openapi::document))
        .route("/healthz", get(status::healthz))
        .fallback(|| async { problem::not_found("there is nothing at this path: /openapi.json lists what there is") })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(axum::middleware::from_fn_with_state(app.clone(), bounded))
        .with_state(app)
}

/// Bounds what is at work at once, and how long an answer may take to begin.
async fn bounded(
    axum::extract::State(app): axum::extract::State<App>,
    request: axum::extract::Request,
    next: axum::middleware::Next,
) -> Result<axum::response::Response, Failure> {
    let busy = || problem::unavailable(format!("{REQUESTS_AT_ONCE_MAX} requests are at work: ask again in a second"));
    let _permit = app.allowed.try_acquire().map_err(|_| busy())?;
    let seconds = match *request.method() {
        http::Method::PUT => packages::UPLOAD_SECONDS_MAX,
        _ => ANSWER_SECONDS_MAX,
    };
    let answer = tokio::time::timeout(Duration::from_secs(seconds), next.run(request)).await;
    answer.map_err(|_| problem::unavailable(format!("no answer within {seconds} s")))
}
