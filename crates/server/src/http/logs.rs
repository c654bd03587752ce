//! An instance's log, asked of its agent and passed on as it comes; ended when the client leaves.

use super::App;
use super::extract::Params;
use super::problem::{self, Failure};
use crate::control_loop::{Input, Loop};
use crate::fleet::FleetInput;
use crate::fleet::logs::Logs;
use api::fleet::LogRequest;
use api::http::Problem;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::header;
use model::HostName;
use serde::Deserialize;
use tokio::sync::oneshot;

/// Lines from the end where none are asked for.
const TAIL_DEFAULT: u32 = 100;
/// Lines from the end at most.
const TAIL_MAX: u32 = 100_000;

/// Which part of the log.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    tail: Option<u32>,
    #[serde(default)]
    follow: bool,
}

/// Ends the request at the agent when the client has gone.
struct Open {
    id: u64,
    host: HostName,
    logs: Logs,
    control: Loop,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.logs.close(self.id);
        let (control, host, id) = (self.control.clone(), self.host.clone(), self.id);
        // When the loop has ended there is nobody left to tell.
        tokio::spawn(async move { control.tell(Input::Fleet(FleetInput::LogCancel(host, id))).await });
    }
}

/// The log of an instance.
#[utoipa::path(get, path = "/v1/instances/{instance}/logs",
    params(("instance" = String, Path, description = "lottery-3"),
        ("tail" = Option<u32>, Query, description = "lines from the end"),
        ("follow" = Option<bool>, Query, description = "stay, and send what comes")),
    responses((status = 200, content_type = "text/plain", body = String), (status = 404, body = Problem),
        (status = 503, body = Problem, description = "its agent is not connected")))]
pub async fn logs(
    State(app): State<App>,
    Path(instance): Path<String>,
    Params(part): Params<Part>,
) -> Result<Response, Failure> {
    let asked = instance.clone();
    let host = app.control.read(move |world| {
        let seen = || Some(world.observed.instances.get(asked.as_str())?.host.clone());
        world.placement(&asked).map(|(host, _)| host.clone()).or_else(seen)
    });
    let missing =
        || problem::not_found(format!("there is no instance {instance}: `springtide get instances` lists them"));
    let host = host.await?.ok_or_else(missing)?;
    let busy = || problem::unavailable("too many logs are being read: ask again in a moment");
    let (id, pieces) = app.logs.open().ok_or_else(busy)?;
    let open = Open { id, host: host.clone(), logs: app.logs.clone(), control: app.control.clone() };
    let tail_lines = part.tail.unwrap_or(TAIL_DEFAULT).min(TAIL_MAX);
    let request = LogRequest { id, instance, tail_lines, follow: part.follow };
    let (reply, sent) = oneshot::channel();
    app.control.tell(Input::Fleet(FleetInput::LogRequest(host.clone(), request, reply))).await?;
    if !sent.await.unwrap_or(false) {
        return Err(problem::unavailable(format!("the agent of host {host} is not connected")));
    }
    let stream = futures_util::stream::unfold((pieces, open), |(mut pieces, open)| async move {
        let piece = pieces.recv().await?;
        Some((piece, (pieces, open)))
    });
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], Body::from_stream(stream)).into_response())
}
