//! A backup of the running server, as a stream: the store at one revision, the records of it, the packages it needs.

use super::App;
use super::extract::Params;
use super::problem::{self, Failure};
use crate::clock::now_ms;
use crate::control_loop::world::World;
use crate::start::LAYOUT;
use api::http::Problem;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::FutureExt;
use http::header;
use model::Digest;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use store::Range;
use store::backup::{self, About, Source, Span};
use store::records::Kind;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

/// Files beside the store that a server of this folder is known by, or remembers the fleet by.
const FILES: [&str; 5] = ["fleet-token", "api-token", "mesh.json", "proxies.json", "policy-proxies.json"];
/// Folder of the series.
const METRICS: &str = "metrics";
/// Pieces of a backup on their way to the client; the disk waits for a slow one.
const PIECES_QUEUED_MAX: usize = 16;
/// Bytes of a piece.
const PIECE_BYTES: usize = 64 * 1024;

/// What a backup holds beyond what it always does.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extent {
    #[serde(default)]
    metrics: bool,
}

/// What belongs together, taken in one turn of the control loop: no commit is under way then.
struct Moment {
    range: Range,
    through: BTreeMap<Kind, u64>,
    digests: Vec<Digest>,
}

/// Everything needed to start this control plane again, in one file.
#[utoipa::path(get, path = "/v1/backup",
    params(("metrics" = Option<bool>, Query, description = "series too, up to this moment")),
    responses((status = 200, content_type = "application/zstd", description = "tar in zstd, for `springtide restore`"),
        (status = 409, body = Problem), (status = 503, body = Problem, description = "a backup is under way already")))]
pub async fn backup(State(app): State<App>, Params(extent): Params<Extent>) -> Result<Response, Failure> {
    let busy = |_| problem::unavailable("another backup is under way: ask again when it has ended");
    let permit = app.backups.clone().try_acquire_owned().map_err(busy)?;
    let (store, records) = (app.store.clone(), app.records.clone());
    let moment = app.control.read(move |world| {
        // A store that answers at once is one whose keys are in memory; another would hold the loop up.
        let range = store.range("/").now_or_never()?.ok()?;
        let through = Kind::ALL.map(|kind| (kind, records.last(kind))).into();
        Some(Moment { range, through, digests: digests(world) })
    });
    let moment = moment.await?.ok_or_else(|| problem::internal("the store could not be read"))?;
    if let Some(missing) = moment.digests.iter().find(|digest| app.blobs.path_of(digest).is_none()) {
        return Err(problem::conflict(backup::Error::NoBlob(missing.clone()).to_string()));
    }
    let name = format!("springtide-{}.backup", moment.range.revision);
    let (to, mut pieces) = mpsc::channel::<io::Result<Bytes>>(PIECES_QUEUED_MAX);
    tokio::task::spawn_blocking(move || make(&app, moment, extent.metrics, to, permit));
    let body = Body::from_stream(futures_util::stream::poll_fn(move |context| pieces.poll_recv(context)));
    let headers = [
        (header::CONTENT_TYPE, "application/zstd".to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
    ];
    Ok((headers, body).into_response())
}

/// Packages that are declared or run.
fn digests(world: &World) -> Vec<Digest> {
    let declared = world.snapshot.packages().filter_map(|package| package.digest.clone());
    let placed = world.snapshot.placements.values().flat_map(|on| &on.value.instances);
    let all: BTreeSet<Digest> = declared.chain(placed.map(|placement| placement.package_digest.clone())).collect();
    all.into_iter().collect()
}

fn make(app: &App, moment: Moment, metrics: bool, to: Pieces, _permit: OwnedSemaphorePermit) {
    match write(app, moment, metrics, &to) {
        Ok(about) => tracing::info!(revision = about.revision, keys = about.keys, "a backup was made"),
        Err(error) => {
            tracing::error!(%error, "a backup could not be made");
            // The answer breaks off, so that nobody takes it for whole; a client that is gone needs no word.
            let _ = to.blocking_send(Err(io::Error::other(error.to_string())));
        }
    }
}

fn write(app: &App, moment: Moment, metrics: bool, to: &Pieces) -> Result<About, backup::Error> {
    let mut files = files(&app.data);
    let mut series = None;
    if metrics {
        let unread = |source| backup::Error::Io { path: app.data.join(METRICS).display().to_string(), source };
        let copy = app.series.copy().map_err(unread)?;
        files.extend(copy.files.into_iter().map(|(name, file)| (format!("{METRICS}/{name}"), file)));
        series = copy.span_ms.map(|(from, to)| Span { from, to });
    }
    let source = Source {
        made_by: env!("CARGO_PKG_VERSION").to_owned(),
        made_at: now_ms(),
        layout: LAYOUT,
        range: moment.range,
        records: &app.records,
        through: moment.through,
        blobs: &app.blobs,
        digests: moment.digests,
        files,
        series,
    };
    backup::write(source, &mut Piecewise { to: to.clone(), piece: Vec::new() })
}

type Pieces = mpsc::Sender<io::Result<Bytes>>;

/// Gathers bytes to pieces and sends them; waits for a client that is slow.
struct Piecewise {
    to: Pieces,
    piece: Vec<u8>,
}

impl Write for Piecewise {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = Bytes::from(std::mem::take(&mut self.piece));
        self.to.blocking_send(Ok(piece)).map_err(|_| io::Error::other("the client went away"))
    }
}

/// The files beside the store that belong into every backup.
fn files(data: &Path) -> Vec<(String, File)> {
    let open = |name: &str| Some((name.to_owned(), File::open(data.join(name)).ok()?));
    FILES.into_iter().filter_map(open).collect()
}
