//! The metrics that Springtide itself describes: their names, kinds and meanings, and the newest value of each series.
//!
//! Points go on into the shared [`Store`], which keeps and reads them; the newest are kept here for the exposition.
//! What happens at a bound: a new series beyond [`Limits::series_max`] is refused, those that exist live on, and the
//! refusal is counted (`springtide_points_refused_total`). A series nobody wrote to for [`Limits::idle_ms_max`] is
//! forgotten, so that instances that went make room for new ones.

mod rows;
#[cfg(test)]
mod tests;

pub use crate::store::Refused;
pub use rows::RowId;

use crate::store::{Matcher, Op, Store};
use model::{LatencyHistogram, UnixMs};
use rows::{MetricId, Newest, Row, Rows, borrowed};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Points that one series gives for one range at most; a finer step is widened until they suffice.
pub const RANGE_POINTS_MAX: u64 = 11_000;
/// Bytes of one label's value at most.
pub const LABEL_BYTES_MAX: usize = 256;
/// Labels of one series at most.
pub const LABELS_MAX: usize = 8;
/// Upper bounds of exposed latency buckets, in microseconds; one without bound follows.
pub const LATENCY_BOUNDS_US: [u64; 13] = [
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000,
];

/// Time between writes of a histogram's buckets into the shared store: they are many, and the rest is pushed each second.
pub const HISTOGRAM_MS: u64 = 6_000;

/// Bounds of what is exposed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Series at the same time; a histogram counts as one. An instance has some thirty, a server 20,000 instances.
    pub series_max: usize,
    /// Time without a point after which a series is forgotten.
    pub idle_ms_max: u64,
    /// Age of the newest point beyond which a series is not exposed any more.
    pub stale_ms_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { series_max: 800_000, idle_ms_max: 900_000, stale_ms_max: 15_000 }
    }
}

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows; its name ends in `_total`.
    Counter,
    /// It goes up and down.
    Gauge,
    /// A distribution of latencies; its name ends in `_seconds`.
    Histogram,
}

/// A metric's name and meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Description {
    /// Name, with the unit (and `_total` for counters) last.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Unit, as in the name: `seconds`, `bytes`, `requests`, `ratio`…
    pub unit: &'static str,
    /// One sentence.
    pub help: &'static str,
}

/// Which series: those of one name whose labels have these values; other labels may have any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector {
    /// Name of the metric.
    pub name: String,
    /// Label and value.
    pub labels: BTreeMap<String, String>,
}

impl Selector {
    /// All series of a metric.
    pub fn of(name: &str) -> Self {
        Self { name: name.to_owned(), labels: BTreeMap::new() }
    }

    /// Only those with this label.
    #[must_use]
    pub fn with(mut self, label: &str, value: &str) -> Self {
        self.labels.insert(label.to_owned(), value.to_owned());
        self
    }
}

/// A series and some of its points.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesPoints {
    /// Name of the metric.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Time and value, in order of time.
    pub points: Vec<(UnixMs, f64)>,
}

/// Labels in order of their names, texts shared between series.
pub(crate) type Labels = Vec<(Arc<str>, Arc<str>)>;

/// Newest state of a histogram.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Buckets {
    pub(crate) time_ms: UnixMs,
    /// Counts up to each bound of [`LATENCY_BOUNDS_US`].
    pub(crate) up_to: [u64; LATENCY_BOUNDS_US.len()],
    pub(crate) count: u64,
    pub(crate) sum_us: u64,
    /// When its buckets were last written to the shared store.
    stored_ms: UnixMs,
}

/// Fresh series of one metric, by their labels.
#[derive(Debug)]
pub(crate) struct Family<'a> {
    pub(crate) description: &'a Description,
    pub(crate) series: Vec<(&'a Labels, f64)>,
    pub(crate) histograms: Vec<(&'a Labels, &'a Buckets)>,
}

/// The described metrics, over a shared store. See the module for its bounds.
#[derive(Debug)]
pub struct SeriesStore {
    store: Arc<Store>,
    limits: Limits,
    descriptions: Vec<Description>,
    numbers: HashMap<&'static str, MetricId>,
    rows: Rows,
    series: usize,
}

/// Source of the series that are described: their number is bounded here.
const OWN: &str = "";

fn label_name_is_good(name: &str) -> bool {
    let bytes = name.as_bytes();
    let good = |c: &u8| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == b'_';
    bytes.first().is_some_and(u8::is_ascii_lowercase) && bytes.iter().all(good) && name != "le"
}

fn owned(labels: &Labels) -> BTreeMap<String, String> {
    labels.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

fn matches(labels: &Labels, selector: &Selector) -> bool {
    selector.labels.iter().all(|(name, value)| labels.iter().any(|(n, v)| **n == **name && **v == **value))
}

impl SeriesStore {
    /// Nothing described yet, over a store of its own in memory.
    pub fn new(limits: Limits) -> Self {
        Self::over(Arc::new(Store::in_memory(crate::store::Limits::default())), limits)
    }

    /// Nothing described yet, over a shared store.
    pub fn over(store: Arc<Store>, limits: Limits) -> Self {
        Self { store, limits, descriptions: Vec::new(), numbers: HashMap::new(), rows: Rows::default(), series: 0 }
    }

    /// Makes a metric known. Describing it again changes nothing.
    ///
    /// # Panics
    /// When the name does not follow from kind and unit: that is a mistake in the program, not in data.
    pub fn describe(&mut self, description: Description) {
        let base = match description.kind {
            Kind::Counter => description.name.strip_suffix("_total"),
            Kind::Gauge => Some(description.name).filter(|name| !name.ends_with("_total")),
            Kind::Histogram => Some(description.name).filter(|_| description.unit == "seconds"),
        };
        let good = base.is_some_and(|name| label_name_is_good(name) && name.ends_with(description.unit));
        assert!(good, "{} is not a name for a {:?} in {}", description.name, description.kind, description.unit);
        if !self.numbers.contains_key(description.name) {
            let number = self.descriptions.len().try_into().expect("metrics are some hundreds");
            self.numbers.insert(description.name, number);
            self.descriptions.push(description);
        }
    }

    /// The store that keeps the points.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// The row of labels: what the series of one thing have in common. Good until [`SeriesStore::forget_idle`].
    pub fn row(&mut self, labels: &[(&str, &str)]) -> Result<RowId, Refused> {
        let full = self.series >= self.limits.series_max;
        self.rows.find(labels, full).map_err(|why| self.refuse(why))
    }

    /// Adds a point to the series of these labels.
    pub fn push(&mut self, name: &str, labels: &[(&str, &str)], time_ms: UnixMs, value: f64) -> Result<(), Refused> {
        let row = self.row(labels)?;
        self.push_to(row, name, time_ms, value)
    }

    /// Adds a point to a row's series.
    pub fn push_to(&mut self, row: RowId, name: &str, time_ms: UnixMs, value: f64) -> Result<(), Refused> {
        let at = self.set_newest(row, name, time_ms, value).map_err(|why| self.refuse(why))?;
        let Row { labels, series, .. } = self.rows.row(row);
        self.store.append_own(&mut series[at].key, name, borrowed(labels), time_ms, value)
    }

    /// Sets the newest state of a row's histogram of latencies: counts from its beginning, and their sum.
    pub fn set_histogram(
        &mut self,
        row: RowId,
        name: &str,
        time_ms: UnixMs,
        latency: &LatencyHistogram,
        sum_us: u64,
    ) -> Result<(), Refused> {
        let due = self.set_buckets(row, name, time_ms, latency, sum_us).map_err(|why| self.refuse(why))?;
        let Some(buckets) = due else { return Ok(()) };
        let labels: Vec<(&str, &str)> = borrowed(&self.rows.row(row).labels).collect();
        keep(&self.store, name, &labels, &buckets)
    }

    /// Counts what was refused before it reached the shared store, which counts its own.
    fn refuse(&self, why: Refused) -> Refused {
        self.store.counts.add(why, 1);
        why
    }

    fn number(&self, name: &str, is_histogram: bool) -> Result<MetricId, Refused> {
        let number = self.numbers.get(name).ok_or(Refused::Undescribed)?;
        let kind = self.descriptions[usize::from(*number)].kind;
        if (kind == Kind::Histogram) == is_histogram { Ok(*number) } else { Err(Refused::Undescribed) }
    }

    /// Gives where in its row the series stands.
    fn set_newest(&mut self, row: RowId, name: &str, time_ms: UnixMs, value: f64) -> Result<usize, Refused> {
        if !value.is_finite() {
            return Err(Refused::NotFinite);
        }
        let metric = self.number(name, false)?;
        let series = &mut self.rows.row(row).series;
        if let Some(at) = series.iter().position(|newest| newest.metric == metric) {
            let newest = &mut series[at];
            if newest.time_ms > time_ms {
                return Err(Refused::OutOfOrder);
            }
            (newest.time_ms, newest.value) = (time_ms, value);
            return Ok(at);
        }
        if self.series >= self.limits.series_max {
            return Err(Refused::TooManySeries);
        }
        self.series += 1;
        series.push(Newest { metric, time_ms, value, key: None });
        Ok(series.len() - 1)
    }

    /// Gives the buckets when it is time to keep them.
    fn set_buckets(
        &mut self,
        row: RowId,
        name: &str,
        time_ms: UnixMs,
        latency: &LatencyHistogram,
        sum_us: u64,
    ) -> Result<Option<Buckets>, Refused> {
        let metric = self.number(name, true)?;
        let mut buckets = coarse(time_ms, latency, sum_us);
        let histograms = &mut self.rows.row(row).histograms;
        let known = histograms.iter().position(|(number, _)| *number == metric);
        match known.map(|at| &histograms[at].1) {
            Some(newest) if newest.time_ms > time_ms => return Err(Refused::OutOfOrder),
            Some(newest) => buckets.stored_ms = newest.stored_ms,
            None if self.series >= self.limits.series_max => return Err(Refused::TooManySeries),
            None => self.series += 1,
        }
        let due = time_ms.saturating_sub(buckets.stored_ms) >= HISTOGRAM_MS;
        if due {
            buckets.stored_ms = time_ms;
        }
        match known {
            Some(at) => histograms[at].1 = buckets.clone(),
            None => histograms.push((metric, buckets.clone())),
        }
        Ok(due.then_some(buckets))
    }

    /// Points of the shared store, see [`Store::range`].
    pub fn range(&self, selector: &Selector, from: UnixMs, to: UnixMs, step_ms: u64) -> Vec<SeriesPoints> {
        self.store.range(selector, from, to, step_ms).unwrap_or_default()
    }

    /// The newest point of each series.
    pub fn latest(&self, selector: &Selector) -> Vec<SeriesPoints> {
        let Ok(metric) = self.number(&selector.name, false) else { return Vec::new() };
        let rows = self.rows.sorted().into_iter().filter(|row| matches(&row.labels, selector));
        let taken = rows.filter_map(|row| {
            let newest = row.series.iter().find(|newest| newest.metric == metric)?;
            let points = vec![(newest.time_ms, newest.value)];
            Some(SeriesPoints { name: selector.name.clone(), labels: owned(&row.labels), points })
        });
        taken.collect()
    }

    /// Names, kinds, units and meanings of all metrics.
    pub fn descriptions(&self) -> impl Iterator<Item = &Description> {
        self.by_name().into_iter().map(|metric| &self.descriptions[usize::from(metric)])
    }

    /// How many series there are.
    pub fn len(&self) -> usize {
        self.series
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.series == 0
    }

    /// Forgets series that nobody wrote to for long. Call it every few seconds.
    pub fn forget_idle(&mut self, now: UnixMs) {
        self.series = self.rows.forget(now.saturating_sub(self.limits.idle_ms_max));
    }

    /// Numbers of the metrics, by name.
    fn by_name(&self) -> Vec<MetricId> {
        let mut metrics: Vec<MetricId> = self.numbers.values().copied().collect();
        metrics.sort_unstable_by_key(|metric| self.descriptions[usize::from(*metric)].name);
        metrics
    }

    /// All metrics by name, with their series written since `oldest`.
    fn families(&self, oldest: UnixMs) -> Vec<Family<'_>> {
        let family = |description| Family { description, series: Vec::new(), histograms: Vec::new() };
        let mut families: Vec<Family<'_>> = self.descriptions.iter().map(family).collect();
        for row in self.rows.sorted() {
            for newest in row.series.iter().filter(|newest| newest.time_ms >= oldest) {
                families[usize::from(newest.metric)].series.push((&row.labels, newest.value));
            }
            for (metric, newest) in row.histograms.iter().filter(|(_, newest)| newest.time_ms >= oldest) {
                families[usize::from(*metric)].histograms.push((&row.labels, newest));
            }
        }
        families.sort_unstable_by_key(|family| family.description.name);
        families
    }

    /// Writes how the store is into the store, so that it can be asked over time.
    pub fn push_about(&self, now: UnixMs) {
        // What is refused here is counted, as everywhere.
        for (name, _, _, value) in self.store.about() {
            let _ = self.store.append(OWN, name, &[], now, value as f64, now);
        }
        for (reason, count) in self.store.refused() {
            let labels = [("reason", reason)];
            let _ = self.store.append(OWN, "springtide_points_refused_total", &labels, now, count as f64, now);
        }
    }

    /// Everything written lately, in the Prometheus text format.
    pub fn exposition(&self, now: UnixMs) -> String {
        let oldest = now.saturating_sub(self.limits.stale_ms_max);
        crate::exposition::write(&self.families(oldest), &self.store)
    }
}

/// Counts up to each bound; a bucket that a bound cuts goes where its middle lies (at most 1.6% off).
fn coarse(time_ms: UnixMs, latency: &LatencyHistogram, sum_us: u64) -> Buckets {
    let mut buckets =
        Buckets { time_ms, up_to: [0; LATENCY_BOUNDS_US.len()], count: latency.total(), sum_us, stored_ms: 0 };
    for (bucket, count) in latency.buckets() {
        let middle = model::histogram::bucket_middle_us(bucket);
        let first = LATENCY_BOUNDS_US.partition_point(|bound| (*bound as f64) < middle);
        buckets.up_to[first..].iter_mut().for_each(|up_to| *up_to += count);
    }
    buckets
}

/// Writes a histogram into the shared store, as Prometheus would have scraped it.
fn keep(store: &Store, name: &str, labels: &[(&str, &str)], at: &Buckets) -> Result<(), Refused> {
    let put = |name: &str, labels: &[(&str, &str)], value: f64| {
        store.append(OWN, name, labels, at.time_ms, value, at.time_ms)
    };
    let bucket = format!("{name}_bucket");
    let bounds = LATENCY_BOUNDS_US.iter().map(|bound| (*bound as f64 / 1e6).to_string());
    for (bound, up_to) in bounds.zip(at.up_to).chain([("+Inf".to_owned(), at.count)]) {
        let with_bound = [labels, &[("le", &bound)]].concat();
        put(&bucket, &with_bound, up_to as f64)?;
    }
    put(&format!("{name}_sum"), labels, at.sum_us as f64 / 1e6)?;
    put(&format!("{name}_count"), labels, at.count as f64)
}

impl Store {
    /// Points from `from` to `to` (both included). With a step, one point at each `from + n × step`: the newest of
    /// the step before it; steps without a point are left out. A step of 0 gives the points as they came. Values that
    /// are no numbers are left out.
    pub fn range(
        &self,
        selector: &Selector,
        from: UnixMs,
        to: UnixMs,
        step_ms: u64,
    ) -> Result<Vec<SeriesPoints>, crate::TooMuch> {
        let widest = to.saturating_sub(from).div_ceil(RANGE_POINTS_MAX);
        let step_ms = if step_ms == 0 { 0 } else { step_ms.max(widest) };
        let labels = selector.labels.iter().map(|(label, value)| Matcher::new(label, Op::Equal, value));
        let matchers: Vec<Matcher> = labels.chain([Matcher::name(&selector.name)]).collect();
        // The first step reaches back before `from`.
        let mut found = self.select(&matchers, (from + 1).saturating_sub(step_ms.max(1)), to)?;
        for series in &mut found {
            series.points.retain(|(_, value)| value.is_finite());
            if step_ms > 0 {
                series.points = stepped(&series.points, from, to, step_ms);
            }
        }
        found.retain(|series| !series.points.is_empty());
        Ok(found)
    }
}

fn stepped(points: &[(UnixMs, f64)], from: UnixMs, to: UnixMs, step_ms: u64) -> Vec<(UnixMs, f64)> {
    let mut out: Vec<(UnixMs, f64)> = Vec::new();
    for (time_ms, value) in points {
        let at = from + time_ms.saturating_sub(from).div_ceil(step_ms) * step_ms;
        match out.last_mut() {
            _ if at > to => break,
            Some((known, newest)) if *known == at => *newest = *value,
            _ => out.push((at, *value)),
        }
    }
    out
}
