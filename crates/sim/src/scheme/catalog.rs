//! Overload controls by name, as scripts are run under them.

use super::breakwater::Breakwater;
use super::codel::Codel;
use super::dagor::Dagor;
use super::gradient2::Gradient2;
use super::ours::Ours;
use super::random::Random;
use super::{Nothing, Scheme};
use crate::script::Script;

/// All names, ours first.
pub const NAMES: [&str; 13] = [
    "springtide",
    "springtide-inferred",
    "dagor",
    "dagor-tuned",
    "dagor-budget",
    "codel",
    "codel-tuned",
    "random",
    "gradient2",
    "gradient2-tuned",
    "breakwater",
    "breakwater-tuned",
    "none",
];

/// The overload control of that name, with its parameters for a script.
pub fn named(name: &str, script: &Script) -> Option<Box<dyn Scheme>> {
    let rotation_us = (script.rotation_s * 1e6).round() as u64;
    Some(match name {
        "springtide" => Box::new(Ours::shipped(rotation_us)),
        "springtide-inferred" => Box::new(Ours::inferred(rotation_us)),
        "dagor" => Box::new(Dagor::paper(rotation_us)),
        "dagor-tuned" => Box::new(Dagor {
            label: "dagor-tuned",
            window_us: 100_000,
            drop_expired: true,
            ..Dagor::paper(rotation_us)
        }),
        "dagor-budget" => {
            Box::new(Dagor { label: "dagor-budget", retry_share: Some(0.1), ..Dagor::paper(rotation_us) })
        }
        "codel" => Box::new(Codel::paper()),
        "codel-tuned" => Box::new(Codel { label: "codel-tuned", drop_expired: true, ..Codel::paper() }),
        "random" => {
            Box::new(Random { label: "random", headroom: 0.95, window_us: 100_000, fixed: None, drop_expired: true })
        }
        "gradient2" => Box::new(Gradient2::paper()),
        "gradient2-tuned" => Box::new(Gradient2 { label: "gradient2-tuned", drop_expired: true, ..Gradient2::paper() }),
        "breakwater-tuned" => {
            Box::new(Breakwater { label: "breakwater-tuned", drop_expired: true, ..Breakwater::paper() })
        }
        "breakwater" => Box::new(Breakwater::paper()),
        "none" => Box::new(Nothing),
        _ => return None,
    })
}
