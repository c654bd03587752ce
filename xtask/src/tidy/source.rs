//! Rules about the text of one source file.

use super::Complaint;
use std::path::Path;

/// Lines a file may have.
const FILE_LINES_MAX: usize = 800;
/// Lines a function may have.
const FUNCTION_LINES_MAX: usize = 70;
/// Rooms that do no I/O and read no clock.
const PURE: &[&str] = &["admission", "model", "capacity", "scheduler", "control", "detect", "policy", "promql", "sim"];
/// What a pure room never says.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::net::Tcp",
    "std::net::Udp",
    "std::thread",
    "std::process",
    "std::env",
    "std::io::",
    "Instant::now",
    "SystemTime",
    "async fn",
    "tokio::",
    "HashMap",
    "HashSet",
    "println!",
    "rand::rng(",
    "thread_rng",
];
/// Names that say nothing.
const EMPTY_NAMES: &[&str] = &["utils", "util", "helpers", "helper", "common", "manager", "misc", "mod"];

/// Checks one file.
pub fn check(path: &Path, text: &str) -> Vec<Complaint> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Found { path, complaints: Vec::new() };
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or("");
    if EMPTY_NAMES.contains(&stem) {
        found.add(0, format!("the name {stem:?} says nothing: name the file after what it holds"));
    }
    if !text.starts_with("//! ") {
        found.add(1, "a file opens with `//! ` and its purpose".to_owned());
    }
    if lines.len() > FILE_LINES_MAX {
        found.add(0, format!("{} lines; at most {FILE_LINES_MAX}: split it by idea", lines.len()));
    }
    found.functions(&lines);
    found.phrases(&lines);
    found.complaints
}

struct Found<'a> {
    path: &'a Path,
    complaints: Vec<Complaint>,
}

impl Found<'_> {
    fn add(&mut self, line: usize, what: String) {
        let path = self.path.display();
        let at = if line == 0 { path.to_string() } else { format!("{path}:{line}") };
        self.complaints.push(Complaint { at, what });
    }

    /// Relies on rustfmt: a function ends at the first `}` with its own indent.
    fn functions(&mut self, lines: &[&str]) {
        for (start, line) in lines.iter().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let head = line.trim_start().split('(').next().unwrap_or("");
            let is_function = head.split_whitespace().rev().nth(1) == Some("fn") && !line.trim_end().ends_with(';');
            if !is_function {
                continue;
            }
            let closes = |line: &&str| line.trim_end() == format!("{}}}", " ".repeat(indent));
            let length = lines[start..].iter().position(closes).map_or(1, |end| end + 1);
            if length > FUNCTION_LINES_MAX {
                self.add(start + 1, format!("{length} lines in one function; at most {FUNCTION_LINES_MAX}"));
            }
        }
    }

    fn phrases(&mut self, lines: &[&str]) {
        let path = self.path.display().to_string();
        let in_tests = path.contains("/tests/") || path.ends_with("/tests.rs") || path.contains("_tests.rs");
        let pure = PURE.iter().any(|room| path.starts_with(&format!("crates/{room}/src")));
        if in_tests || path.starts_with("xtask/src/tidy") {
            return;
        }
        for (at, line) in lines.iter().enumerate() {
            if line.trim() == "#[cfg(test)]" {
                let is_inline = lines.get(at + 1).is_some_and(|next| next.trim_end().ends_with('{'));
                if is_inline {
                    return;
                }
            }
            if line.trim_start().starts_with("//") {
                continue;
            }
            for phrase in [".unwrap()", "todo!(", "unimplemented!(", "#[allow(", "#[ignore"] {
                if line.contains(phrase) {
                    self.add(at + 1, format!("{phrase} is refused here (STYLE.md)"));
                }
            }
            if let Some(phrase) = IMPURE.iter().find(|phrase| pure && line.contains(**phrase)) {
                self.add(at + 1, format!("{phrase} in a pure room: take it as a parameter, or do it at the edge"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(path: &str, text: &str) -> Vec<String> {
        check(Path::new(path), text).into_iter().map(|c| format!("{}: {}", c.at, c.what)).collect()
    }

    #[test]
    fn a_clean_file_passes() {
        assert!(complaints("crates/model/src/name.rs", "//! Names.\n\nfn a() {\n    1\n}\n").is_empty());
    }

    #[test]
    fn long_functions_are_found_with_their_line() {
        let body = "    x();\n".repeat(FUNCTION_LINES_MAX);
        let text =
            format!("//! Long.\n\nimpl A {{\n    pub async fn long(\n        a: u8,\n    ) {{\n{body}    }}\n}}\n");
        let found = complaints("crates/agent/src/a.rs", &text);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("crates/agent/src/a.rs:4: 7"), "{found:?}");
    }

    #[test]
    fn clocks_are_refused_in_pure_rooms_only_and_tests_may_unwrap() {
        let text = "//! A.\nfn a() {\n    let now = Instant::now();\n}\n#[cfg(test)]\nmod tests {\n    fn b() { c().unwrap(); }\n}\n";
        assert!(complaints("crates/control/src/a.rs", text)[0].contains("pure room"));
        assert!(complaints("crates/agent/src/a.rs", text).is_empty());
        assert!(complaints("crates/agent/src/a.rs", "//! A.\nfn a() { b.unwrap() }\n")[0].contains(".unwrap()"));
    }

    #[test]
    fn purpose_and_name_are_asked_for() {
        assert_eq!(complaints("crates/agent/src/utils.rs", "fn a() {}\n").len(), 2);
    }
}
