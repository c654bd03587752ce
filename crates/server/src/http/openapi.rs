//! The OpenAPI document, made from the handlers themselves.

use super::{
    apply, backup, capacity, describe, incidents, live, logs, metrics, operations, packages, prometheus, protect,
    remote_write, resources, rows, service_now, status, views, watch,
};
use axum::Json;
use utoipa::OpenApi;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Springtide",
        description = "Capacity operations: what should run, what runs, what it can bear, and how to change it.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    paths(
        apply::plan,
        apply::apply,
        resources::list,
        resources::get,
        resources::delete,
        describe::describe,
        views::instances,
        views::hosts,
        views::services,
        service_now::now,
        rows::hosts,
        rows::instances,
        live::stream,
        logs::logs,
        packages::get,
        packages::head,
        packages::put,
        operations::open,
        operations::plan,
        operations::list,
        operations::get,
        watch::operation,
        operations::pause,
        operations::resume,
        operations::rollback,
        operations::retry,
        operations::skip,
        operations::report,
        capacity::curves,
        capacity::svg,
        capacity::size,
        protect::view,
        protect::apply,
        protect::fire,
        protect::lift,
        protect::rollback,
        protect::dry_run,
        protect::dead_letters,
        protect::retry_dead_letter,
        protect::history,
        incidents::list,
        incidents::get,
        incidents::acknowledge,
        incidents::silence,
        incidents::unsilence,
        metrics::range,
        metrics::exposition,
        remote_write::write,
        metrics::top,
        prometheus::instant,
        prometheus::range,
        prometheus::labels,
        prometheus::values,
        prometheus::series,
        prometheus::metadata,
        prometheus::build_info,
        backup::backup,
        status::audit,
        watch::changes,
        status::status,
        status::healthz,
        document
    )
)]
struct Document;

/// This document.
#[utoipa::path(get, path = "/openapi.json", responses((status = 200, description = "OpenAPI 3.1", body = Object)))]
pub async fn document() -> Json<utoipa::openapi::OpenApi> {
    Json(Document::openapi())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table at the head of `api::http` is the contract: everything in it is served and documented.
    #[test]
    fn every_route_of_the_contract_is_documented() {
        let contract = include_str!("../../../api/src/http.rs");
        let document = serde_json::to_value(Document::openapi()).expect("plain data");
        assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")));
        let mut routes = 0;
        for line in contract.lines().filter(|line| line.starts_with("//! | `")) {
            let cell = line.split('|').nth(1).expect("a first cell");
            let mut method = "";
            let mut last = String::new();
            for part in cell.split('`').filter(|part| part.trim().len() > 1) {
                let (verb, path) = part.split_once(' ').unwrap_or(("", part));
                let path = path.split('?').next().expect("a path").to_owned();
                if !verb.is_empty() && verb.chars().all(|c| c.is_ascii_uppercase()) {
                    method = verb;
                }
                // `POST /v1/operations/{id}/pause`, `/resume`: the later ones replace the last part.
                let path = match path.starts_with("/v1")
                    || path.starts_with("/api")
                    || last.is_empty()
                    || path.ends_with(".json")
                    || path == "/healthz"
                {
                    true => path,
                    false => format!("{}{path}", &last[..last.rfind('/').expect("a path")]),
                };
                let known = &document["paths"][&path][method.to_lowercase()];
                assert!(known.is_object(), "{method} {path} is not in the document");
                last = path;
                routes += 1;
            }
        }
        assert!(routes >= 30, "only {routes} routes were read from the contract");
    }
}
