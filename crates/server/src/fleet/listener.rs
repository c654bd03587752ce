//! The fleet listener: gRPC for agents and proxies, ADS, and package bytes, on one port behind one token.

use super::FleetService;
use crate::http::{App, package_blob};
use crate::token;
use crate::xds::Ads;
use api::fleet::fleet_server::FleetServer;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::AggregatedDiscoveryServiceServer;
use http::header;
use std::sync::Arc;
use tonic::Status;
use tonic::service::Routes;

/// Largest message of an agent or a proxy.
const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// Connections at once: each agent and each proxy holds one or two.
pub const CONNECTIONS_MAX: usize = 65_536;

/// All that the fleet may ask for, behind its token.
pub fn router(fleet: FleetService, ads: Ads, app: App, token: Arc<str>) -> axum::Router {
    let fleet = FleetServer::new(fleet).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let ads = AggregatedDiscoveryServiceServer::new(ads).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let packages = axum::Router::new().route("/v1/packages/{digest}/blob", get(package_blob)).with_state(app);
    let router = Routes::new(fleet).add_service(ads).prepare().into_axum_router().merge(packages);
    router.layer(axum::middleware::from_fn_with_state(token, check))
}

/// Lets holders of the fleet token in. gRPC clients are refused in their own terms.
async fn check(State(token): State<Arc<str>>, request: Request, next: Next) -> Response {
    match token::bearer(request.headers()) {
        Some(given) if token::same(given, &token) => return next.run(request).await,
        _ => {}
    }
    let why = "a fleet token is needed: it is in the server's data folder, file fleet-token";
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    match kind.starts_with("application/grpc") {
        true => Status::unauthenticated(why).into_http::<axum::body::Body>(),
        false => crate::http::problem::unauthorized(why).into_response(),
    }
}
