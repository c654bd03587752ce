//! Incidents for the screen: what the API says of them, in the words of the view and of its page.

use super::rows;
use api::client::{Client, Error};
use api::http::{Description, Incident, Section};

/// Incidents of a look.
const INCIDENTS_MAX: u32 = 200;

/// The newest incidents.
pub async fn all(client: &Client) -> Result<Vec<Incident>, Error> {
    client.incidents(&[("limit", INCIDENTS_MAX.to_string())]).await
}

/// An incident as a page.
pub fn described(of: &Incident) -> Description {
    let one = |name: &str, value: String| vec![name.to_owned(), value];
    let mut state = vec![
        one("state", of.state.clone()),
        one("severity", of.severity.clone()),
        one("began", model::time::rfc3339(of.started_at)),
    ];
    state.extend(of.ended_at.map(|ended| one("lasted", rows::since(of.started_at, ended))));
    state.extend(of.acknowledged_by.clone().map(|who| one("looked after by", who)));
    state.extend(of.silenced_until.map(|until| one("mute until", model::time::rfc3339(until))));
    state.extend(of.reach.iter().map(|reach| one("reaches", reach.clone())));
    let causes = of
        .causes
        .iter()
        .map(|cause| vec![cause.what.clone(), format!("{:.0}%", cause.confidence * 100.0), cause.evidence.join("; ")]);
    let section = |title: &str, head: &[&str], rows: Vec<Vec<String>>| Section {
        title: title.to_owned(),
        head: head.iter().map(|&text| text.to_owned()).collect(),
        rows,
    };
    Description {
        title: format!("{}: {}", of.id, of.title),
        sections: vec![
            section("state", &[], state),
            section("probable causes", &["cause", "belief", "because"], causes.collect()),
            section("evidence", &[], of.findings.iter().map(|found| vec![found.what.clone()]).collect()),
            section("going on by intent", &[], of.going_on.iter().map(|on| vec![on.what.clone()]).collect()),
            section("what may help", &[], of.next.iter().map(|next| vec![next.clone()]).collect()),
        ],
    }
}
