//! The shared series as a source of PromQL, and as what remote write reads back from.

use metrics::{Op, SeriesPoints, Store};
use promql::{Labels, Matcher, NAME, Refused, Sample, Source, Test, Visit};
use std::sync::Arc;

/// The server's series.
#[derive(Debug, Clone)]
pub struct Stored(pub Arc<Store>);

fn condition(matcher: &Matcher) -> metrics::Matcher {
    let (op, value) = match &matcher.test {
        Test::Is(value) => (Op::Equal, value),
        Test::IsNot(value) => (Op::NotEqual, value),
        Test::Like(pattern) => (Op::Regex, &pattern.text),
        Test::Unlike(pattern) => (Op::NotRegex, &pattern.text),
    };
    metrics::Matcher::new(&matcher.name, op, value)
}

/// Conditions in the store's form.
pub fn conditions(matchers: &[Matcher]) -> Vec<metrics::Matcher> {
    matchers.iter().map(condition).collect()
}

fn labels(series: &SeriesPoints) -> Labels {
    let named = |(name, value): (&String, &String)| (Arc::from(name.as_str()), Arc::from(value.as_str()));
    Labels::new(series.labels.iter().map(named).chain([(NAME.into(), series.name.as_str().into())]))
}

fn time(ms: i64) -> u64 {
    u64::try_from(ms).unwrap_or(0)
}

impl Stored {
    fn selected(&self, matchers: &[Matcher], from: i64, to: i64) -> Result<Vec<SeriesPoints>, String> {
        // Nothing lies before 1970; a range that ends there is empty.
        if to < 0 {
            return Ok(Vec::new());
        }
        self.0.select(&conditions(matchers), time(from), time(to)).map_err(|error| error.to_string())
    }

    /// Label sets of series with a sample in the range.
    pub fn label_sets(&self, matchers: &[Matcher], from: i64, to: i64) -> Result<Vec<Labels>, String> {
        Ok(self.selected(matchers, from, to)?.iter().map(labels).collect())
    }
}

fn samples(series: SeriesPoints) -> Vec<Sample> {
    series.points.into_iter().map(|(at, value)| (i64::try_from(at).unwrap_or(i64::MAX), value)).collect()
}

impl Source for Stored {
    fn select(&self, matchers: &[Matcher], from: i64, to: i64, visit: Visit<'_>) -> Result<(), Refused> {
        for series in self.selected(matchers, from, to).map_err(Refused::Source)? {
            visit(labels(&series), &samples(series))?;
        }
        Ok(())
    }
}

impl crate::remote_write::Back for Stored {
    async fn read(&self, from: i64, to: i64) -> Result<crate::remote_write::Batch, String> {
        let own = self.clone();
        let read = move || {
            let found = own.selected(&[], from, to)?;
            Ok(found.into_iter().map(|series| (labels(&series), samples(series))).collect())
        };
        tokio::task::spawn_blocking(read).await.map_err(|error| error.to_string())?
    }
}
