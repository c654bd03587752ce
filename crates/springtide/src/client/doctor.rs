//! `doctor`: what is right and wrong on this machine, line by line, each with what to do.
//!
//! It changes nothing that stays: a probe cgroup and a probe file are made and removed.

mod machine;
mod server;

use super::connect::Connect;
use super::failure::Failure;
use super::output::{Output, Table, counted};
use serde::Serialize;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Check this machine and the server
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  springtide doctor\n  springtide doctor --data /var/lib/springtide -o json\n\nExit codes: 0 no line fails (warnings are allowed), 1 some line fails."
)]
pub struct Args {
    /// Data folder to look at
    #[arg(long, default_value = "./.springtide")]
    data: PathBuf,
    /// Addresses that `springtide dev` is to listen on
    #[arg(long = "listen", value_name = "ADDRESS:PORT", default_values = ["127.0.0.1:8080", "127.0.0.1:8081"])]
    listen: Vec<SocketAddr>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connect: Connect,
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Mark {
    Ok,
    Warn,
    Fail,
}

/// One line of the examination.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Finding {
    check: String,
    mark: Mark,
    found: String,
    advice: String,
}

impl Finding {
    fn ok(check: &str, found: impl Into<String>) -> Self {
        Self { check: check.to_owned(), mark: Mark::Ok, found: found.into(), advice: String::new() }
    }

    fn warn(check: &str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check: check.to_owned(), mark: Mark::Warn, found: found.into(), advice: advice.into() }
    }

    fn fail(check: &str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check: check.to_owned(), mark: Mark::Fail, found: found.into(), advice: advice.into() }
    }
}

/// `springtide doctor`.
pub async fn doctor(args: Args) -> Result<(), Failure> {
    let mut findings = machine::check(&args.data);
    let (served, entry_known) = server::check(&args.connect).await;
    findings.extend(args.listen.iter().map(|address| machine::listen(*address, entry_known)));
    findings.extend(served);
    args.output.show(&findings, || table(&findings).text())?;
    let failed = findings.iter().filter(|finding| finding.mark == Mark::Fail).count();
    if failed == 0 { Ok(()) } else { Err(Failure::Refused(format!("{} failed", counted(failed, "check")))) }
}

fn table(findings: &[Finding]) -> Table {
    let mut table = Table::new(&["", "CHECK", "FOUND", "WHAT TO DO"]);
    for finding in findings {
        let mark = super::tables::word(&finding.mark);
        table.row([mark, finding.check.clone(), finding.found.clone(), finding.advice.clone()]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_read_well() {
        let findings = [
            Finding::ok("version", "0.1.0"),
            Finding::fail("cgroup cpu", "/sys/fs/cgroup/cpu is read-only", "run as root"),
        ];
        let wanted = "      CHECK       FOUND                            WHAT TO DO
ok    version     0.1.0
fail  cgroup cpu  /sys/fs/cgroup/cpu is read-only  run as root
";
        assert_eq!(table(&findings).rendered(None), wanted);
    }
}
