//! TLS on the entry: protocols by ALPN, and a certificate that changes without a restart.

use crate::http2::{request, runtime, whole};
use crate::upstream::Upstream;
use crate::world::{World, endpoint};
use crate::{Fixture, config};
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Writes a new certificate for `shop.example` and its key.
fn certificate(folder: &Path) -> proxy::tls::Files {
    let made = rcgen::generate_simple_self_signed(["shop.example".to_owned()]).expect("a certificate");
    let files = proxy::tls::Files { cert: folder.join("cert.pem"), key: folder.join("key.pem") };
    std::fs::write(&files.cert, made.cert.pem()).expect("written");
    std::fs::write(&files.key, made.signing_key.serialize_pem()).expect("written");
    files
}

fn encrypted() -> Fixture {
    Fixture::with(1, |config, folder| config.tls = Some(certificate(folder.path())))
}

/// Connects, trusting only the certificate in the folder.
async fn connect(address: SocketAddr, folder: &Path, alpn: &[&[u8]]) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(folder.join("cert.pem")).expect("a certificate")).expect("usable");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = builder.expect("versions").with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    let name = ServerName::try_from("shop.example").expect("a name");
    TlsConnector::from(Arc::new(config)).connect(name, TcpStream::connect(address).await?).await
}

async fn get_http1(stream: TlsStream<TcpStream>) -> (u16, Bytes) {
    let io = TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.expect("it speaks HTTP/1.1");
    tokio::spawn(connection);
    let asked = Request::get("/").header("host", "shop.example").body(Full::<Bytes>::default()).expect("valid");
    let (status, _, body, _) = whole(sender.send_request(asked).await.expect("an answer")).await;
    (status, body)
}

#[test]
fn both_protocols_come_in_encrypted() {
    let fixture = encrypted();
    let upstream = Upstream::start();
    fixture.tell(World::web(vec![endpoint("w-1", upstream.address, 1000)]));
    let folder = fixture.folder.path();
    runtime().block_on(async {
        let stream = connect(fixture.entry, folder, &[b"h2", b"http/1.1"]).await.expect("a handshake");
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let io = TokioIo::new(stream);
        let shaken = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await;
        let (mut sender, connection) = shaken.expect("it speaks HTTP/2");
        tokio::spawn(connection);
        let answer = sender.send_request(request("shop.example", "/", "")).await.expect("an answer");
        assert_eq!(&whole(answer).await.2[..], b"hello");
        for alpn in [&[&b"http/1.1"[..]][..], &[]] {
            let stream = connect(fixture.entry, folder, alpn).await.expect("a handshake");
            assert_eq!(get_http1(stream).await, (200, Bytes::from("hello")));
        }
    });
    assert_eq!(crate::client::get(fixture.mesh, "web", "/").text(), "hello", "the mesh stays clear text");
    let mut plain = crate::client::Client::connect(fixture.entry);
    plain.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n");
    assert!(plain.read().is_none(), "clear text is not answered on an encrypted entry");
}

#[test]
fn a_reload_brings_the_new_certificate_and_a_broken_one_changes_nothing() {
    let fixture = encrypted();
    let upstream = Upstream::start();
    fixture.tell(World::web(vec![endpoint("w-1", upstream.address, 1000)]));
    let folder = fixture.folder.path();
    let proxy = fixture.proxy.as_ref().expect("it lives");
    runtime().block_on(async {
        let old = connect(fixture.entry, folder, &[]).await.expect("a handshake");
        certificate(folder);
        connect(fixture.entry, folder, &[]).await.expect_err("the old one is still in force");
        proxy.reload().expect("it is usable");
        let new = connect(fixture.entry, folder, &[]).await.expect("the new one");
        assert_eq!(get_http1(new).await.0, 200);
        assert_eq!(get_http1(old).await.0, 200, "who was connected stays so");
        std::fs::write(folder.join("key.pem"), "nonsense").expect("written");
        let error = proxy.reload().expect_err("unusable").to_string();
        assert!(error.contains("key.pem") && error.contains("PRIVATE KEY"), "{error}");
        assert_eq!(get_http1(connect(fixture.entry, folder, &[]).await.expect("in force")).await.0, 200);
    });
}

#[test]
fn an_unusable_certificate_is_a_clear_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let files = certificate(folder.path());
    let other = tempfile::tempdir().expect("a folder");
    let stranger = certificate(other.path()).key;
    let missing = folder.path().join("missing.pem");
    let cases = [
        (proxy::tls::Files { cert: missing.clone(), key: files.key.clone() }, "missing.pem"),
        (proxy::tls::Files { cert: files.key.clone(), key: files.key.clone() }, "no certificate in it"),
        (proxy::tls::Files { cert: files.cert.clone(), key: files.cert.clone() }, "PRIVATE KEY section"),
        (proxy::tls::Files { cert: files.cert.clone(), key: stranger }, "key.pem: "),
    ];
    for (tls, wanted) in cases {
        let config = proxy::Config { tls: Some(tls), ..config(&folder, "http://127.0.0.1:9", 1) };
        let error = proxy::start(config).expect_err("refused").to_string();
        assert!(error.contains(wanted), "{error:?} should say {wanted:?}");
    }
}
