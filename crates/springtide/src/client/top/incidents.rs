//! Incidents for the screen: what the API says of them, in the words of the view and of its page. Read by name, so that
//! a server that says more, or has none, is understood as well.

use super::rows::{self, Incident};
use api::client::{Client, Error};
use api::http::{Description, Section};
use serde_json::{Value, json};

/// Incidents of a look.
const INCIDENTS_MAX: u32 = 200;

/// The newest incidents as the server tells them; none, when it watches for none.
pub async fn all(client: &Client) -> Result<Value, Error> {
    match client.ask(&format!("/v1/incidents?limit={INCIDENTS_MAX}")).await {
        Err(Error::Refused(_, status)) if status.as_u16() == 404 => Ok(json!([])),
        other => other,
    }
}

/// What the view shows of them.
pub fn short(found: &Value) -> Vec<Incident> {
    found.as_array().map(|all| all.iter().map(row).collect()).unwrap_or_default()
}

fn text<'a>(of: &'a Value, field: &str) -> &'a str {
    of[field].as_str().unwrap_or_default()
}

fn texts(of: &Value, field: &str) -> Vec<String> {
    let all = of[field].as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

/// The texts that a list of objects has under one name.
fn each(of: &Value, list: &str, field: &str) -> Vec<String> {
    let all = of[list].as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().map(|item| text(item, field).to_owned()).collect()
}

fn row(of: &Value) -> Incident {
    let first = |list: &str| each(of, list, "what").into_iter().next();
    let mute = !of["silenced_until"].is_null() && of["ended_at"].is_null();
    let state = text(of, "state");
    Incident {
        id: text(of, "id").to_owned(),
        state: if mute { format!("{state}, mute") } else { state.to_owned() },
        since: of["started_at"].as_u64().unwrap_or_default(),
        place: texts(of, "reach").join(", "),
        cause: first("causes").unwrap_or_else(|| text(of, "title").to_owned()),
        evidence: first("findings").unwrap_or_default(),
    }
}

/// Says that someone looks after it.
pub async fn acknowledge(client: &Client, id: &str) -> Result<(), Error> {
    client.tell(&format!("/v1/incidents/{id}/ack"), &json!({})).await.map(drop)
}

/// Mutes what it reaches.
pub async fn silence(client: &Client, id: &str, minutes: u32) -> Result<(), Error> {
    let request = json!({"for": format!("{minutes}m"), "reason": "muted in springtide top"});
    client.tell(&format!("/v1/incidents/{id}/silence"), &request).await.map(drop)
}

/// The page of an incident.
pub async fn page(client: &Client, id: &str) -> Result<Description, Error> {
    Ok(described(&client.ask(&format!("/v1/incidents/{id}")).await?))
}

/// An incident as a page.
pub fn described(of: &Value) -> Description {
    let one = |name: &str, value: String| vec![name.to_owned(), value];
    let time = |field: &str| of[field].as_u64();
    let mut state = vec![one("state", text(of, "state").to_owned()), one("severity", text(of, "severity").to_owned())];
    state.extend(time("started_at").map(|at| one("began", model::time::rfc3339(at))));
    let lasted = time("started_at").zip(time("ended_at"));
    state.extend(lasted.map(|(from, to)| one("lasted", rows::since(from, to))));
    state.extend(of["acknowledged_by"].as_str().map(|who| one("looked after by", who.to_owned())));
    state.extend(time("silenced_until").map(|until| one("mute until", model::time::rfc3339(until))));
    state.extend(texts(of, "reach").into_iter().map(|reach| one("reaches", reach)));
    let causes = of["causes"].as_array().map(Vec::as_slice).unwrap_or_default().iter().map(|cause| {
        let belief = cause["confidence"].as_f64().unwrap_or_default() * 100.0;
        vec![text(cause, "what").to_owned(), format!("{belief:.0}%"), texts(cause, "evidence").join("; ")]
    });
    let lines = |texts: Vec<String>| texts.into_iter().map(|text| vec![text]).collect::<Vec<_>>();
    let section = |title: &str, head: &[&str], rows: Vec<Vec<String>>| Section {
        title: title.to_owned(),
        head: head.iter().map(|&text| text.to_owned()).collect(),
        rows,
    };
    Description {
        title: format!("{}: {}", text(of, "id"), text(of, "title")),
        sections: vec![
            section("state", &[], state),
            section("probable causes", &["cause", "belief", "because"], causes.collect()),
            section("evidence", &[], lines(each(of, "findings", "what"))),
            section("going on by intent", &[], lines(each(of, "going_on", "what"))),
            section("what may help", &[], lines(texts(of, "next"))),
        ],
    }
}
