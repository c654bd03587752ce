//! The user's own commands and webhooks around a step. Running them is the server's work; here is which, when, and what
//! an end means.

use crate::contract::{Action, HookRun};
use crate::journal;
use crate::limits::{HOOK_ASKS_MAX, HOOK_MARGIN_MS};
use crate::recall::{HookAsked, Recall};
use model::{Hook, HookMark, HookWhen, Operation, Service, StepName, UnixMs};

/// How the hooks on one side of a step stand.
#[derive(Debug, PartialEq)]
pub(crate) enum Hooks {
    /// All have ended, or there are none. Failures of those after the step are only told.
    Done(Vec<String>),
    /// One is to run or runs.
    Pending(Option<Box<Action>>),
    /// One before the step failed: its name, and why.
    Failed(String, String),
}

/// The hooks of a service on one side of a step.
pub(crate) fn of(service: &Service, step: StepName, when: HookWhen) -> impl Iterator<Item = &Hook> {
    service.hooks.iter().filter(move |hook| hook.step == step && hook.when == when)
}

/// Where the hooks on one side of a step stand; they run one after another.
pub(crate) fn stand(
    op: &Operation,
    service: Option<&Service>,
    step: StepName,
    when: HookWhen,
    recall: &mut Recall,
    now: UnixMs,
) -> Hooks {
    let Some(service) = service else { return Hooks::Done(Vec::new()) };
    let mut told = Vec::new();
    for (index, hook) in of(service, step, when).enumerate() {
        let name = name(when, index);
        let shown = match journal::step(op, step).and_then(|step| step.hooks.get(&name)) {
            Some(HookMark::Skipped) => continue,
            Some(HookMark::Failed(retries) | HookMark::Retried(retries)) => shown(op, step, &name, *retries),
            None => shown(op, step, &name, 0),
        };
        let key = key(op, &shown);
        match recall.hooks.get(&key).map(|asked| (asked.ended.clone(), asked)) {
            Some((Some(Ok(())), _)) => {}
            Some((Some(Err(why)), _)) if when == HookWhen::Before => {
                return Hooks::Failed(name, format!("hook {shown} failed: {why}"));
            }
            Some((Some(Err(why)), _)) => told.push(format!("hook {shown} failed: {why}")),
            Some((None, asked)) if now < asked.at + u64::from(hook.timeout_ms) + HOOK_MARGIN_MS => {
                return Hooks::Pending(None);
            }
            Some((None, asked)) if asked.asks >= HOOK_ASKS_MAX => {
                let why = format!("hook {shown} gave no answer, asked {HOOK_ASKS_MAX} times");
                if when == HookWhen::Before {
                    return Hooks::Failed(name, why);
                }
                told.push(why);
            }
            _ => return Hooks::Pending(Some(Box::new(ask(op, service, hook, key, recall, now)))),
        }
    }
    Hooks::Done(told)
}

fn ask(op: &Operation, service: &Service, hook: &Hook, key: String, recall: &mut Recall, now: UnixMs) -> Action {
    let asked = recall.hooks.entry(key.clone()).or_insert(HookAsked { at: now, asks: 0, ended: None });
    asked.at = now;
    asked.asks += 1;
    Action::RunHook(HookRun {
        key,
        operation: op.id.clone(),
        service: service.name.clone(),
        call: hook.call.clone(),
        timeout_ms: hook.timeout_ms,
    })
}

/// The name of a hook among those of its step: `before/0`.
fn name(when: HookWhen, index: usize) -> String {
    match when {
        HookWhen::Before => format!("before/{index}"),
        HookWhen::After => format!("after/{index}"),
    }
}

/// The names of a step's hooks.
pub(crate) fn names(service: &Service, step: StepName) -> Vec<String> {
    let all = [HookWhen::Before, HookWhen::After].into_iter();
    all.flat_map(|when| (0..of(service, step, when).count()).map(move |index| name(when, index))).collect()
}

/// `<operation>/<step>/<when>/<index>`; batches after the first add their number, since each walks the steps anew, and
/// so does a retry: an operator wants it asked for once more, not answered from memory.
fn shown(op: &Operation, step: StepName, name: &str, retries: u32) -> String {
    let mut shown = format!("{}/{}/{name}", op.id, format!("{step:?}").to_lowercase());
    if op.batch > 0 {
        shown.push_str(&format!("/batch-{}", op.batch));
    }
    if retries > 0 {
        shown.push_str(&format!("/retry-{retries}"));
    }
    shown
}

/// The idempotency key. Numbers of operations come again after a restore from a backup, and a receiver would take the hook
/// of another operation for done: the time at which the operation was opened tells them apart.
fn key(op: &Operation, shown: &str) -> String {
    format!("{shown}@{}", op.created_at)
}
