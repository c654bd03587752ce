//! The bytes of packages, by digest. Large bodies stream through; nothing is held in memory.

use super::App;
use super::problem::{self, Failure};
use api::http::Problem;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use http::{StatusCode, header};
use model::Digest;
use std::io::Write;
use store::records::{BlobError, BlobWriter};
use tokio_util::io::ReaderStream;

/// Largest package.
const PACKAGE_BYTES_MAX: u64 = 4 << 30;
/// Time allowed for an upload.
pub const UPLOAD_SECONDS_MAX: u64 = 600;
/// Bytes read at a time.
const READ_BYTES: usize = 128 * 1024;

fn digest(text: &str) -> Result<Digest, Failure> {
    text.parse().map_err(|error: model::UnitError| problem::malformed(error.to_string()))
}

fn missing(digest: &Digest) -> Failure {
    problem::not_found(format!("no package with digest {digest} is here: `springtide apply` uploads it"))
}

/// The bytes.
#[utoipa::path(get, path = "/v1/packages/{digest}/blob", params(("digest" = String, Path, description = "sha256:…")),
    responses((status = 200, content_type = "application/octet-stream"), (status = 404, body = Problem)))]
pub async fn get(State(app): State<App>, Path(at): Path<String>) -> Result<Response, Failure> {
    let digest = digest(&at)?;
    let path = app.blobs.path_of(&digest).ok_or_else(|| missing(&digest))?;
    let failed = |error: std::io::Error| problem::internal(format!("package {digest} cannot be read: {error}"));
    let file = tokio::fs::File::open(&path).await.map_err(failed)?;
    let bytes = file.metadata().await.map_err(failed)?.len();
    let body = Body::from_stream(ReaderStream::with_capacity(file, READ_BYTES));
    let headers =
        [(header::CONTENT_TYPE, "application/octet-stream".to_owned()), (header::CONTENT_LENGTH, bytes.to_string())];
    Ok((headers, body).into_response())
}

/// Whether the bytes are here.
#[utoipa::path(head, path = "/v1/packages/{digest}/blob", params(("digest" = String, Path, description = "sha256:…")),
    responses((status = 200), (status = 404)))]
pub async fn head(State(app): State<App>, Path(at): Path<String>) -> Result<StatusCode, Failure> {
    let digest = digest(&at)?;
    match app.blobs.path_of(&digest) {
        Some(_) => Ok(StatusCode::OK),
        None => Err(missing(&digest)),
    }
}

/// Keeps the bytes, if they have the digest. Sending bytes again that are here changes nothing.
#[utoipa::path(put, path = "/v1/packages/{digest}/blob", params(("digest" = String, Path, description = "sha256:…")),
    request_body(content_type = "application/octet-stream"),
    responses((status = 204), (status = 422, body = Problem, description = "the bytes have another digest")))]
pub async fn put(State(app): State<App>, Path(at): Path<String>, body: Body) -> Result<StatusCode, Failure> {
    let digest = digest(&at)?;
    if app.blobs.path_of(&digest).is_some() {
        return Ok(StatusCode::NO_CONTENT);
    }
    let mut writer = app.blobs.create().map_err(|error| refused(&error))?;
    let mut chunks = body.into_data_stream();
    let mut bytes = 0;
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| problem::malformed(format!("the upload broke off: {error}")))?;
        bytes += chunk.len() as u64;
        if bytes > PACKAGE_BYTES_MAX {
            return Err(problem::unprocessable(format!("a package has at most {PACKAGE_BYTES_MAX} bytes")));
        }
        writer = write(writer, chunk).await?;
    }
    let finished = tokio::task::spawn_blocking(move || writer.finish(&digest)).await;
    match finished.map_err(|error| problem::internal(error.to_string()))? {
        Ok(_) => Ok(StatusCode::NO_CONTENT),
        Err(error) => Err(refused(&error)),
    }
}

fn refused(error: &BlobError) -> Failure {
    let message = error.to_string();
    match error {
        BlobError::Io { source, .. } => problem::disk(source, message),
        BlobError::WrongDigest { .. } => problem::unprocessable(message),
    }
}

async fn write(mut writer: BlobWriter, chunk: bytes::Bytes) -> Result<BlobWriter, Failure> {
    let written = tokio::task::spawn_blocking(move || writer.write_all(&chunk).map(|()| writer)).await;
    let written = written.map_err(|error| problem::internal(error.to_string()))?;
    written.map_err(|error| problem::disk(&error, format!("the package cannot be written: {error}")))
}
