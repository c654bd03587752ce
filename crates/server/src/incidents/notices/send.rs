//! One notice to one receiver: a POST, or a command with the payload on its standard input.

use super::payload::Payload;
use model::Receiver;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt;

/// Sends; an error says why the receiver has not taken it.
pub async fn send(receiver: &Receiver, payload: &Payload, http: &reqwest::Client) -> Result<(), String> {
    let timeout = Duration::from_millis(u64::from(receiver.timeout_ms));
    match &receiver.webhook {
        Some(url) => webhook(url, payload, timeout, http).await,
        None => command(receiver, payload, timeout).await,
    }
}

async fn webhook(url: &str, payload: &Payload, timeout: Duration, http: &reqwest::Client) -> Result<(), String> {
    let request = http.post(url).header("Idempotency-Key", payload.key()).timeout(timeout).json(payload);
    let answer = request.send().await.map_err(|error| format!("{url}: {error}"))?;
    match answer.status() {
        status if status.is_success() => Ok(()),
        status => Err(format!("{url} answered {status}; a 2xx answer means taken")),
    }
}

async fn command(receiver: &Receiver, payload: &Payload, timeout: Duration) -> Result<(), String> {
    let Some((program, arguments)) = receiver.command.split_first() else {
        return Err("it has neither a webhook nor a command".to_owned());
    };
    let mut child = tokio::process::Command::new(program)
        .args(arguments)
        .env("SPRINGTIDE_RECEIVER", receiver.name.as_str())
        .env("SPRINGTIDE_IDEMPOTENCY_KEY", payload.key())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("{program} could not be started: {error}"))?;
    let group = child.id().and_then(|id| rustix::process::Pid::from_raw(id as i32));
    let bytes = serde_json::to_vec(payload).expect("a payload is plain data");
    let stdin = child.stdin.take();
    let feed = async move {
        if let Some(mut stdin) = stdin {
            // A command that does not read its input may still succeed.
            let _ = stdin.write_all(&bytes).await;
        }
    };
    let ended = tokio::time::timeout(timeout, async { tokio::join!(feed, child.wait()).1 }).await;
    // What the command left running in its group goes with it.
    if let Some(group) = group {
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    match ended {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(format!("{program} ended with {status}")),
        Ok(Err(error)) => Err(format!("{program} could not be waited for: {error}")),
        Err(_) => {
            // Killed above; this only reaps it.
            let _ = child.wait().await;
            Err(format!("{program} did not end within {} ms and was killed", timeout.as_millis()))
        }
    }
}
