//! Every command explains itself, with an example.

use crate::{run, text};
use std::path::Path;

/// Names under the heading `Commands:` of a help page.
fn commands(help: &str) -> Vec<String> {
    let list = help.split("\nCommands:\n").nth(1).unwrap_or_default();
    let names =
        list.lines().take_while(|line| line.starts_with("  ")).filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

fn check(path: &[&str], seen: &mut Vec<String>) {
    let args: Vec<&str> = path.iter().copied().chain(["--help"]).collect();
    let page = run(Path::new("/"), &args);
    assert!(page.status.success(), "{args:?}");
    let help = text(&page.stdout);
    let below = commands(&help);
    if below.is_empty() {
        seen.push(path.join(" "));
        assert!(help.contains("Example"), "`{}` has no example:\n{help}", path.join(" "));
        assert!(help.contains(&format!("springtide {}", path.join(" "))), "`{}` shows another command", path.join(" "));
    }
    for name in below {
        let deeper: Vec<&str> = path.iter().copied().chain([name.as_str()]).collect();
        check(&deeper, seen);
    }
}

#[test]
fn every_command_has_an_example() {
    let mut seen = Vec::new();
    check(&[], &mut seen);
    let wanted = [
        "dev",
        "server",
        "agent",
        "proxy",
        "plan",
        "apply",
        "delete",
        "get",
        "describe",
        "top",
        "logs",
        "stress",
        "size",
        "scale",
        "drain",
        "undrain",
        "operation list",
        "operation show",
        "operation watch",
        "operation pause",
        "operation resume",
        "operation rollback",
        "operation report",
        "doctor",
        "load",
        "simulate",
        "audit",
        "curve",
    ];
    for name in wanted {
        assert!(seen.iter().any(|found| found == name), "no command `{name}` among {seen:?}");
    }
}

#[test]
fn the_page_on_commands_names_each() {
    let page = include_str!("../../../../docs/cli.md");
    for name in commands(&text(&run(Path::new("/"), &["--help"]).stdout)) {
        assert!(
            page.contains(&format!("`{name}`")) || page.contains(&format!("`{name} ")),
            "docs/cli.md lacks `{name}`"
        );
    }
}
