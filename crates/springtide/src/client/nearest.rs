//! A name that means nothing is answered with the nearest that does.

use super::failure::Failure;
use api::client::{Client, Error};
use model::Kind;

/// True when the server knows nothing of that name.
fn is_missing(error: &Error) -> bool {
    matches!(error, Error::Refused(problem, _) if problem.code == "not_found")
}

/// The failure of a command that named a resource; when there is none of that name, with the nearest.
pub async fn or_nearest(client: &Client, kind: Kind, name: &str, error: Error) -> Failure {
    if !is_missing(&error) {
        return error.into();
    }
    let known = client.resources(kind.as_str()).await.unwrap_or_default();
    if known.iter().any(|view| view.resource.name() == name) {
        // It is there: something else was not found.
        return error.into();
    }
    Failure::Refused(missing(&kind.as_str().to_lowercase(), name, known.iter().map(|view| view.resource.name())))
}

/// Fails when there is no resource of that name.
pub async fn must_exist(client: &Client, kind: Kind, name: &str) -> Result<(), Failure> {
    match client.resource(kind.as_str(), name).await {
        Ok(_) => Ok(()),
        Err(error) => Err(or_nearest(client, kind, name, error).await),
    }
}

/// What is said of a name that is none of those known.
pub fn missing<'a>(kind: &str, name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let hint = model::nearest(name, known).map_or_else(String::new, |near| format!("; did you mean {near}?"));
    let plural = if kind.ends_with('s') { "es" } else { "s" };
    format!("there is no {kind} {name}{hint} (`springtide get {kind}{plural}` lists what is there)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_offered() {
        let said = missing("service", "lotery", ["sso", "lottery"]);
        let wanted =
            "there is no service lotery; did you mean lottery? (`springtide get services` lists what is there)";
        assert_eq!(said, wanted);
        let said = missing("business", "x", ["red-packet"]);
        assert_eq!(said, "there is no business x (`springtide get businesses` lists what is there)");
    }
}
