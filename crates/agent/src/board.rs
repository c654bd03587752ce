//! The latest report of every instance, and which of them the server has not seen yet.
//!
//! Bounded by the number of instances: a report replaces the instance's earlier one. Only the last state matters.

use api::fleet::{InstanceReport, Phase};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// The board.
#[derive(Debug, Default)]
pub struct Board {
    inner: Mutex<Inner>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    reports: BTreeMap<String, InstanceReport>,
    unseen: BTreeSet<String>,
}

impl Inner {
    /// A stopped instance is told once, then forgotten.
    fn forget_stopped(&mut self) {
        self.reports.retain(|_, report| report.phase() != Phase::Stopped);
    }
}

impl Board {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts up a report.
    pub fn put(&self, report: InstanceReport) {
        let mut inner = self.inner();
        inner.unseen.insert(report.instance.clone());
        inner.reports.insert(report.instance.clone(), report);
        drop(inner);
        self.news.notify_one();
    }

    /// Everything, for a hello; nothing is unseen then.
    pub fn take_all(&self) -> Vec<InstanceReport> {
        let mut inner = self.inner();
        inner.unseen.clear();
        let all = inner.reports.values().cloned().collect();
        inner.forget_stopped();
        all
    }

    /// Waits for reports that were not taken yet.
    pub async fn take_news(&self) -> Vec<InstanceReport> {
        loop {
            {
                let mut inner = self.inner();
                let names = std::mem::take(&mut inner.unseen);
                if !names.is_empty() {
                    let news = names.iter().filter_map(|name| inner.reports.get(name).cloned()).collect();
                    inner.forget_stopped();
                    return news;
                }
            }
            self.news.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(instance: &str, phase: Phase) -> InstanceReport {
        InstanceReport { instance: instance.into(), phase: phase.into(), ..Default::default() }
    }

    #[tokio::test]
    async fn the_last_report_wins_and_the_end_is_told_once() {
        let board = Board::default();
        board.put(report("a", Phase::Starting));
        board.put(report("b", Phase::Healthy));
        board.put(report("a", Phase::Healthy));
        let news = board.take_news().await;
        assert_eq!(news, [report("a", Phase::Healthy), report("b", Phase::Healthy)]);
        board.put(report("b", Phase::Stopped));
        assert_eq!(board.take_all().len(), 2);
        assert_eq!(board.take_all(), [report("a", Phase::Healthy)]);
    }
}
