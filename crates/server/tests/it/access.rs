//! Who may come in, and what a second server is told.

use crate::agent::{authorized, place};
use crate::harness::{Server, apply_pay, config, package_bytes};
use api::fleet::fleet_client::FleetClient;
use api::fleet::{AgentHello, AgentUp, agent_up};
use std::os::unix::fs::PermissionsExt;
use tonic::Code;

fn http(server: &Server) -> (String, String) {
    let handle = server.handle();
    (format!("http://{}", handle.http.expect("asked for")), handle.api_token.clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_asks_for_a_token_over_tcp_and_refuses_foreign_pages() {
    let mut server = Server::start().await;
    let (url, token) = http(&server);
    let client = reqwest::Client::new();
    let get = |path: &str| client.get(format!("{url}{path}"));
    let status =
        |request: reqwest::RequestBuilder| async move { request.send().await.expect("an answer").status().as_u16() };
    assert_eq!(status(get("/v1/status")).await, 401);
    assert_eq!(status(get("/v1/status").bearer_auth("wrong")).await, 401);
    assert_eq!(status(get("/v1/status").bearer_auth(&token)).await, 200);
    assert_eq!(status(get("/healthz")).await, 200);
    let rebound = get("/v1/status").bearer_auth(&token).header("host", "evil.example:80");
    assert_eq!(status(rebound).await, 403);
    let foreign = get("/v1/status").bearer_auth(&token).header("origin", "https://evil.example");
    assert_eq!(status(foreign).await, 403);
    assert_eq!(status(get("/v1/nothing").bearer_auth(&token)).await, 404);
    let problem: api::http::Problem = client
        .post(format!("{url}/v1/apply"))
        .bearer_auth(&token)
        .body("{")
        .header("content-type", "application/json")
        .send()
        .await
        .expect("an answer")
        .json()
        .await
        .expect("a problem");
    assert_eq!(problem.code, "refused");
    let mode = std::fs::metadata(crate::harness::socket(server.data.path())).expect("the socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fleet_listener_asks_for_its_own_token() {
    let mut server = Server::start().await;
    apply_pay(&server.client(), 1, 0).await;
    let (url, token) = place(server.data.path()).expect("ready");
    let mut client = FleetClient::connect(url.clone()).await.expect("connected");
    let hello = |host: &str, protocol| {
        let hello = AgentHello { host: host.to_owned(), protocol, ..AgentHello::default() };
        tokio_stream::once(AgentUp { message: Some(agent_up::Message::Hello(hello)) })
    };
    let refused = client.agent(hello("host-0-0", 1)).await.expect_err("no token");
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert!(refused.message().contains("fleet-token"), "{refused}");
    let refused = client.agent(authorized(hello("host-0-0", 1), "wrong")).await.expect_err("wrong token");
    assert_eq!(refused.code(), Code::Unauthenticated);
    for (host, protocol, code, said) in [
        ("nowhere", 1, Code::NotFound, "host nowhere is not declared"),
        ("host-0-0", 9, Code::FailedPrecondition, "protocol version 9"),
        ("NOT a name", 1, Code::InvalidArgument, "is not a name"),
    ] {
        let mut stream = client.agent(authorized(hello(host, protocol), &token)).await.expect("a stream").into_inner();
        let status = stream.message().await.expect_err("refused");
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(said), "{status}");
    }

    let blob = format!("{url}/v1/packages/{}/blob", crate::harness::digest());
    let web = reqwest::Client::new();
    assert_eq!(web.get(&blob).send().await.expect("an answer").status(), 401);
    let got = web.get(&blob).bearer_auth(&token).send().await.expect("an answer");
    assert_eq!(got.bytes().await.expect("the package"), package_bytes());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_server_on_the_same_data_is_told_so() {
    let mut server = Server::start().await;
    let mut second = config(server.data.path());
    second.socket = server.data.path().join("other.sock");
    let refused = server::start(second).await.err().expect("refused").to_string();
    assert!(refused.contains("in use by another springtide process") && refused.contains("--data"), "{refused}");
    let about = std::fs::read_to_string(server.data.path().join("server.json")).expect("still there");
    assert!(about.contains(&std::process::id().to_string()));

    let elsewhere = tempfile::tempdir().expect("a folder");
    let mut third = config(elsewhere.path());
    third.socket = crate::harness::socket(server.data.path());
    let refused = server::start(third).await.err().expect("refused").to_string();
    assert!(refused.contains("api.sock is in use"), "{refused}");
    server.stop().await;
    assert!(!server.data.path().join("server.json").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_package_must_have_its_digest() {
    let mut server = Server::start().await;
    let client = server.client();
    let digest = crate::harness::digest();
    assert!(!client.has_package(digest.as_str()).await.expect("asked"));
    let refused = client.put_package(digest.as_str(), b"other bytes".to_vec()).await.expect_err("wrong").to_string();
    assert!(refused.contains(digest.as_str()), "{refused}");
    assert!(!client.has_package(digest.as_str()).await.expect("asked"));
    client.put_package(digest.as_str(), package_bytes()).await.expect("kept");
    client.put_package(digest.as_str(), package_bytes()).await.expect("kept already");
    assert!(client.has_package(digest.as_str()).await.expect("asked"));
    server.stop().await;
}

/// One request over TLS, as a browser on another machine makes it; gives the answer's head.
async fn over_tls(address: std::net::SocketAddr, trusted: &rcgen::Certificate, lines: &str) -> String {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted.der().clone()).expect("a certificate");
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let stream = tokio::net::TcpStream::connect(address).await.expect("connected");
    let name = rustls::pki_types::ServerName::try_from("room.example").expect("a name");
    let mut stream = connector.connect(name, stream).await.expect("a handshake");
    let request = format!("GET /v1/status HTTP/1.1\r\nhost: room.example\r\nconnection: close\r\n{lines}\r\n");
    tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    // The server may close without TLS's own farewell: what came is what counts.
    let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut answer).await;
    String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_any_name_may_be_called_and_the_token_is_asked_for() {
    let made = rcgen::generate_simple_self_signed(vec!["room.example".to_owned()]).expect("a certificate");
    let data = tempfile::tempdir().expect("a data folder");
    let files = server::tls::Files { cert: data.path().join("room.pem"), key: data.path().join("room.key") };
    std::fs::write(&files.cert, made.cert.pem()).expect("written");
    let with = |files: &server::tls::Files| server::Config { http_tls: Some(files.clone()), ..config(data.path()) };
    let refused = server::start(with(&files)).await.err().expect("no key yet").to_string();
    assert!(refused.contains("room.key") && refused.contains("PRIVATE KEY"), "{refused}");
    std::fs::write(&files.key, made.signing_key.serialize_pem()).expect("written");
    let handle = server::start(with(&files)).await.expect("a server");
    let address = handle.http.expect("asked for");
    let token = format!("authorization: Bearer {}\r\n", handle.api_token);
    assert!(over_tls(address, &made.cert, "").await.contains(" 401 "));
    assert!(over_tls(address, &made.cert, "authorization: Bearer wrong\r\n").await.contains(" 401 "));
    assert!(over_tls(address, &made.cert, &token).await.contains(" 200 "));
    let own = format!("{token}origin: https://room.example\r\n");
    assert!(over_tls(address, &made.cert, &own).await.contains(" 200 "));
    let foreign = format!("{token}origin: https://evil.example\r\n");
    assert!(over_tls(address, &made.cert, &foreign).await.contains(" 403 "));
    let clear = reqwest::Client::new().get(format!("http://{address}/v1/status")).send().await;
    assert!(clear.is_err() || clear.is_ok_and(|answer| !answer.status().is_success()), "nothing in the clear");
    handle.stop().await.expect("it stops well");
}
