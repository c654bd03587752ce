//! Runs users' hooks beside the loop: a command, killed with its whole group when its time is up, or a webhook.
//!
//! A hook that is at work already is not started again; after a crash it is, with the same idempotency key.

use super::Input;
use super::engine::Engine;
use control::HookRun;
use model::HookCall;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::process::ChildStderr;
use tokio::task::JoinHandle;

/// Bytes of a command's error output that are kept for the message.
const OUTPUT_BYTES_MAX: u64 = 4_096;
/// Time for the error output to end after the command.
const LAST_WORDS_MS: u64 = 500;
/// Characters of it that are shown.
const SHOWN_CHARS_MAX: usize = 300;

impl Engine {
    /// Starts a hook unless it is at work already.
    pub(super) fn start_hook(&mut self, run: HookRun) {
        if !self.hooks_open.insert(run.key.clone()) {
            return;
        }
        let (allowed, back, http) = (self.hooks_allowed.clone(), self.back.clone(), self.http.clone());
        tokio::spawn(async move {
            let _permit = allowed.acquire_owned().await;
            let result = call(&run, &http).await;
            // When the loop has ended, the next server asks for the hook again.
            let _ = back.tell(Input::HookDone { key: run.key, result }).await;
        });
    }
}

/// Calls a hook and waits for its end.
pub(super) async fn call(run: &HookRun, http: &reqwest::Client) -> Result<(), String> {
    let timeout = Duration::from_millis(u64::from(run.timeout_ms));
    match &run.call {
        HookCall::Command(argv) => command(run, argv, timeout).await,
        HookCall::Webhook(url) => webhook(run, url, timeout, http).await,
    }
}

async fn command(run: &HookRun, argv: &[String], timeout: Duration) -> Result<(), String> {
    let Some((program, arguments)) = argv.split_first() else {
        return Err("the hook's command is empty".to_owned());
    };
    let mut child = tokio::process::Command::new(program)
        .args(arguments)
        .env("SPRINGTIDE_IDEMPOTENCY_KEY", &run.key)
        .env("SPRINGTIDE_OPERATION", run.operation.as_str())
        .env("SPRINGTIDE_SERVICE", run.service.as_str())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| format!("hook {program} could not be started: {error}"))?;
    let group = child.id().and_then(|id| rustix::process::Pid::from_raw(id as i32));
    let heard = tokio::spawn(hear(child.stderr.take().expect("it was piped above")));
    let ended = tokio::time::timeout(timeout, child.wait()).await;
    // What the command left running in its group goes with it, also when it ended well.
    if let Some(group) = group {
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    let said = last_words(heard).await;
    match ended {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(format!("hook {program} ended with {status}: {}", shown(&said))),
        Ok(Err(error)) => Err(format!("hook {program} could not be waited for: {error}")),
        Err(_) => {
            // Killed above; this only reaps it.
            let _ = child.wait().await;
            Err(format!("hook {program} did not end within {} ms and was killed", timeout.as_millis()))
        }
    }
}

/// Keeps the beginning of what a command says. The rest is read too: a pipe that nobody reads would stop or kill it.
async fn hear(mut stderr: ChildStderr) -> Vec<u8> {
    let mut said = Vec::new();
    // An unreadable pipe only costs the message.
    let _ = (&mut stderr).take(OUTPUT_BYTES_MAX).read_to_end(&mut said).await;
    let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
    said
}

/// What was heard, once the pipe ends: at once, unless something left the command's group and holds it open.
async fn last_words(mut heard: JoinHandle<Vec<u8>>) -> Vec<u8> {
    let said = tokio::time::timeout(Duration::from_millis(LAST_WORDS_MS), &mut heard).await;
    heard.abort();
    said.ok().and_then(Result::ok).unwrap_or_default()
}

fn shown(output: &[u8]) -> String {
    String::from_utf8_lossy(output).trim().chars().take(SHOWN_CHARS_MAX).collect()
}

async fn webhook(run: &HookRun, url: &str, timeout: Duration, http: &reqwest::Client) -> Result<(), String> {
    let body = serde_json::json!({
        "idempotency_key": run.key, "operation": run.operation, "service": run.service,
    });
    let request = http.post(url).header("Idempotency-Key", &run.key).timeout(timeout).json(&body);
    let answer = request.send().await.map_err(|error| format!("webhook {url} failed: {error}"))?;
    match answer.status() {
        status if status.is_success() => Ok(()),
        status => Err(format!("webhook {url} answered {status}; a 2xx answer means done")),
    }
}

#[cfg(test)]
mod tests;
