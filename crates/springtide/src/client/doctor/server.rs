//! What the server says of itself and of the fleet.

use super::Finding;
use crate::client::connect::Connect;
use crate::client::failure::Failure;
use api::client::Error;
use api::http::Status;

/// What to do when there is no server.
const START: &str = "start one (springtide dev), or name it with --server";

/// Asks the server; true beside it when one answers.
pub async fn check(connect: &Connect) -> (Vec<Finding>, bool) {
    let client = match connect.client() {
        Ok(client) => client,
        Err(Failure::Usage(why)) => return (vec![Finding::fail("server", why, "mend the command line")], false),
        Err(other) => return (vec![Finding::fail("server", format!("{other:?}"), START)], false),
    };
    match client.status().await {
        Ok(status) => (judged(client.address(), &status, env!("CARGO_PKG_VERSION")), true),
        Err(Error::Unreachable { at, source }) => {
            let found = format!("nothing answers at {at} ({})", root(&source));
            (vec![Finding::warn("server", found, START)], false)
        }
        Err(error) => (vec![Finding::fail("server", error.to_string(), "look at the server's log")], false),
    }
}

/// The innermost reason of an error.
fn root(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

fn judged(address: &str, status: &Status, version: &str) -> Vec<Finding> {
    let mut findings = vec![Finding::ok("server", format!("answers at {address}, revision {}", status.revision))];
    findings.push(if status.version == version {
        Finding::ok("server version", status.version.clone())
    } else {
        let found = format!("{}, this program is {version}", status.version);
        Finding::warn("server version", found, "upgrade the older one: version N reads N-1, not the reverse")
    });
    if let Some(trouble) = &status.trouble {
        findings.push(Finding::fail(
            "disk of the server",
            trouble.clone(),
            "make room on it; changes go on by themselves",
        ));
    }
    if let Some(trouble) = &status.detection_trouble {
        let advice = "incidents may be missed meanwhile; report what the server's log says of the panic";
        findings.push(Finding::fail("detection", trouble.clone(), advice));
    }
    let hosts = format!("{} of {} connected", status.hosts_connected, status.hosts);
    findings.push(match status.hosts_connected {
        0 if status.hosts > 0 => Finding::fail("hosts", hosts, "start the agents; springtide get hosts lists them"),
        connected if connected < status.hosts => {
            Finding::warn("hosts", hosts, "springtide get hosts shows which are lost; look at their agents")
        }
        _ => Finding::ok("hosts", hosts),
    });
    findings.push(if status.proxies == 0 {
        Finding::warn("proxies", "none connected", "start one: springtide proxy; without it no traffic is carried")
    } else {
        Finding::ok("proxies", format!("{} connected", status.proxies))
    });
    if !status.settled {
        let advice = "wait: after a start, nothing is repaired before most agents have reported";
        findings.push(Finding::warn("settled", "not yet", advice));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::Mark;
    use super::*;

    fn status() -> Status {
        Status {
            version: "1.0.0".to_owned(),
            revision: 9,
            hosts_connected: 6,
            hosts: 6,
            proxies: 1,
            operations_open: 0,
            settled: true,
            entry_address: None,
            started_at: 0,
            trouble: None,
            detection_trouble: None,
        }
    }

    fn marks(status: &Status) -> Vec<(String, Mark)> {
        let trouble = judged("here", status, "1.0.0").into_iter().filter(|finding| finding.mark != Mark::Ok);
        trouble.map(|finding| (finding.check, finding.mark)).collect()
    }

    #[test]
    fn what_is_amiss_is_marked() {
        assert_eq!(marks(&status()), []);
        let wrong = Status { version: "0.9.0".to_owned(), hosts_connected: 5, proxies: 0, settled: false, ..status() };
        let checks = ["server version", "hosts", "proxies", "settled"];
        assert_eq!(marks(&wrong), checks.map(|check| (check.to_owned(), Mark::Warn)));
        let full = Status { trouble: Some("the store cannot write".to_owned()), ..status() };
        assert_eq!(marks(&full), [("disk of the server".to_owned(), Mark::Fail)]);
        let blind = Status { detection_trouble: Some("detection does not run".to_owned()), ..status() };
        assert_eq!(marks(&blind), [("detection".to_owned(), Mark::Fail)]);
        assert_eq!(marks(&Status { hosts_connected: 0, ..status() }), [("hosts".to_owned(), Mark::Fail)]);
    }
}
