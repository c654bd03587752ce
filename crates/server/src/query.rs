//! PromQL over the server's series: on threads of its own, few at once, each within its time.

mod source;

pub use source::Stored;

use promql::{Answer, Labels, Lookback, Matcher, Options, Query};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// Queries evaluated at once; each may hold 160 MB of values.
const QUERIES_AT_ONCE_MAX: usize = 2;
/// Time a query waits for its turn.
const TURN_SECONDS_MAX: u64 = 15;
/// Step of subqueries that name none.
const SUBQUERY_STEP_MS: i64 = 10_000;

/// How one query is to be evaluated.
#[derive(Debug, Clone, Copy)]
pub struct Asking {
    /// How long values hold.
    pub lookback: Lookback,
    /// Time for the evaluation.
    pub time: Duration,
}

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// The query itself.
    #[error(transparent)]
    Query(#[from] promql::Error),
    /// Too many at once.
    #[error("{at_once} queries were at work for {waited_s} s: ask fewer at once, or again in a moment")]
    Busy {
        /// How many run at once.
        at_once: usize,
        /// How long this one waited.
        waited_s: u64,
    },
    /// More than one answer may hold.
    #[error("{0}")]
    TooMuch(String),
    /// The server goes down, or the evaluation broke.
    #[error("{0}")]
    Lost(String),
}

/// Where queries are evaluated. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Queries {
    series: Stored,
    turns: Arc<Semaphore>,
}

impl Queries {
    /// Over these series.
    pub fn over(series: Arc<metrics::Store>) -> Self {
        Self { series: Stored(series), turns: Arc::new(Semaphore::new(QUERIES_AT_ONCE_MAX)) }
    }

    /// Evaluates at one time.
    pub async fn instant(&self, query: Query, at: i64, asking: Asking) -> Result<Answer, Failed> {
        self.evaluate(asking, move |series, options| query.instant(series, at, options)).await?
    }

    /// Evaluates over a range: from, to and step in milliseconds.
    pub async fn range(&self, query: Query, times: (i64, i64, i64), asking: Asking) -> Result<Answer, Failed> {
        self.evaluate(asking, move |series, options| query.range(series, times, options)).await?
    }

    async fn evaluate<T: Send + 'static>(
        &self,
        asking: Asking,
        work: impl FnOnce(&Stored, &Options<'_>) -> Result<T, promql::Error> + Send + 'static,
    ) -> Result<Result<T, Failed>, Failed> {
        self.at_work(move |series| {
            let deadline = Instant::now() + asking.time;
            let stop = move || Instant::now() >= deadline;
            let lookback = asking.lookback;
            let options = Options { lookback, subquery_step_ms: SUBQUERY_STEP_MS, stop: &stop, ..Options::default() };
            work(series, &options).map_err(Failed::from)
        })
        .await
    }

    /// Runs on a thread for it, when its turn comes; a caller that goes away gives its turn back once the work is done.
    async fn at_work<T: Send + 'static>(&self, work: impl FnOnce(&Stored) -> T + Send + 'static) -> Result<T, Failed> {
        let turn = tokio::time::timeout(Duration::from_secs(TURN_SECONDS_MAX), self.turns.clone().acquire_owned());
        let turn = turn.await.map_err(|_| Failed::Busy { at_once: QUERIES_AT_ONCE_MAX, waited_s: TURN_SECONDS_MAX })?;
        let turn = turn.map_err(|error| Failed::Lost(error.to_string()))?;
        let series = self.series.clone();
        let run = move || {
            let _turn = turn;
            work(&series)
        };
        tokio::task::spawn_blocking(run).await.map_err(|error| Failed::Lost(error.to_string()))
    }

    /// Names of labels (`None`) or values of one, of series that pass any of the selectors.
    pub async fn texts(
        &self,
        values_of: Option<String>,
        selectors: Vec<Vec<Matcher>>,
        (from, to): (i64, i64),
    ) -> Result<BTreeSet<String>, Failed> {
        let (from, to) = (u64::try_from(from).unwrap_or(0), u64::try_from(to).unwrap_or(0));
        let read = move |series: &Stored| -> Result<BTreeSet<String>, Failed> {
            let mut texts = BTreeSet::new();
            for matchers in &selectors {
                let conditions = source::conditions(matchers);
                let found = match &values_of {
                    None => series.0.label_names(&conditions, from, to),
                    Some(label) => series.0.label_values(label, &conditions, from, to),
                };
                texts.extend(found.map_err(|error| Failed::TooMuch(error.to_string()))?);
            }
            Ok(texts)
        };
        self.at_work(read).await?
    }

    /// Label sets of series that pass any of the selectors, within a time; none twice, in order.
    pub async fn label_sets(
        &self,
        selectors: Vec<Vec<Matcher>>,
        (from, to): (i64, i64),
    ) -> Result<Vec<Labels>, Failed> {
        let read = move |series: &Stored| -> Result<Vec<Labels>, Failed> {
            let mut sets = BTreeSet::new();
            for matchers in &selectors {
                sets.extend(series.label_sets(matchers, from, to).map_err(Failed::TooMuch)?);
            }
            Ok(sets.into_iter().collect())
        };
        self.at_work(read).await?
    }
}
