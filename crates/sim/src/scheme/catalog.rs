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
pub const NAMES: [&str; 14] = [
    "springtide",
    "springtide-inferred",
    "springtide-untold",
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

/// The overload control of that name, with its parameters for a script. Those of the `-tuned` ones are what
/// `cargo xtask bench admission-sim` found best for M¹ to M⁴.
pub fn named(name: &str, script: &Script) -> Option<Box<dyn Scheme>> {
    let rotation_us = (script.rotation_s * 1e6).round() as u64;
    Some(match name {
        "springtide" => Box::new(Ours::shipped(rotation_us)),
        "springtide-inferred" => Box::new(Ours::inferred(rotation_us)),
        "springtide-untold" => Box::new(Ours::untold(rotation_us)),
        "dagor" => Box::new(Dagor::paper(rotation_us)),
        "dagor-tuned" => Box::new(Dagor {
            label: "dagor-tuned",
            delay_us: 40_000,
            alpha: 0.005,
            drop_expired: true,
            retry_share: Some(0.1),
            ..Dagor::paper(rotation_us)
        }),
        "dagor-budget" => {
            Box::new(Dagor { label: "dagor-budget", retry_share: Some(0.1), ..Dagor::paper(rotation_us) })
        }
        "codel" => Box::new(Codel::paper()),
        "codel-tuned" => {
            Box::new(Codel { label: "codel-tuned", target_us: 10_000, interval_us: 2_000, drop_expired: true })
        }
        "random" => {
            Box::new(Random { label: "random", headroom: 1.0, window_us: 200_000, fixed: None, drop_expired: true })
        }
        "gradient2" => Box::new(Gradient2::paper()),
        "gradient2-tuned" => Box::new(Gradient2 {
            label: "gradient2-tuned",
            limit_min: 12.0,
            limit_max: 12.0,
            queue: 1.0,
            tolerance: 1.0,
            drop_expired: true,
            ..Gradient2::paper()
        }),
        "breakwater-tuned" => Box::new(Breakwater {
            label: "breakwater-tuned",
            target_us: 40_000,
            beta: 0.1,
            round_us: 50_000,
            drop_expired: true,
            ..Breakwater::paper()
        }),
        "breakwater" => Box::new(Breakwater::paper()),
        "none" => Box::new(Nothing),
        _ => return None,
    })
}
