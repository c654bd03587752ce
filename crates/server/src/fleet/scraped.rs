//! Instances' own numbers on their way in: names as an agent told them in this stream, values as they come.
//!
//! One dictionary for each stream, dropped with it. The agent's bounds are not trusted: these hold whatever comes.

use crate::clock::now_ms;
use api::fleet::Scraped;
use metrics::Store;
use model::HostName;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Takes a point: name, labels, value.
type Points<'a> = &'a mut dyn FnMut(&str, &[(&str, &str)], f64);

/// Series that one instance may have.
const SERIES_MAX: usize = 10_000;
/// Series that one stream may have.
const SERIES_STREAM_MAX: usize = 200_000;
/// Labels that say where a series is from; a label of that name in the text is renamed.
const OURS: [&str; 4] = ["datacenter", "host", "instance", "service"];
/// What is put before the name of such a label.
const EXPORTED: &str = "exported_";
/// A series ended here, as Prometheus marks it.
const STALE: f64 = f64::from_bits(metrics::store::STALE);
/// Time without a stream after which a host's instances tell nothing any more: longer than a restart takes.
const LOST: Duration = Duration::from_secs(10);

/// Where readings go, and which stream of a host is the newest.
#[derive(Debug, Clone)]
pub struct Readings {
    series: Arc<Store>,
    newest: Arc<Mutex<HashMap<HostName, u64>>>,
}

impl Readings {
    /// Into this store.
    pub fn new(series: Arc<Store>) -> Self {
        Self { series, newest: Arc::default() }
    }

    /// A stream of a host begins.
    pub fn begin(&self, host: HostName, datacenter: String, epoch: u64) -> Told {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).insert(host.clone(), epoch);
        let place = Place { host: host.to_string(), datacenter };
        Told { readings: self.clone(), host, epoch, place, dictionary: Dictionary::default() }
    }
}

/// One stream.
#[derive(Debug)]
pub struct Told {
    readings: Readings,
    host: HostName,
    epoch: u64,
    place: Place,
    dictionary: Dictionary,
}

impl Told {
    /// Takes a reading in.
    pub fn take(&mut self, reading: &Scraped) {
        let (series, now) = (&self.readings.series, now_ms());
        let mut put = |name: &str, labels: &[(&str, &str)], value: f64| {
            // The store counts what it refuses, and its exposition shows the counts.
            let _ = series.append(&reading.instance, name, labels, reading.time_unix_ms, value, now);
        };
        self.dictionary.take(&self.place, reading, &mut put);
    }

    /// The stream has ended. When the host does not come back, its instances' series end too.
    pub fn ended(self) {
        let Self { readings: Readings { series, newest }, host, epoch, place, dictionary } = self;
        // A server that stops meanwhile lets go of its store at once.
        let series = Arc::downgrade(&series);
        tokio::spawn(async move {
            tokio::time::sleep(LOST).await;
            let Some(series) = series.upgrade().filter(|_| is_last(&newest, &host, epoch)) else { return };
            let now = now_ms();
            let mut put = |name: &str, labels: &[(&str, &str)], value: f64| {
                let _ = series.append("", name, labels, now, value, now);
            };
            dictionary.end(&place, &mut put);
        });
    }
}

/// Whether no newer stream of the host has begun; forgets the host if so.
fn is_last(newest: &Mutex<HashMap<HostName, u64>>, host: &HostName, epoch: u64) -> bool {
    let mut newest = newest.lock().unwrap_or_else(PoisonError::into_inner);
    let is_last = newest.get(host) == Some(&epoch);
    if is_last {
        newest.remove(host);
    }
    is_last
}

/// Where an agent stands.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    host: String,
    datacenter: String,
}

/// A name and labels as told.
#[derive(Debug, Default)]
struct Series {
    name: String,
    labels: Vec<(String, String)>,
}

/// What one instance has told.
#[derive(Debug, Default)]
struct Instance {
    service: String,
    /// By id.
    series: Vec<Option<Series>>,
}

/// What one stream has told.
#[derive(Debug, Default)]
struct Dictionary {
    instances: HashMap<String, Instance>,
    series: usize,
}

/// Takes a point of a series: name, labels, value.
trait Sink: FnMut(&str, &[(&str, &str)], f64) {}
impl<F: FnMut(&str, &[(&str, &str)], f64)> Sink for F {}

impl Dictionary {
    /// Takes a reading in; its points go to `sink`, all of the reading's time.
    fn take(&mut self, place: &Place, reading: &Scraped, sink: &mut impl Sink) {
        let Self { instances, series } = self;
        let told = instances.entry(reading.instance.clone()).or_default();
        told.service.clone_from(&reading.service);
        let known = &mut told.series;
        let about = |value: &Scraped| -> [(&'static str, f64); 6] {
            [
                ("up", f64::from(u8::from(value.error.is_empty()))),
                ("scrape_duration_seconds", f64::from(value.duration_us) / 1e6),
                ("scrape_samples_scraped", f64::from(value.exposed)),
                ("scrape_samples_cut", f64::from(value.cut)),
                ("scrape_samples_not_finite", f64::from(value.not_finite)),
                ("scrape_answer_bytes", value.answer_bytes as f64),
            ]
        };
        let own = [
            ("datacenter", place.datacenter.as_str()),
            ("host", place.host.as_str()),
            ("instance", reading.instance.as_str()),
            ("service", reading.service.as_str()),
        ];
        let with_own = |of: &Series, value: f64, sink: Points<'_>| {
            let mut labels = Vec::with_capacity(own.len() + of.labels.len());
            labels.extend_from_slice(&own);
            labels.extend(of.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())));
            sink(&of.name, &labels, value);
        };
        let all = (0..known.len() as u32).filter(|_| reading.end);
        for id in reading.gone.iter().copied().chain(all) {
            if let Some(gone) = known.get_mut(id as usize).and_then(Option::take) {
                *series -= 1;
                with_own(&gone, STALE, sink);
            }
        }
        if reading.end {
            about(reading).iter().for_each(|(name, _)| sink(name, &own, STALE));
            instances.remove(&reading.instance);
            return;
        }
        for told in &reading.series {
            let id = told.id as usize;
            if id >= SERIES_MAX || *series >= SERIES_STREAM_MAX {
                continue;
            }
            if known.len() <= id {
                known.resize_with(id + 1, || None);
            }
            *series += usize::from(known[id].is_none());
            known[id] = Some(Series { name: told.name.clone(), labels: labels(&told.label) });
        }
        let mut id = 0_u32;
        for (step, value) in reading.id.iter().zip(&reading.value) {
            id = id.saturating_add(*step);
            if let Some(Some(of)) = known.get(id as usize) {
                with_own(of, *value, sink);
            }
        }
        about(reading).iter().for_each(|(name, value)| sink(name, &own, *value));
    }

    /// The host is lost: what its instances told is not known to be so any more.
    fn end(mut self, place: &Place, sink: &mut impl Sink) {
        let all = self.instances.iter().map(|(instance, told)| (instance.clone(), told.service.clone()));
        for (instance, service) in all.collect::<Vec<_>>() {
            self.take(place, &Scraped { instance, service, end: true, ..Scraped::default() }, sink);
        }
    }
}

/// Pairs of name and value; names of ours are renamed.
fn labels(told: &[String]) -> Vec<(String, String)> {
    let pairs = told.chunks_exact(2).map(|pair| (pair[0].as_str(), pair[1].clone()));
    let renamed = |name: &str| if OURS.contains(&name) { format!("{EXPORTED}{name}") } else { name.to_owned() };
    pairs.map(|(name, value)| (renamed(name), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::fleet::ScrapedSeries;
    use std::collections::BTreeMap;

    fn place() -> Place {
        Place { host: "host-a".into(), datacenter: "north".into() }
    }

    fn series(id: u32, name: &str, label: &[&str]) -> ScrapedSeries {
        ScrapedSeries { id, name: name.into(), label: label.iter().map(|text| (*text).to_owned()).collect() }
    }

    fn reading(series: Vec<ScrapedSeries>, id: &[u32], value: &[f64]) -> Scraped {
        let (id, value) = (id.to_vec(), value.to_vec());
        Scraped { instance: "lottery-1".into(), service: "lottery".into(), series, id, value, ..Scraped::default() }
    }

    /// Everything put in, by name and labels.
    fn taken(dictionary: &mut Dictionary, reading: &Scraped) -> BTreeMap<String, f64> {
        let mut all = BTreeMap::new();
        let mut sink = |name: &str, labels: &[(&str, &str)], value: f64| {
            let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            all.insert(format!("{name}{{{}}}", labels.join(",")), value);
        };
        dictionary.take(&place(), reading, &mut sink);
        all
    }

    const OWN: &str = "datacenter=north,host=host-a,instance=lottery-1,service=lottery";

    #[test]
    fn names_are_remembered_and_labels_of_ours_win() {
        let mut dictionary = Dictionary::default();
        let told = vec![series(0, "draws_total", &["code", "200", "instance", "x"]), series(3, "depth", &[])];
        let first = taken(&mut dictionary, &reading(told, &[0, 3], &[5.0, 7.0]));
        assert_eq!(first[&format!("draws_total{{{OWN},code=200,exported_instance=x}}")], 5.0);
        assert_eq!((first[&format!("depth{{{OWN}}}")], first[&format!("up{{{OWN}}}")]), (7.0, 1.0));
        let second = taken(&mut dictionary, &reading(Vec::new(), &[0, 3, 9], &[6.0, 8.0, 1.0]));
        assert_eq!(second[&format!("depth{{{OWN}}}")], 8.0);
        assert_eq!(second.len(), 2 + 6, "what was never named is not taken: {second:?}");
    }

    #[test]
    fn what_goes_is_marked_and_its_id_is_free() {
        let mut dictionary = Dictionary::default();
        taken(&mut dictionary, &reading(vec![series(0, "a", &[]), series(1, "b", &[])], &[0, 1], &[1.0, 2.0]));
        let mut next = reading(vec![series(1, "c", &[])], &[0, 1], &[1.0, 3.0]);
        next.gone = vec![1];
        let all = taken(&mut dictionary, &next);
        assert!(all[&format!("b{{{OWN}}}")].is_nan());
        assert_eq!(all[&format!("c{{{OWN}}}")], 3.0);
        let mut down = reading(Vec::new(), &[], &[]);
        (down.gone, down.error) = (vec![0, 1], "connection refused".into());
        let all = taken(&mut dictionary, &down);
        assert!(all[&format!("a{{{OWN}}}")].is_nan());
        assert_eq!((all[&format!("up{{{OWN}}}")], dictionary.series), (0.0, 0));
    }

    #[test]
    fn the_last_word_and_a_lost_host_end_every_series() {
        let mut dictionary = Dictionary::default();
        taken(&mut dictionary, &reading(vec![series(0, "a", &[])], &[0], &[1.0]));
        let all = taken(&mut dictionary, &Scraped { end: true, ..reading(Vec::new(), &[], &[]) });
        assert!(all.values().all(|value| value.to_bits() == metrics::store::STALE) && all.len() == 7, "{all:?}");
        assert!(dictionary.instances.is_empty());
        taken(&mut dictionary, &reading(vec![series(0, "a", &[])], &[0], &[1.0]));
        let mut ended = 0;
        let mut sink = |_: &str, _: &[(&str, &str)], value: f64| ended += usize::from(value.is_nan());
        dictionary.end(&place(), &mut sink);
        assert_eq!(ended, 7);
    }

    #[test]
    fn ids_and_sums_out_of_bounds_are_left_out() {
        let mut dictionary = Dictionary::default();
        let told = vec![series(u32::MAX, "a", &[]), series(1, "b", &["odd"])];
        let all = taken(&mut dictionary, &reading(told, &[1, u32::MAX], &[1.0, 2.0]));
        assert_eq!((all.len(), dictionary.series), (7, 1), "{all:?}");
    }
}
