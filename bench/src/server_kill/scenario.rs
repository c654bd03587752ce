//! A file of kills: which operation, and when the server dies in it.

use super::kinds::Kind;
use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use std::path::Path;
use std::time::Duration;

/// Kills that one file may hold.
const KILLS_MAX: usize = 500;

/// One kill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kill {
    /// The operation.
    pub kind: Kind,
    /// When.
    pub at: Moment,
}

/// When the server dies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Moment {
    /// At the n-th write of a kind: `commit`, `committed`, `record`.
    Write(String, u32),
    /// So long after the click.
    After(Duration),
}

impl std::fmt::Display for Kill {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.at {
            Moment::Write(point, number) => write!(f, "{:?} {point} {number}", self.kind),
            Moment::After(delay) => write!(f, "{:?} after {delay:?}", self.kind),
        }
    }
}

/// Reads a scenario.
pub fn read(file: &Path) -> Result<Vec<Kill>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    parse(&text).with_context(|| file.display().to_string())
}

fn parse(text: &str) -> Result<Vec<Kill>> {
    let mut kills = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let words: Vec<&str> = line.split('#').next().unwrap_or_default().split_whitespace().collect();
        if words.is_empty() {
            continue;
        }
        kills.push(kill(&words).with_context(|| format!("line {}", at + 1))?);
    }
    ensure!(!kills.is_empty(), "holds no kill: a line is such as `rollout committed 3`");
    ensure!(kills.len() <= KILLS_MAX, "holds more than {KILLS_MAX} kills");
    Ok(kills)
}

fn kill(words: &[&str]) -> Result<Kill> {
    let [kind, point, number] = words else {
        anyhow::bail!("{:?} is not KIND POINT NUMBER, such as `rollout committed 3`", words.join(" "));
    };
    let kind = Kind::from_str(kind, false).map_err(|_| {
        let known: Vec<_> = Kind::value_variants().iter().filter_map(|kind| kind.to_possible_value()).collect();
        let known: Vec<&str> = known.iter().map(|value| value.get_name()).collect();
        anyhow::anyhow!("{kind:?} is no kind of operation: there are {}", known.join(", "))
    })?;
    let number: u32 = number.parse().with_context(|| format!("{number:?} is no number"))?;
    let at = match *point {
        "ms" => Moment::After(Duration::from_millis(number.into())),
        "commit" | "committed" | "record" => Moment::Write((*point).to_owned(), number),
        _ => anyhow::bail!("{point:?} is no point: there are commit, committed, record and ms"),
    };
    Ok(Kill { kind, at })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kill_a_line_and_comments() {
        let kills = parse("# all of it\nrollout committed 3\n\nscale-in ms 250 # soon\n").expect("well formed");
        assert_eq!(kills[0], Kill { kind: Kind::Rollout, at: Moment::Write("committed".into(), 3) });
        assert_eq!(kills[1], Kill { kind: Kind::ScaleIn, at: Moment::After(Duration::from_millis(250)) });
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, wanted) in [
            ("rollout commit 1\nfly commit 1", "line 2"),
            ("fly commit 1", "rollback"),
            ("rollout lunch 1", "committed"),
            ("rollout commit", "KIND POINT NUMBER"),
            ("", "holds no kill"),
        ] {
            let error = format!("{:#}", parse(text).expect_err(text));
            assert!(error.contains(wanted), "{error}");
        }
    }
}
