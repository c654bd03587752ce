//! Every bound of the operation engine, in one place. Tuning per service is deliberately absent: the manifest's
//! own fields (`stop`, `health_check`, hook timeouts) are the only knobs.

/// Hosts that one batch may touch: its placements, journal and counters stay within one transaction of the store.
pub(crate) const BATCH_HOSTS_MAX: usize = 96;
/// Instances that one scale may add: its journal names them all, so that it can be undone, and fits a transaction.
pub(crate) const SCALE_ADDS_MAX: u32 = 5_000;
/// Bytes of placements that one batch may write: three times this (the audit adds before and after) fits a transaction.
pub(crate) const BATCH_BYTES_MAX: usize = 450_000;
/// Bytes that one stored placement may take, for the estimate of a batch.
pub(crate) const PLACEMENT_BYTES_MAX: usize = 900;
/// Share of a service that a rollout replaces at a time: one part in this many.
pub(crate) const ROLLOUT_PARTS: u32 = 4;
/// Batches an operation may take; a bound against a world that changes under it for ever.
pub(crate) const BATCHES_MAX: u32 = 10_000;

/// Instances added, and as many removed, that the journal of a rollout or drain keeps of its earlier batches.
pub(crate) const PLANNED_KEPT_MAX: usize = 2_000;

/// Time in which an unanswered commit is taken as lost and decided again (its guards make that safe).
pub(crate) const COMMIT_WAIT_MS_MAX: u64 = 5_000;
/// First pause after a failed commit; doubles with each failure in a row.
pub(crate) const COMMIT_RETRY_MS_MIN: u64 = 50;
/// Longest pause after a failed commit.
pub(crate) const COMMIT_RETRY_MS_MAX: u64 = 5_000;

/// Time in which a plan waits for a quorum of agents.
pub(crate) const SETTLE_MS_MAX: u64 = 60_000;
/// Time in which a plan that lacks room waits for hosts whose agent has not reported yet.
pub(crate) const UNKNOWN_HOSTS_MS_MAX: u64 = 10_000;
/// Time in which package and config must reach the hosts of a batch.
pub(crate) const DEPLOY_MS_MAX: u64 = 180_000;
/// Time beyond the health check's own start time in which a batch must be healthy.
pub(crate) const START_MARGIN_MS: u64 = 30_000;
/// Start time allowed where a service has no health check.
pub(crate) const START_MS_DEFAULT: u64 = 30_000;
/// Restarts of one new instance that a start bears.
pub(crate) const START_RESTARTS_MAX: u32 = 3;
/// Time for which an instance may stand failed before the step fails (its agent retries meanwhile).
pub(crate) const FAILED_MS_MAX: u64 = 3_000;
/// Time for which a host may be lost in the middle of a step before the step fails.
pub(crate) const HOST_LOST_MS_MAX: u64 = 10_000;
/// Time beyond a service's own grace in which a removed instance must be reported gone.
pub(crate) const STOP_MARGIN_MS: u64 = 30_000;
/// Time for which a drain waits for proxies that do not confirm that an instance is to leave, and a first release for
/// those that do not confirm that it is there.
pub(crate) const PROXIES_MS_MAX: u64 = 15_000;
/// Life of the silence over new instances.
pub(crate) const SILENCE_MS: u64 = 900_000;

/// Stages of a gray release, in thousandths of full weight.
pub(crate) const GRAY_STAGES_PERMILLE: [u32; 3] = [10, 100, 1_000];
/// Shortest gray stage: weights need a moment to reach the proxies.
pub(crate) const GRAY_STAGE_MS_MIN: u64 = 1_000;
/// Time without enough requests after which a stage is promoted on health alone.
pub(crate) const GATE_WAIT_MS_MAX: u64 = 10_000;
/// The same where not one request came, to new instances or others: nobody is there to wait for.
pub(crate) const GATE_IDLE_MS_MAX: u64 = 3_000;
/// Requests to new instances that a judgement needs.
pub(crate) const GATE_REQUESTS_MIN: u64 = 100;

/// Time after which a report or curve that was not acknowledged is asked for again.
pub(crate) const RECORD_RETRY_MS: u64 = 5_000;
/// Time after which an operation ends without its report.
pub(crate) const RECORD_MS_MAX: u64 = 30_000;
/// Time beyond its own timeout after which an unanswered hook is asked for again.
pub(crate) const HOOK_MARGIN_MS: u64 = 5_000;
/// Times an unanswered hook is asked for.
pub(crate) const HOOK_ASKS_MAX: u32 = 3;

/// Life of a stress test's override: it lapses within 5 s of any death.
pub(crate) const OVERRIDE_LIFE_MS: u32 = 4_000;
/// Time between renewals of the override.
pub(crate) const OVERRIDE_RENEW_MS: u64 = 1_000;
/// Longest time between two looks at a stress test that counts as one in which readings were listened for.
pub(crate) const STRESS_LOOK_MS_MAX: u64 = 500;
/// Time without a reading after which a stress test ends.
pub(crate) const STRESS_SILENT_MS_MAX: u64 = 3_000;
/// Time beyond its own duration after which a stress test is cut off.
pub(crate) const STRESS_MARGIN_MS: u64 = 5_000;
/// Highest override weight (full share of one instance = 1000).
pub(crate) const OVERRIDE_WEIGHT_MAX: u32 = 1_000_000;
/// Longest stress test that may be asked for.
pub(crate) const STRESS_MS_MAX: u32 = 600_000;
/// Shortest stress test that can find anything.
pub(crate) const STRESS_MS_MIN: u32 = 1_000;

/// Finished operations kept in the store; older ones live on as records.
pub(crate) const FINISHED_KEPT_MAX: usize = 200;
/// Keys that one housekeeping commit deletes, or operations that one reconciler commit opens.
pub(crate) const HOUSEKEEPING_KEYS_MAX: usize = 40;
/// Time between rounds of housekeeping.
pub(crate) const HOUSEKEEPING_MS: u64 = 1_000;
/// First pause of the reconciler after its operation failed; doubles with each failure of the same intent.
pub(crate) const RECONCILE_RETRY_MS_MIN: u64 = 30_000;
/// Longest pause of the reconciler.
pub(crate) const RECONCILE_RETRY_MS_MAX: u64 = 1_800_000;

/// Targets of a step that are named to operators.
pub(crate) const TARGETS_NAMED_MAX: usize = 50;
/// Failures kept in one operation.
pub(crate) const FAILURES_MAX: usize = 50;
/// First pause of the reconciler after its operation was judged bad, or an operator rolled it back.
pub(crate) const RECONCILE_REFUSED_MS_MIN: u64 = 600_000;
/// Time after which the reconciler looks again at a service that another operation works on.
pub(crate) const BUSY_MS: u64 = 1_000;
