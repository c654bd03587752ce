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
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Status;
use tonic::service::Routes;

/// Largest message of an agent or a proxy.
const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// Time between checks that a quiet peer is still there.
const KEEP_ALIVE_SECONDS: u64 = 5;

/// Serves until the task is dropped.
pub async fn serve(
    listener: TcpListener,
    fleet: FleetService,
    ads: Ads,
    app: App,
    token: Arc<str>,
) -> Result<(), tonic::transport::Error> {
    let fleet = FleetServer::new(fleet).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let ads = AggregatedDiscoveryServiceServer::new(ads).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let packages = axum::Router::new().route("/v1/packages/{digest}/blob", get(package_blob)).with_state(app);
    let router = Routes::new(fleet).add_service(ads).prepare().into_axum_router().merge(packages);
    let router = router.layer(axum::middleware::from_fn_with_state(token, check));
    tonic::transport::Server::builder()
        .accept_http1(true)
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(Duration::from_secs(KEEP_ALIVE_SECONDS)))
        .http2_keepalive_timeout(Some(Duration::from_secs(KEEP_ALIVE_SECONDS)))
        .add_routes(Routes::from(router))
        .serve_with_incoming(TcpListenerStream::new(listener))
        .await
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
