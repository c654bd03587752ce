//! The user's own commands and webhooks around a step. Running them is the server's work; here is which, when, and what
//! an end means.

use crate::contract::{Action, HookRun};
use crate::limits::{HOOK_ASKS_MAX, HOOK_MARGIN_MS};
use crate::recall::{HookAsked, Recall};
use model::{Hook, HookWhen, Operation, Service, StepName, UnixMs};

/// How the hooks on one side of a step stand.
#[derive(Debug, PartialEq)]
pub(crate) enum Hooks {
    /// All have ended, or there are none. Failures of those after the step are only told.
    Done(Vec<String>),
    /// One is to run or runs.
    Pending(Option<Box<Action>>),
    /// One before the step failed.
    Failed(String),
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
        let key = key(op, step, when, index);
        match recall.hooks.get(&key).map(|asked| (asked.ended.clone(), asked)) {
            Some((Some(Ok(())), _)) => {}
            Some((Some(Err(why)), _)) if when == HookWhen::Before => {
                return Hooks::Failed(format!("hook {key} failed: {why}"));
            }
            Some((Some(Err(why)), _)) => told.push(format!("hook {key} failed: {why}")),
            Some((None, asked)) if now < asked.at + u64::from(hook.timeout_ms) + HOOK_MARGIN_MS => {
                return Hooks::Pending(None);
            }
            Some((None, asked)) if asked.asks >= HOOK_ASKS_MAX => {
                let why = format!("hook {key} gave no answer, asked {HOOK_ASKS_MAX} times");
                if when == HookWhen::Before {
                    return Hooks::Failed(why);
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

/// `<operation>/<step>/<when>/<index>`; batches after the first add their number, since each walks the steps anew.
fn key(op: &Operation, step: StepName, when: HookWhen, index: usize) -> String {
    let when = match when {
        HookWhen::Before => "before",
        HookWhen::After => "after",
    };
    let step = format!("{step:?}").to_lowercase();
    match op.batch {
        0 => format!("{}/{step}/{when}/{index}", op.id),
        batch => format!("{}/{step}/{when}/{index}/batch-{batch}", op.id),
    }
}
