//! `histogram_quantile` over classic histograms: buckets by their label `le`.

use super::{ABSENT, Evaluator, Grid, Row, is_absent};
use crate::ast::Expr;
use crate::error::{Error, Span};
use crate::labels::Labels;
use std::collections::BTreeMap;

/// Upper bound and cumulative count.
type Bucket = (f64, f64);

impl Evaluator<'_> {
    pub(super) fn histogram_quantile(&self, span: Span, arguments: &[Expr], grid: Grid) -> Result<Vec<Row>, Error> {
        let share = self.scalar(&arguments[0], grid)?;
        let mut histograms: BTreeMap<Labels, Vec<(f64, Vec<f64>)>> = BTreeMap::new();
        for row in self.vector(&arguments[1], grid)? {
            let Some(bound) = bound(row.labels.get("le")) else { continue };
            let key = row.labels.without(&["le".to_owned()]);
            histograms.entry(key).or_default().push((bound, row.values));
        }
        self.spend_values(histograms.len() * grid.count, span)?;
        let mut buckets = Vec::new();
        let one = |(labels, rows): (Labels, Vec<(f64, Vec<f64>)>)| {
            let at = |(at, share): (usize, &f64)| {
                let present = rows.iter().filter(|(_, values)| !is_absent(values[at]));
                buckets.clear();
                buckets.extend(present.map(|(bound, values)| (*bound, values[at])));
                if buckets.is_empty() { ABSENT } else { quantile(*share, &mut buckets) }
            };
            let values = share.iter().enumerate().map(at).collect();
            Row { labels, values }
        };
        Ok(histograms.into_iter().map(one).collect())
    }
}

fn bound(text: &str) -> Option<f64> {
    match text {
        "" => None,
        "+Inf" | "Inf" | "inf" | "+inf" => Some(f64::INFINITY),
        _ => text.parse().ok(),
    }
}

fn quantile(share: f64, buckets: &mut Vec<Bucket>) -> f64 {
    if share.is_nan() {
        return f64::NAN;
    }
    if share < 0.0 {
        return f64::NEG_INFINITY;
    }
    if share > 1.0 {
        return f64::INFINITY;
    }
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    if buckets.last().is_none_or(|last| last.0 != f64::INFINITY) {
        return f64::NAN;
    }
    // Buckets of one bound add up; a count below the one before it is a race of scrapes.
    buckets.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        kept.1 += if same { next.1 } else { 0.0 };
        same
    });
    let mut most = f64::NEG_INFINITY;
    for bucket in buckets.iter_mut() {
        most = if bucket.1 > most { bucket.1 } else { most };
        bucket.1 = if bucket.1 < most { most } else { bucket.1 };
    }
    let last = buckets.len() - 1;
    let all = buckets[last].1;
    if last == 0 || all == 0.0 || all.is_nan() {
        return f64::NAN;
    }
    let mut rank = share * all;
    let at = buckets[..last].partition_point(|bucket| bucket.1 < rank);
    if at == last {
        return buckets[last - 1].0;
    }
    let (end, mut count) = buckets[at];
    if at == 0 && end <= 0.0 {
        return end;
    }
    let mut start = 0.0;
    if at > 0 {
        let (before, below) = buckets[at - 1];
        start = before;
        count -= below;
        rank -= below;
    }
    start + (end - start) * (rank / count)
}
