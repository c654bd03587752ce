//! Dead letters of the slow lanes: asked of every proxy, since each keeps its own.

use super::dry_run::ask;
use super::*;
use api::fleet::{LaneAnswer, LaneRequest, proxy_down};
use api::http::{DeadLetterView, DeadLetters, RetriedLetter};

/// What receivers refused for good.
#[utoipa::path(get, path = "/v1/protect/dead-letters", responses((status = 200, body = DeadLetters)))]
pub async fn dead_letters(State(app): State<App>) -> Result<Json<DeadLetters>, Failure> {
    let (proxies, answers) = lanes(&app, String::new()).await?;
    let mut all = DeadLetters { proxies: proxies as u32, answered: answers.len() as u32, ..DeadLetters::default() };
    let mut letters = BTreeMap::new();
    for (proxy, answer) in answers {
        if !answer.error.is_empty() {
            all.refused.push(RefusedBy { proxy, why: answer.error });
            continue;
        }
        all.held.push((proxy.clone(), answer.dead, answer.waiting));
        for of in answer.letters {
            // Proxies that share a Redis all tell of the same ones.
            letters.entry(of.id.clone()).or_insert_with(|| DeadLetterView {
                id: of.id,
                proxy: proxy.clone(),
                policy: of.policy,
                service: of.service,
                method: of.method,
                target: of.target,
                accepted_unix_ms: of.accepted_unix_ms,
                status: of.status,
                reason: of.reason,
            });
        }
    }
    all.letters = letters.into_values().collect();
    all.letters.sort_by_key(|letter| letter.accepted_unix_ms);
    Ok(Json(all))
}

/// Puts one back: it is delivered again, at the rate of its policy.
#[utoipa::path(post, path = "/v1/protect/dead-letters/{id}/retry", responses(
    (status = 200, body = RetriedLetter), (status = 404, body = Problem)))]
pub async fn retry_dead_letter(State(app): State<App>, Path(id): Path<String>) -> Result<Json<RetriedLetter>, Failure> {
    let (proxies, answers) = lanes(&app, id.clone()).await?;
    let answered = answers.len();
    let mut failed = String::new();
    for (proxy, answer) in answers {
        if answer.retried {
            return Ok(Json(RetriedLetter { id, proxy }));
        }
        if !answer.error.is_empty() {
            failed.push_str(&format!("; {proxy}: {}", answer.error));
        }
    }
    let why = format!("no dead letter {id:?} ({answered} of {proxies} proxies answered{failed})");
    Err(problem::not_found(&why))
}

async fn lanes(app: &App, retry: String) -> Result<(usize, BTreeMap<String, LaneAnswer>), Failure> {
    let busy = || problem::unavailable("many look at the slow lanes: ask again in a second");
    let mut open = app.protect.lanes.open().ok_or_else(busy)?;
    let question = proxy_down::Message::Lane(LaneRequest { id: open.id, retry });
    ask(app, question, &mut open).await
}
