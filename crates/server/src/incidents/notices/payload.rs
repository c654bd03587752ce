//! What a receiver gets: the payload of Prometheus' Alertmanager for webhooks, version 4
//! (<https://prometheus.io/docs/alerting/latest/configuration/#webhook_config>), one alert for each incident.

use api::http::Incident;
use model::time::rfc3339;
use serde::Serialize;
use std::collections::BTreeMap;

/// The time of an end that has not come, as Alertmanager writes it.
const NO_END: &str = "0001-01-01T00:00:00Z";
/// Causes told in a description.
const CAUSES_TOLD_MAX: usize = 3;

type Texts = BTreeMap<&'static str, String>;

/// The payload.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Payload {
    version: &'static str,
    /// The same for all notices of a receiver.
    group_key: String,
    truncated_alerts: u32,
    /// `firing` while any of the alerts is.
    status: &'static str,
    receiver: String,
    group_labels: Texts,
    common_labels: Texts,
    common_annotations: Texts,
    #[serde(rename = "externalURL")]
    external_url: String,
    alerts: Vec<Alert>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Alert {
    status: &'static str,
    labels: Texts,
    annotations: Texts,
    starts_at: String,
    ends_at: String,
    #[serde(rename = "generatorURL")]
    generator_url: String,
    /// The same for all notices of one incident.
    fingerprint: String,
}

impl Payload {
    /// The notice of these incidents, as they stand.
    pub fn of(receiver: &str, incidents: &[&Incident], url: &str) -> Self {
        let alerts: Vec<Alert> = incidents.iter().map(|incident| alert(incident, url)).collect();
        let firing = alerts.iter().any(|alert| alert.status == "firing");
        Self {
            version: "4",
            group_key: format!("springtide/{receiver}:{{}}"),
            truncated_alerts: 0,
            status: if firing { "firing" } else { "resolved" },
            receiver: receiver.to_owned(),
            group_labels: Texts::new(),
            common_labels: common(alerts.iter().map(|alert| &alert.labels)),
            common_annotations: common(alerts.iter().map(|alert| &alert.annotations)),
            external_url: url.to_owned(),
            alerts,
        }
    }

    /// Fingerprints of its alerts, by which a receiver knows what it has.
    pub fn key(&self) -> String {
        let parts: Vec<String> = self.alerts.iter().map(|at| format!("{}.{}", at.fingerprint, at.status)).collect();
        parts.join(",")
    }
}

fn alert(incident: &Incident, url: &str) -> Alert {
    let cause = incident.causes.first();
    let mut labels = Texts::from([
        ("alertname", incident.rule.clone().unwrap_or_else(|| "SpringtideIncident".to_owned())),
        ("incident", incident.id.clone()),
        ("severity", incident.severity.clone()),
    ]);
    labels.extend(incident.services.first().map(|service| ("service", service.clone())));
    labels.extend(cause.map(|cause| ("cause", cause.kind.clone())));
    labels.extend(cause.map(|cause| ("cause_entity", format!("{}/{}", cause.entity_kind, cause.entity))));
    // Labels name an alert and may not change while it fires; what may change is told in annotations.
    let stable = ["alertname", "incident"];
    let fingerprint = stable.iter().flat_map(|name| labels[name].bytes().chain([0xFF]));
    let fingerprint = fingerprint
        .fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3));
    let mut annotations = Texts::from([("summary", incident.title.clone()), ("description", description(incident))]);
    annotations.extend(incident.acknowledged_by.clone().map(|who| ("acknowledged_by", who)));
    annotations.extend(incident.next.first().map(|next| ("next", next.clone())));
    Alert {
        status: if incident.ended_at.is_some() { "resolved" } else { "firing" },
        starts_at: rfc3339(incident.started_at),
        ends_at: incident.ended_at.map_or_else(|| NO_END.to_owned(), rfc3339),
        generator_url: if url.is_empty() { String::new() } else { format!("{url}/#/incidents/{}", incident.id) },
        fingerprint: format!("{fingerprint:016x}"),
        labels,
        annotations,
    }
}

fn description(incident: &Incident) -> String {
    let mut lines = vec![incident.reach.join("; ")];
    for cause in incident.causes.iter().take(CAUSES_TOLD_MAX) {
        let evidence: Vec<&str> = cause.evidence.iter().take(2).map(String::as_str).collect();
        lines.push(format!("{:.0}% {}: {}", cause.confidence * 100.0, cause.what, evidence.join("; ")));
    }
    lines.extend(incident.going_on.iter().map(|on| format!("meanwhile: {}", on.what)));
    if incident.causes.is_empty() {
        lines.extend(incident.findings.iter().take(CAUSES_TOLD_MAX).map(|found| found.what.clone()));
    }
    lines.retain(|line| !line.is_empty());
    lines.join("\n")
}

/// What all of them have in common.
fn common<'a>(mut all: impl Iterator<Item = &'a Texts>) -> Texts {
    let Some(mut same) = all.next().cloned() else { return Texts::new() };
    all.for_each(|other| same.retain(|name, text| other.get(name) == Some(text)));
    same
}
