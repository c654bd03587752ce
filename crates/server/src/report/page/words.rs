//! What a report says in sentences.

use super::super::Page;
use super::ended_at;
use crate::http::describe::operation::purpose;
use model::{GateOutcome, Operation, OperationPhase, OperationSpec, UnixMs};

/// Share of failed requests that a reader is pointed at.
pub const ERRORS_MANY: f64 = 0.01;

/// How the operation ended, as far as the page can know.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All was done.
    Done,
    /// Something could not be done.
    Partly,
    /// What it began was taken back.
    Undone,
    /// It ended without doing it.
    Failed,
}

impl Outcome {
    /// The page is a step of the operation itself: one that got so far without failures has done its work.
    pub fn of(operation: &Operation) -> Self {
        match operation.phase {
            OperationPhase::RolledBack | OperationPhase::RollingBack => Self::Undone,
            OperationPhase::Failed => Self::Failed,
            _ if operation.failures.is_empty() => Self::Done,
            _ => Self::Partly,
        }
    }

    /// Its colour.
    pub fn class(self) -> &'static str {
        match self {
            Self::Done => "good-head",
            Self::Partly => "warn",
            Self::Undone | Self::Failed => "bad",
        }
    }

    /// True when what was planned does not stand.
    pub fn is_undone(self) -> bool {
        matches!(self, Self::Undone | Self::Failed)
    }

    /// In one word or two.
    pub fn word(self) -> (&'static str, &'static str) {
        match self {
            Self::Done => ("succeeded", "good"),
            Self::Partly => ("done in part", "warn"),
            Self::Undone => ("rolled back", "bad"),
            Self::Failed => ("failed", "bad"),
        }
    }
}

/// `1 instance`, `3 instances`.
pub fn instances(count: usize) -> String {
    if count == 1 { "1 instance".to_owned() } else { format!("{count} instances") }
}

/// What came of it, in one sentence.
pub fn headline(operation: &Operation, outcome: Outcome) -> String {
    match outcome {
        Outcome::Done => done(operation),
        Outcome::Partly => format!("{} was done in part", undertaking(operation)),
        Outcome::Undone => format!("{} was rolled back", undertaking(operation)),
        Outcome::Failed => format!("{} failed", undertaking(operation)),
    }
}

fn done(operation: &Operation) -> String {
    let (adds, removes) = (operation.adds.len(), operation.removes.len());
    match &operation.spec {
        OperationSpec::Scale { service, instances: wanted } => {
            let total: usize = wanted.values().map(|count| *count as usize).sum();
            match (adds, removes) {
                (_, 0) if adds == total && adds > 0 => format!("{service} is up with {}", instances(total)),
                (1.., 0) => format!("{service} grew by {adds} to {}", instances(total)),
                (0, 1..) if total == 0 => format!("{service} is gone: {} drained and stopped", instances(removes)),
                (0, 1..) => format!("{service} shrank by {removes} to {}", instances(total)),
                _ => format!("{service} has its {}", instances(total)),
            }
        }
        OperationSpec::Rollout { service, .. } => format!("{service} runs its new package and config"),
        OperationSpec::Drain { host } => format!("{host} is empty: {} moved", instances(removes)),
        OperationSpec::Stress { service, .. } => format!("{service} has been measured"),
    }
}

fn undertaking(operation: &Operation) -> String {
    match &operation.spec {
        OperationSpec::Scale { service, .. } => format!("Scaling {service}"),
        OperationSpec::Rollout { service, .. } => format!("Rolling {service} out"),
        OperationSpec::Drain { host } => format!("Draining {host}"),
        OperationSpec::Stress { service, .. } => format!("Measuring {service}"),
    }
}

/// The line over the headline.
pub fn identity(operation: &Operation) -> String {
    format!("{}: {}", operation.id, purpose(&operation.spec))
}

/// The paragraph under the headline.
pub fn lead(page: &Page) -> String {
    let operation = &page.operation;
    let mut text = format!(
        "{} asked for it at {}; it took {}",
        operation.who,
        utc(operation.created_at),
        time(ended_at(page).saturating_sub(operation.created_at))
    );
    if operation.batches > 1 {
        text.push_str(&format!(", in {} batches", operation.batches));
    }
    text.push('.');
    match operation.failures.first() {
        Some(first) => text.push_str(&format!(" The reason: {first}.")),
        None => text.push_str(&judged(operation)),
    }
    text.push_str(&erring(operation));
    // While it is taken back, what is wanted is in between.
    if page.wanted > 0 && !Outcome::of(operation).is_undone() {
        text.push_str(&match page.healthy >= page.wanted {
            true => format!(" All {} wanted instances are healthy.", page.wanted),
            false => format!(" {} of {} wanted instances are healthy.", page.healthy, page.wanted),
        });
    }
    text
}

/// What a gate that only compares lets pass: new and running instances failing alike.
fn erring(operation: &Operation) -> String {
    let Some(last) = operation.verdicts.last() else { return String::new() };
    let running = if last.requests_running > 0 { last.error_rate_running } else { 0.0 };
    if running < ERRORS_MANY {
        return String::new();
    }
    format!(
        " Look at the service itself: {:.1}% of the requests to its running instances failed meanwhile.",
        running * 100.0
    )
}

/// How the gray release went, when all stages were promoted.
fn judged(operation: &Operation) -> String {
    let passed = operation.verdicts.iter().filter(|at| at.outcome == GateOutcome::Passed).count();
    let unjudged = operation.verdicts.len() - passed;
    let stages = |count: usize| if count == 1 { "1 gray stage".to_owned() } else { format!("{count} gray stages") };
    match (passed, unjudged) {
        (0, 0) => String::new(),
        (_, 0) => format!(" {} passed, compared with the running fleet.", stages(passed)),
        (0, _) => " Traffic was too little, or nothing ran yet, to compare with: promoted on health alone.".to_owned(),
        _ => format!(
            " {} passed, compared with the running fleet; {unjudged} had too little traffic and went by health alone.",
            stages(passed)
        ),
    }
}

/// A time span: `35 ms`, `16.5 s`, `2 min 05 s`.
pub fn time(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        _ => format!("{} min {:02} s", ms / 60_000, ms / 1_000 % 60),
    }
}

/// A time in UTC, `2026-02-16 20:00:00 UTC` (days to a date: Howard Hinnant's `civil_from_days`).
pub fn utc(at: UnixMs) -> String {
    let (days, rest) = ((at / 86_400_000) as i64, at / 1_000 % 86_400);
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_shifted + 2) / 5 + 1;
    let month = if month_shifted < 10 { month_shifted + 3 } else { month_shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC", rest / 3_600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right() {
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(951_782_400_000), "2000-02-29 00:00:00 UTC");
        assert_eq!(utc(1_771_271_999_000), "2026-02-16 19:59:59 UTC");
    }

    #[test]
    fn time_spans_read_well() {
        assert_eq!([time(35), time(16_540), time(125_000)], ["35 ms", "16.5 s", "2 min 05 s"]);
    }
}
