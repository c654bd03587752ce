//! What `protect` prints for people.

use crate::client::output::{Table, age, counted, duration};
use api::http::{
    ChangeAction, DeadLetters, DryRunAnswer, Estimate, InForce, OverlapView, PolicyView, ProtectResponse, ProtectView,
    RetriedLetter,
};
use model::time::rfc3339;
use model::{Policy, PolicyHistory};

/// Everything in force.
pub fn list(view: &ProtectView) -> String {
    let mut text = String::new();
    if view.policies.is_empty() {
        text.push_str("no policy is in force\n");
    } else {
        let head = ["NAME", "ACTION", "SCOPE", "ORDER", "ENDS IN", "TAKEN", "TAKEN/S", "FAILED", "BY"];
        let mut table = Table::new(&head).numbers(&[3, 5, 6, 7]).spare(&[8, 3, 7]);
        for of in &view.policies {
            table.row(row(of));
        }
        text.push_str(&table.text());
        let failing = view.policies.iter().filter(|of| of.failed > 0);
        for of in failing {
            text.push_str(&format!("\n{}: its expression failed: {}\n", of.policy.name, of.failure));
        }
        text.push_str(&overlaps(&view.overlaps));
        text.push_str(&format!("\n{}\n", in_force(&view.in_force)));
    }
    if !view.presets.is_empty() {
        let named = |preset: &model::Preset| format!("{} ({})", preset.name, counted_policies(preset.policies.len()));
        let presets: Vec<String> = view.presets.iter().map(named).collect();
        text.push_str(&format!("\npresets ready to fire: {}\n", presets.join(", ")));
    }
    text
}

fn counted_policies(count: usize) -> String {
    if count == 1 { "1 policy".to_owned() } else { format!("{count} policies") }
}

fn row(of: &PolicyView) -> [String; 9] {
    [
        of.policy.name.to_string(),
        of.policy.action.to_string(),
        scope(&of.policy),
        of.policy.order.to_string(),
        duration(of.life_ms),
        of.taken.to_string(),
        of.taken_per_second.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}")),
        of.failed.to_string(),
        of.who.clone(),
    ]
}

fn scope(policy: &Policy) -> String {
    let mut parts: Vec<String> = Vec::new();
    parts.extend(policy.business.as_ref().map(|name| format!("business {name}")));
    parts.extend(policy.service.as_ref().map(ToString::to_string));
    parts.extend(policy.route.clone());
    parts.extend(policy.datacenter.as_ref().map(|name| format!("in {name}")));
    parts.extend(policy.when.as_ref().map(|when| format!("when {when}")));
    if parts.is_empty() { "everything".to_owned() } else { parts.join(" ") }
}

fn overlaps(all: &[OverlapView]) -> String {
    let mut text = String::new();
    for at in all {
        let (earlier, later) = (&at.earlier, &at.later);
        let said = match at.relation.as_str() {
            "shadowed" => format!("{later} never acts: {earlier} governs every request in its scope"),
            "shadowed-lane" => format!(
                "{later} slows nothing new: {earlier} governs every request in its scope; what waits for {later} is \
                 delivered all the same, at its own rate"
            ),
            "governed-lane" => format!(
                "{earlier} slows new requests where both match, {later} only elsewhere; what waits for either is \
                 delivered at its own rate"
            ),
            "governed" => format!("{earlier} governs where both match; {later} only elsewhere"),
            _ => format!("{earlier} is asked before {later}, which sees what that lets pass"),
        };
        text.push_str(&format!("\noverlap: {said}"));
    }
    if text.is_empty() { text } else { text + "\n" }
}

/// What receivers refused for good.
pub fn dead_letters(all: &DeadLetters) -> String {
    let dead: u64 = all.held.iter().map(|(_, dead, _)| dead).sum();
    let waiting: u64 = all.held.iter().map(|(_, _, waiting)| waiting).sum();
    let wait = format!("{} wait in the slow lane", counted(waiting as usize, "request"));
    if all.letters.is_empty() {
        return format!("no dead letters; {wait}\n");
    }
    let mut table =
        Table::new(&["ID", "POLICY", "REQUEST", "STATUS", "REASON", "ACCEPTED"]).numbers(&[3]).spare(&[5, 1]);
    for of in &all.letters {
        let request = format!("{} {}{}", of.method, of.service, of.target);
        let accepted = rfc3339(of.accepted_unix_ms);
        table.row([of.id.clone(), of.policy.clone(), request, of.status.to_string(), of.reason.clone(), accepted]);
    }
    let more = dead.saturating_sub(all.letters.len() as u64);
    let more = if more > 0 && all.held.len() == 1 { format!("{more} more are not shown; ") } else { String::new() };
    format!("{}\n{more}{wait}\n", table.text())
}

/// Why the list may lack some.
pub fn lanes_missing(all: &DeadLetters) -> Option<String> {
    if all.proxies == 0 {
        return Some("no proxy is connected: the dead letters are with the proxies".to_owned());
    }
    let silent = all.proxies - all.answered;
    let refused: Vec<String> = all.refused.iter().map(|of| format!("{}: {}", of.proxy, of.why)).collect();
    match (silent, refused.is_empty()) {
        (0, true) => None,
        (0, false) => Some(format!("not shown: {}", refused.join("; "))),
        _ => Some(format!("{silent} of {} proxies did not answer: theirs are not shown", all.proxies)),
    }
}

/// What is delivered again.
pub fn retried(all: &[RetriedLetter]) -> String {
    let line = |of: &RetriedLetter| format!("{} waits again, at {}\n", of.id, of.proxy);
    let text: String = all.iter().map(line).collect();
    if text.is_empty() { "there are no dead letters\n".to_owned() } else { text }
}

/// Where the newest policies are in force.
pub fn in_force(at: &InForce) -> String {
    if at.proxies == 0 && at.hosts == 0 {
        return "no proxy and no agent is connected; each gets it as soon as it is".to_owned();
    }
    let mut text = format!("in force on {}/{} proxies", at.proxies_taken, at.proxies);
    if at.hosts > 0 {
        text.push_str(&format!(" and {}/{} hosts", at.hosts_taken, at.hosts));
    }
    if let Some(after_ms) = at.after_ms {
        text.push_str(&format!(" after {after_ms:.0} ms"));
    }
    text
}

/// What keeps it from being in force everywhere.
pub fn missing(at: &InForce) -> Option<String> {
    let mut said = Vec::new();
    if at.proxies_taken < at.proxies || at.hosts_taken < at.hosts {
        if !at.waiting.is_empty() {
            said.push(format!(
                "not confirmed yet by {}; they go on by the last they had until its end, and get this when they are back",
                at.waiting.join(", ")
            ));
        }
        said.extend(at.refused.iter().map(|by| format!("{} could not put all of it in force: {}", by.proxy, by.why)));
    }
    if said.is_empty() { None } else { Some(said.join("\n")) }
}

/// What a change did.
pub fn changed(response: &ProtectResponse) -> String {
    if response.changes.is_empty() {
        return format!("nothing changed: it is so already\n{}\n", in_force(&response.in_force));
    }
    let mut text = String::new();
    for change in &response.changes {
        let verb = match (change.kind.as_str(), change.action) {
            ("Policy", ChangeAction::Create) => "in force",
            ("Policy", ChangeAction::Update) => "changed",
            ("Policy", ChangeAction::Delete) => "lifted",
            (_, ChangeAction::Create) => "stored",
            (_, ChangeAction::Update) => "changed",
            (_, ChangeAction::Delete) => "deleted",
        };
        text.push_str(&format!("{verb}: {} {}\n", change.kind, change.name));
        for field in &change.fields {
            text.push_str(&format!("  {}: {} → {}\n", field.field, field.before, field.after));
        }
    }
    let touched: Vec<&str> = response.changes.iter().map(|change| change.name.as_str()).collect();
    let concerned: Vec<OverlapView> = response
        .overlaps
        .iter()
        .filter(|at| touched.contains(&at.earlier.as_str()) || touched.contains(&at.later.as_str()))
        .cloned()
        .collect();
    text.push_str(&overlaps(&concerned));
    if response.changes.iter().any(|change| change.kind == "Policy") {
        text.push_str(&format!("{}\n", in_force(&response.in_force)));
    }
    text
}

/// One policy and its past.
pub fn one(name: &str, now: Option<&PolicyView>, history: &PolicyHistory, all: &[OverlapView]) -> String {
    let mut text = match now {
        None => format!("policy {name}: not in force\n"),
        Some(of) => {
            let mut about = Table::new(&[]);
            let mut say = |what: &str, value: String| about.row([what.to_owned(), value]);
            say("action", of.policy.action.to_string());
            say("scope", scope(&of.policy));
            say("order", of.policy.order.to_string());
            say("ends", format!("{} (in {})", of.policy.expires_at, duration(of.life_ms)));
            say("version", format!("{}, by {} {} ago", of.version, of.who, age(of.since)));
            if let Some(preset) = &of.policy.preset {
                say("preset", preset.to_string());
            }
            say("governed", counted(of.matched as usize, "request"));
            let rate = of.taken_per_second.map_or_else(String::new, |rate| format!(", {rate:.1}/s now"));
            say("taken", format!("{}{rate}", counted(of.taken as usize, "request")));
            if of.failed > 0 {
                say("failed", format!("{} times: {}", of.failed, of.failure));
            }
            format!("policy {name}\n\n{}", about.text())
        }
    };
    let mine: Vec<OverlapView> = all.iter().filter(|at| at.earlier == name || at.later == name).cloned().collect();
    text.push_str(&overlaps(&mine));
    let mut table = Table::new(&["VERSION", "AT", "BY", "WHAT", "ENDS"]).numbers(&[0]).spare(&[1]);
    for version in history.versions.iter().rev() {
        let (what, ends) = match &version.policy {
            Some(policy) => (format!("{}, {}", policy.action, scope(policy)), policy.expires_at.to_string()),
            None if version.who == "expiry" => ("ended".to_owned(), String::new()),
            None => ("lifted".to_owned(), String::new()),
        };
        table.row([version.version.to_string(), rfc3339(version.at), version.who.clone(), what, ends]);
    }
    text.push_str(&format!("\n{}", table.text()));
    text
}

/// What a dry run found.
pub fn dry_run(answer: &DryRunAnswer) -> String {
    let mut text = format!(
        "over the last {}: {} requests/s of about {} users\n(sampled: {} of {}, {:.2}% of all users, on {}/{} proxies)\n\n",
        duration((answer.window_seconds * 1_000.0) as u64),
        grouped(answer.requests_per_second),
        grouped(answer.users),
        counted(answer.sampled as usize, "request"),
        counted(answer.sampled_users as usize, "user"),
        answer.sampled_share * 100.0,
        answer.answered,
        answer.proxies,
    );
    let mut table = Table::new(&["POLICY", "ACTION", "WOULD TAKE", "REQUESTS/S", "USERS", "FAILED"]).numbers(&[3, 5]);
    for of in &answer.policies {
        table.row([
            of.policy.clone(),
            of.action.clone(),
            format!("{} of requests", share(of.requests_share)),
            grouped(of.requests_per_second),
            users(of.users),
            of.failed.to_string(),
        ]);
    }
    text.push_str(&table.text());
    for by in &answer.refused {
        text.push_str(&format!("\n{} could not tell: {}\n", by.proxy, by.why));
    }
    text
}

/// Why there is no answer.
pub fn unmeasured(answer: &DryRunAnswer) -> String {
    let why = match (answer.proxies, answer.answered) {
        (0, _) => "no proxy is connected".to_owned(),
        (asked, 0) => format!("none of {asked} proxies answered in time"),
        _ if !answer.refused.is_empty() => {
            answer.refused.iter().map(|by| format!("{}: {}", by.proxy, by.why)).collect::<Vec<_>>().join("; ")
        }
        (_, answered) => format!("{answered} proxies answered, and none saw a request in the last five minutes"),
    };
    format!("nothing was measured, so nothing can be said: {why}")
}

fn share(of: Estimate) -> String {
    let percent = |share: f64| format!("{:.1}", share * 100.0);
    match of.high > of.low {
        true => format!("{}% ({} to {}%)", percent(of.value), percent(of.low), percent(of.high)),
        false => format!("{}%", percent(of.value)),
    }
}

fn users(of: Estimate) -> String {
    match of.high > of.low {
        true => format!("about {} ({} to {})", grouped(of.value), grouped(of.low), grouped(of.high)),
        false => grouped(of.value),
    }
}

/// `12,345`.
fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Why a policy cannot be lifted by a name that is in force nowhere, and what may be meant; absent when it is in force.
/// `policies` are those in force with their presets, `presets` all that are stored.
pub fn not_in_force(name: &str, policies: &[(&str, Option<&str>)], presets: &[&str]) -> Option<String> {
    if policies.iter().any(|(known, _)| *known == name) {
        return None;
    }
    let said = format!("no policy {name} is in force");
    if policies.iter().any(|(_, preset)| *preset == Some(name)) {
        return Some(format!("{said}; it is a preset: springtide protect lift --preset {name}"));
    }
    if presets.contains(&name) {
        return Some(format!("{said}; it is a preset, and none of its policies is in force"));
    }
    let full = policies.iter().map(|(known, _)| *known).filter(|known| known.ends_with(&format!(".{name}")));
    let full: Vec<&str> = full.collect();
    let near = || model::nearest(name, policies.iter().map(|(known, _)| *known));
    let meant = if full.is_empty() { near().map(str::to_owned) } else { Some(full.join(" or ")) };
    let hint = meant.map_or_else(String::new, |meant| format!("; did you mean {meant}?"));
    Some(format!("{said}{hint} (`springtide protect list` shows what is)"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::http::DryRunEffect;

    #[test]
    fn of_two_slow_policies_it_is_said_what_becomes_of_what_waits() {
        let told = |relation: &str| {
            let relation = relation.to_owned();
            overlaps(&[OverlapView { earlier: "lane-b".to_owned(), later: "lane-a".to_owned(), relation }])
        };
        assert_eq!(
            told("shadowed-lane"),
            "\noverlap: lane-a slows nothing new: lane-b governs every request in its scope; what waits for lane-a is \
             delivered all the same, at its own rate\n"
        );
        assert_eq!(
            told("governed-lane"),
            "\noverlap: lane-b slows new requests where both match, lane-a only elsewhere; what waits for either is \
             delivered at its own rate\n"
        );
    }

    #[test]
    fn a_dry_run_reads_well_and_never_claims_what_was_not_measured() {
        let answer = DryRunAnswer {
            proxies: 2,
            answered: 2,
            sampled: 4_812,
            sampled_users: 1_204,
            sampled_share: 0.0463,
            window_seconds: 252.0,
            requests_per_second: 5_230.4,
            users: 26_004.0,
            policies: vec![DryRunEffect {
                policy: "fewer".to_owned(),
                action: "throttle 12% of users".to_owned(),
                sampled: 580,
                requests_share: Estimate { value: 0.121, low: 0.11, high: 0.132 },
                requests_per_second: 633.0,
                users: Estimate { value: 3_100.0, low: 2_900.0, high: 3_300.0 },
                failed: 0,
            }],
            ..DryRunAnswer::default()
        };
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ");
        let wanted = "over the last 4m 12s: 5,230 requests/s of about 26,004 users \
            (sampled: 4812 requests of 1204 users, 4.63% of all users, on 2/2 proxies) \
            POLICY ACTION WOULD TAKE REQUESTS/S USERS FAILED \
            fewer throttle 12% of users 12.1% (11.0 to 13.2%) of requests 633 about 3,100 (2,900 to 3,300) 0";
        assert_eq!(words(&dry_run(&answer)), wanted);
        assert!(unmeasured(&DryRunAnswer::default()).contains("no proxy is connected"));
        let silent = DryRunAnswer { proxies: 3, answered: 3, ..DryRunAnswer::default() };
        assert!(unmeasured(&silent).ends_with("3 proxies answered, and none saw a request in the last five minutes"));
    }

    #[test]
    fn where_it_is_in_force_is_said() {
        let all = InForce {
            proxies: 12,
            proxies_taken: 12,
            hosts: 8,
            hosts_taken: 8,
            after_ms: Some(84.2),
            ..InForce::default()
        };
        assert_eq!(in_force(&all), "in force on 12/12 proxies and 8/8 hosts after 84 ms");
        assert_eq!(missing(&all), None);
        let some = InForce { proxies_taken: 11, waiting: vec!["edge-7".to_owned()], ..all };
        assert!(missing(&some).unwrap().starts_with("not confirmed yet by edge-7;"));
    }

    #[test]
    fn a_name_that_is_not_in_force_is_answered_with_what_may_be_meant() {
        let policies = [("midnight-surge.fewer-draws", Some("midnight-surge")), ("throttle-web", None)];
        let said = |name| not_in_force(name, &policies, &["midnight-surge", "evening"]);
        assert_eq!(said("throttle-web"), None);
        let wanted = "it is a preset: springtide protect lift --preset midnight-surge";
        assert!(said("midnight-surge").expect("none").ends_with(wanted));
        assert!(said("evening").expect("none").ends_with("none of its policies is in force"));
        assert!(said("fewer-draws").expect("none").contains("did you mean midnight-surge.fewer-draws?"));
        assert!(said("throtle-web").expect("none").contains("did you mean throttle-web?"));
        assert!(said("nothing").expect("none").starts_with("no policy nothing is in force (`springtide"));
    }
}
