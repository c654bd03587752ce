//! What handlers take from a request, with refusals that are [`Failure`]s.

use super::access::Who;
use super::problem::{self, Failure};
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use model::Kind;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A JSON body or answer.
pub struct Json<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Failure;
    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let read = axum::Json::<T>::from_request(request, state).await;
        let axum::Json(body) =
            read.map_err(|error| Failure { status: error.status(), ..problem::malformed(error.body_text()) })?;
        Ok(Self(body))
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

/// The query's parameters.
pub struct Params<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Failure;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Query(params) = Query::<T>::from_request_parts(parts, state)
            .await
            .map_err(|error| problem::malformed(error.body_text()))?;
        Ok(Self(params))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Who {
    type Rejection = Failure;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let who = parts.extensions.get::<Who>().cloned();
        who.ok_or_else(|| problem::internal("the listener did not say who asks"))
    }
}

/// Reads a kind as people write it: any case, singular or plural.
pub fn kind(text: &str) -> Result<Kind, Failure> {
    let given = text.to_lowercase();
    let same = |kind: &&Kind| {
        let rest = given.strip_prefix(&kind.as_str().to_lowercase());
        rest.is_some_and(|rest| ["", "s", "es"].contains(&rest))
    };
    Kind::ALL.iter().find(same).copied().ok_or_else(|| {
        let all: Vec<&str> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
        problem::not_found(format!("there is no kind {text:?}: one of {} would be right", all.join(", ")))
    })
}

/// Reads a name out of a path.
pub fn name<N: std::str::FromStr<Err = model::NameError>>(text: &str) -> Result<N, Failure> {
    text.parse().map_err(|error: model::NameError| problem::malformed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::kind;
    use model::Kind;

    #[test]
    fn kinds_are_read_as_people_write_them() {
        for text in ["Service", "service", "services", "SERVICES"] {
            assert_eq!(kind(text).expect(text), Kind::Service);
        }
        assert_eq!(kind("businesses").expect("plural"), Kind::Business);
        assert_eq!(kind("hosttypes").expect("plural"), Kind::HostType);
        assert!(kind("pod").expect_err("none").problem.message.contains("Service"));
    }
}
