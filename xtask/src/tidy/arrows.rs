//! Which room may stand on which: a crate's dependencies within the workspace, against the table.

use super::Complaint;
use anyhow::{Context, Result};
use std::path::Path;

/// Room → rooms it may depend on. A new arrow is a line here and a line in an ADR.
const MAY_STAND_ON: &[(&str, &[&str])] = &[
    ("admission", &[]),
    ("model", &[]),
    ("capacity", &["model"]),
    ("scheduler", &["model"]),
    ("control", &["model", "scheduler", "capacity"]),
    ("detect", &[]),
    ("store", &["model"]),
    ("metrics", &["model"]),
    ("policy", &["admission", "model"]),
    ("promql", &[]),
    ("sdk", &["admission", "model", "policy"]),
    ("sim", &["admission"]),
    ("api", &["model"]),
    ("loadgen", &[]),
    ("testkit", &[]),
    ("slowlane", &[]),
    ("proxy", &["admission", "api", "model", "metrics", "policy", "slowlane"]),
    ("shim", &[]),
    ("agent", &["api", "model", "shim"]),
    ("server", &["api", "capacity", "control", "detect", "metrics", "model", "policy", "promql", "scheduler", "store"]),
    ("springtide", &["agent", "api", "capacity", "loadgen", "model", "promql", "proxy", "server", "sim", "shim"]),
];

/// Checks every crate under `crates`.
pub fn check(crates: &Path) -> Result<Vec<Complaint>> {
    let mut complaints = Vec::new();
    for entry in std::fs::read_dir(crates)? {
        let path = entry?.path().join("Cargo.toml");
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        complaints.extend(check_manifest(&path.display().to_string(), &text));
    }
    Ok(complaints)
}

fn check_manifest(at: &str, text: &str) -> Vec<Complaint> {
    let complain = |what: String| Complaint { at: at.to_owned(), what };
    let mut complaints = Vec::new();
    let name = text.lines().find_map(|line| line.strip_prefix("name = ")).unwrap_or("").trim_matches('"');
    let Some((_, allowed)) = MAY_STAND_ON.iter().find(|(room, _)| *room == name) else {
        return vec![complain(format!("room {name:?} is not in the table of xtask/src/tidy/arrows.rs"))];
    };
    if !text.contains("[lints]\nworkspace = true") {
        complaints.push(complain("lacks `[lints]` `workspace = true`".to_owned()));
    }
    let mut section = "";
    for line in text.lines() {
        if line.starts_with('[') {
            section = line;
        }
        let dependency = line.split(['.', ' ', '=']).next().unwrap_or("");
        let ours = MAY_STAND_ON.iter().any(|(room, _)| *room == dependency);
        if section == "[dependencies]" && ours && !allowed.contains(&dependency) {
            complaints
                .push(complain(format!("{name} must not stand on {dependency} (allowed: {})", allowed.join(", "))));
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(text: &str) -> Vec<String> {
        check_manifest("Cargo.toml", text).into_iter().map(|c| c.what).collect()
    }

    #[test]
    fn an_upward_arrow_is_refused_and_a_downward_one_is_not() {
        let manifest = |dependency: &str| {
            format!(
                "[package]\nname = \"scheduler\"\n[lints]\nworkspace = true\n[dependencies]\n{dependency}.workspace = true\n"
            )
        };
        assert!(complaints(&manifest("model")).is_empty());
        assert_eq!(complaints(&manifest("server")), ["scheduler must not stand on server (allowed: model)"]);
    }

    #[test]
    fn an_unknown_room_and_missing_lints_are_named() {
        assert!(complaints("[package]\nname = \"misc\"\n")[0].contains("not in the table"));
        assert!(complaints("[package]\nname = \"model\"\n")[0].contains("[lints]"));
    }
}
