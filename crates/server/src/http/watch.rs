//! Live views: server-sent events over the store's own watch. One that falls behind is told to begin again.

use super::App;
use super::extract::name;
use super::operations;
use super::problem::{self, Failure};
use api::http::{ChangeView, Problem};
use axum::extract::{Path, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::Stream;
use model::{Operation, OperationId, keys};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;
use store::{Watch, WatchEvent};

/// Time between signs of life on a quiet stream.
const KEEP_ALIVE_SECONDS: u64 = 5;

/// A stream of server-sent events.
pub type Events =
    Sse<axum::response::sse::KeepAliveStream<std::pin::Pin<Box<dyn Stream<Item = Result<Event, Infallible>> + Send>>>>;

/// Sends events with signs of life between them.
pub fn live(stream: impl Stream<Item = Result<Event, Infallible>> + Send + 'static) -> Events {
    let boxed: std::pin::Pin<Box<dyn Stream<Item = _> + Send>> = Box::pin(stream);
    Sse::new(boxed).keep_alive(KeepAlive::new().interval(Duration::from_secs(KEEP_ALIVE_SECONDS)))
}

fn failed(error: store::Error) -> Failure {
    problem::internal(error.to_string())
}

/// Every committed change from now on, as it is stored.
#[utoipa::path(get, path = "/v1/watch", responses(
    (status = 200, content_type = "text/event-stream", body = ChangeView, description = "events `change`")))]
pub async fn changes(State(app): State<App>) -> Result<Events, Failure> {
    // An empty range still says the revision; nothing lies under this prefix.
    let revision = app.store.range("/watch-from-here").await.map_err(failed)?.revision;
    let watch = app.store.watch(keys::ALL, revision).await.map_err(failed)?;
    Ok(live(futures_util::stream::unfold((watch, VecDeque::new()), |(mut watch, mut waiting)| async move {
        loop {
            if let Some(event) = waiting.pop_front() {
                return Some((Ok(event), (watch, waiting)));
            }
            match watch.next().await? {
                WatchEvent::Commit(commit) => waiting = views(&commit),
                // The client reconnects and reads anew; events in between cannot be given any more.
                WatchEvent::Compacted { .. } => return None,
            }
        }
    })))
}

/// The changes of a commit that concern people: neither the audit's nor the staging's own keys.
fn views(commit: &store::Commit) -> VecDeque<Event> {
    let shown = commit.changes.iter().filter(|change| {
        !change.key.starts_with(crate::audit::PENDING) && !change.key.starts_with(store::staged::RECORD)
    });
    shown
        .filter_map(|change| {
            let value = change.value.as_deref().map(serde_json::from_slice).transpose().ok()?;
            let value = value.unwrap_or(serde_json::Value::Null);
            let view = ChangeView { revision: commit.revision, key: change.key.to_string(), value };
            Event::default().event("change").id(commit.revision.to_string()).json_data(view).ok()
        })
        .collect()
}

/// What follows an operation.
struct Following {
    id: OperationId,
    watch: Watch,
    first: Option<Operation>,
    ended: bool,
    app: App,
}

/// An operation at each of its changes, until it ends.
#[utoipa::path(get, path = "/v1/operations/{id}/watch", params(("id" = String, Path, description = "op-3")), responses(
    (status = 200, content_type = "text/event-stream", body = Object, description = "events `operation`"),
    (status = 404, body = Problem)))]
pub async fn operation(State(app): State<App>, Path(id): Path<String>) -> Result<Events, Failure> {
    let id: OperationId = name(&id)?;
    let key = keys::operation(&id);
    // The watch begins before the read, so that no change falls between.
    let revision = app.store.range(&key).await.map_err(failed)?.revision;
    let watch = app.store.watch(&key, revision).await.map_err(failed)?;
    let first = operations::find(&app, &id).await?;
    let following = Following { id, watch, first: Some(first), ended: false, app };
    Ok(live(futures_util::stream::unfold(following, |mut at| async move {
        let operation = next(&mut at).await?;
        at.ended = operation.phase.is_final();
        let event = Event::default().event("operation").json_data(&operation).ok()?;
        Some((Ok(event), at))
    })))
}

async fn next(at: &mut Following) -> Option<Operation> {
    if at.ended {
        return None;
    }
    if let Some(first) = at.first.take() {
        return Some(first);
    }
    let key = keys::operation(&at.id);
    loop {
        match at.watch.next().await? {
            WatchEvent::Commit(commit) => {
                // The prefix of op-1 also catches op-12.
                let Some(change) = commit.changes.iter().find(|change| change.key.as_ref() == key) else { continue };
                return serde_json::from_slice(change.value.as_deref()?).ok();
            }
            WatchEvent::Compacted { .. } => {
                let revision = at.app.store.range(&key).await.ok()?.revision;
                at.watch = at.app.store.watch(&key, revision).await.ok()?;
                return operations::find(&at.app, &at.id).await.ok();
            }
        }
    }
}
