//! All incidents, detected ones and those of rules: kept as records, one for each change, and read back at the start.

use super::intent::Going;
use api::http::GoingOn;
use detect::{
    Blast, Change, Detector, EntityKind, EntityRef, FindingRecord, Incident, IncidentState, RuleTurn, Signal,
};
use model::{AlertRule, Severity, UnixMs};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use store::records::{Kind, RecordError, Records};

/// Incidents kept in memory; older ones stay in the records.
pub const INCIDENTS_MAX: usize = 1_000;
/// Records read at once at the start.
const PAGE: usize = 500;
/// Records looked at from the newest on, at the start.
const RECORDS_READ_MAX: u64 = 20_000;
/// Version of a record's form.
const FORMAT: u32 = 1;
/// Things that go on beside one incident.
const GOING_ON_MAX: usize = 20;
/// Entities kept of a rule's incident.
const ENTITIES_MAX: usize = 100;
/// Seconds that a rule has after a restart to hold again, beside its own time.
const RULE_SETTLE_S: u64 = 15;

/// An incident with what the server adds to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Case {
    /// As `detect` keeps it.
    pub incident: Incident,
    /// The rule that it is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<RuleAbout>,
    /// What goes on beside it.
    #[serde(default)]
    pub going_on: Vec<GoingOn>,
    /// Changes so far.
    pub change: u64,
    /// The change that receivers are to be told of.
    pub tell: u64,
}

/// A rule as it stood when its incident was opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleAbout {
    /// Name.
    pub name: String,
    /// Expression.
    pub expression: String,
    /// How bad.
    pub severity: Severity,
    /// What it means.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
}

/// A change as it is recorded.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    format: u32,
    what: String,
    at: UnixMs,
    case: Case,
}

/// Where a rule holds now.
#[derive(Debug, Default)]
struct Holding {
    number: u64,
    entities: BTreeSet<EntityRef>,
    /// Read back at the start: it ends in this second unless it holds again.
    doubtful_until_s: Option<u64>,
}

/// All incidents.
#[derive(Debug, Default)]
pub struct Board {
    cases: BTreeMap<u64, Case>,
    holding: BTreeMap<String, Holding>,
    unrecorded: Vec<(String, Vec<u8>)>,
    next: u64,
}

fn number(id: &str) -> Option<u64> {
    id.strip_prefix("inc-")?.parse().ok()
}

impl Board {
    /// Reads what the records have: the newest state of each incident.
    ///
    /// # Errors
    /// The records cannot be read.
    pub fn read(records: &Records) -> Result<Self, RecordError> {
        let mut board = Self { next: 1, ..Self::default() };
        let ids = records.ids(Kind::Incident);
        let numbers = ids.iter().filter_map(|id| number(id.split('.').next()?));
        board.next = numbers.max().unwrap_or(0) + 1;
        let mut after = records.last(Kind::Incident).saturating_sub(RECORDS_READ_MAX);
        loop {
            let page = records.list(Kind::Incident, after, PAGE)?;
            let Some(last) = page.last() else { break };
            after = last.sequence;
            for record in &page {
                match serde_json::from_slice::<Record>(&record.bytes) {
                    Ok(read) if read.format == FORMAT => board.put(read.case),
                    Ok(read) => tracing::warn!(
                        id = record.id,
                        format = read.format,
                        "a newer record of an incident is left out"
                    ),
                    Err(error) => tracing::warn!(id = record.id, %error, "a record of an incident cannot be read"),
                }
            }
        }
        for (number, case) in &board.cases {
            if let Some(rule) = case.rule.as_ref().filter(|_| case.incident.state.is_open()) {
                let holding = Holding { number: *number, doubtful_until_s: Some(u64::MAX), ..Holding::default() };
                board.holding.insert(rule.name.clone(), holding);
            }
        }
        Ok(board)
    }

    fn put(&mut self, case: Case) {
        let Some(number) = number(&case.incident.id) else { return };
        self.cases.insert(number, case);
        while self.cases.len() > INCIDENTS_MAX {
            let ended = self.cases.iter().find(|(_, case)| !case.incident.state.is_open()).map(|(number, _)| *number);
            let Some(oldest) = ended.or_else(|| self.cases.keys().next().copied()) else { return };
            self.cases.remove(&oldest);
        }
    }

    /// The number of the next incident.
    pub fn next_number(&self) -> u64 {
        self.next
    }

    /// Incidents that `detect` is to go on with, oldest first.
    pub fn detected(&self) -> Vec<Incident> {
        self.cases.values().filter(|case| case.rule.is_none()).map(|case| case.incident.clone()).collect()
    }

    /// All, oldest first.
    pub fn cases(&self) -> impl DoubleEndedIterator<Item = (&u64, &Case)> {
        self.cases.iter()
    }

    /// One.
    pub fn case(&self, id: &str) -> Option<&Case> {
        self.cases.get(&number(id)?)
    }

    /// Takes what `detect` says has changed; true when anything did.
    pub fn take(&mut self, detector: &Detector, changes: &[Change], going_on: &[Going], now: UnixMs) -> bool {
        for change in changes {
            let Some(incident) = detector.incident(change.id()).cloned() else { continue };
            let told = !matches!(change, Change::Acknowledged(_) | Change::Grew(_));
            self.change(incident, None, what(change), told, going_on, now);
        }
        // Between changes an open one still moves on: its findings, its reach. That is shown, and recorded with the next change.
        for incident in detector.incidents().filter(|incident| incident.state.is_open()) {
            if let Some(case) = number(&incident.id).and_then(|number| self.cases.get_mut(&number)) {
                case.incident.clone_from(incident);
                tidy(&mut case.incident);
                note_beside(&mut case.going_on, &case.incident, going_on, now);
            }
        }
        !changes.is_empty()
    }

    fn change(
        &mut self,
        mut incident: Incident,
        rule: Option<RuleAbout>,
        what: &str,
        told: bool,
        going_on: &[Going],
        now: UnixMs,
    ) {
        tidy(&mut incident);
        let before = self.case(&incident.id).cloned();
        let change = before.as_ref().map_or(0, |case| case.change) + 1;
        let tell = if told { change } else { before.as_ref().map_or(0, |case| case.tell) };
        let mut beside = before.as_ref().map(|case| case.going_on.clone()).unwrap_or_default();
        note_beside(&mut beside, &incident, going_on, now);
        let rule = rule.or_else(|| before.and_then(|case| case.rule));
        let case = Case { incident, rule, going_on: beside, change, tell };
        let id = format!("{}.{change}", case.incident.id);
        let record = Record { format: FORMAT, what: what.to_owned(), at: now, case };
        let bytes = serde_json::to_vec(&record).expect("an incident is plain data");
        self.unrecorded.push((id, bytes));
        self.put(record.case);
    }

    /// Writes the changes that are not in the records yet; until that succeeds they are kept, and nobody is told.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn record(&mut self, records: &Records) -> Result<(), RecordError> {
        if self.unrecorded.is_empty() {
            return Ok(());
        }
        let all: Vec<(&str, &[u8])> =
            self.unrecorded.iter().map(|(id, bytes)| (id.as_str(), bytes.as_slice())).collect();
        records.append_all(Kind::Incident, &all)?;
        self.unrecorded.clear();
        Ok(())
    }

    /// Notes that someone looks after a rule's incident; false when it is none that is open.
    pub fn acknowledge_rule(&mut self, id: &str, who: &str, now: UnixMs) -> bool {
        let found = self.case(id).filter(|case| case.rule.is_some() && case.incident.state.is_open());
        let Some(mut incident) = found.map(|case| case.incident.clone()) else { return false };
        (incident.state, incident.updated_ms) = (IncidentState::Acknowledged, now);
        incident.acknowledged_by = Some(who.to_owned());
        self.change(incident, None, "acknowledged", false, &[], now);
        true
    }

    /// Takes where rules began or ended to hold.
    pub fn rules(
        &mut self,
        rules: &[AlertRule],
        turns: &[RuleTurn],
        detector: &mut Detector,
        (second, now): (u64, UnixMs),
        going_on: &[Going],
    ) -> bool {
        let mut moved = false;
        for turn in turns {
            for rule in rules.iter().filter(|rule| rule.expression.trim() == turn.rule) {
                moved |= self.turn(rule, turn, detector, now, going_on);
            }
        }
        let ended: Vec<String> = self
            .holding
            .iter_mut()
            .filter_map(|(name, holding)| {
                let rule = rules.iter().find(|rule| rule.name.as_str() == name);
                let until = holding.doubtful_until_s.as_mut();
                if let (Some(until), Some(rule)) = (until, rule) {
                    let for_s = detect::Rule::parse(&rule.expression).map_or(0, |rule| rule.for_s());
                    *until = (*until).min(second + for_s + RULE_SETTLE_S);
                }
                let over = holding.doubtful_until_s.is_some_and(|until| second >= until);
                let about = self.cases.get(&holding.number).and_then(|case| case.rule.as_ref());
                let same = rule.zip(about).is_some_and(|(rule, about)| rule.expression == about.expression);
                (!same || over).then(|| name.clone())
            })
            .collect();
        for name in ended {
            moved = true;
            self.rule_ends(&name, now, going_on);
        }
        moved
    }

    fn turn(
        &mut self,
        rule: &AlertRule,
        turn: &RuleTurn,
        detector: &mut Detector,
        now: UnixMs,
        going_on: &[Going],
    ) -> bool {
        let name = rule.name.to_string();
        if !turn.holds {
            let Some(holding) = self.holding.get_mut(&name) else { return false };
            holding.entities.remove(&turn.entity);
            if holding.entities.is_empty() && holding.doubtful_until_s.is_none() {
                self.rule_ends(&name, now, going_on);
                return true;
            }
            return false;
        }
        let known = self.holding.get(&name).map(|holding| holding.number);
        let number = known.unwrap_or_else(|| detector.take_number());
        let holding = self.holding.entry(name).or_insert_with(|| Holding { number, ..Holding::default() });
        holding.doubtful_until_s = None;
        holding.entities.insert(turn.entity.clone());
        let before = self.cases.get(&number).map(|case| case.incident.clone());
        let mut incident = before.unwrap_or_else(|| blank(number, turn.since_s * 1_000, now));
        note(&mut incident, turn, detector, now);
        let about = RuleAbout {
            name: rule.name.to_string(),
            expression: rule.expression.clone(),
            severity: rule.severity,
            summary: rule.summary.clone(),
        };
        let what = if known.is_some() { "grew" } else { "opened" };
        self.change(incident, Some(about), what, known.is_none(), going_on, now);
        true
    }

    fn rule_ends(&mut self, name: &str, now: UnixMs, going_on: &[Going]) {
        let Some(holding) = self.holding.remove(name) else { return };
        let Some(mut incident) = self.cases.get(&holding.number).map(|case| case.incident.clone()) else { return };
        (incident.state, incident.resolved_ms, incident.updated_ms) = (IncidentState::Resolved, Some(now), now);
        self.change(incident, None, "resolved", true, going_on, now);
    }
}

fn what(change: &Change) -> &'static str {
    match change {
        Change::Opened(_) => "opened",
        Change::Reopened(_) => "reopened",
        Change::Grew(_) => "grew",
        Change::CauseChanged(_) => "cause changed",
        Change::Acknowledged(_) => "acknowledged",
        Change::Resolved(_) => "resolved",
        Change::Merged(..) => "merged",
    }
}

fn blank(number: u64, onset_ms: UnixMs, now: UnixMs) -> Incident {
    Incident {
        id: format!("inc-{number}"),
        state: IncidentState::Open,
        onset_ms: onset_ms.min(now),
        opened_ms: now,
        updated_ms: now,
        resolved_ms: None,
        acknowledged_by: None,
        causes: Vec::new(),
        blast: Blast::default(),
        findings: Vec::new(),
        reopened: 0,
        merged_into: None,
    }
}

/// Adds an entity to a rule's incident.
fn note(incident: &mut Incident, turn: &RuleTurn, detector: &Detector, now: UnixMs) {
    incident.updated_ms = now;
    match incident.findings.iter().position(|found| found.entity == turn.entity) {
        Some(at) => (incident.findings[at].seen_ms, incident.findings[at].observed) = (now, turn.value),
        None if incident.findings.len() < ENTITIES_MAX => incident.findings.push(FindingRecord {
            entity: turn.entity.clone(),
            signal: turn.signal,
            score: 1.0,
            baseline: turn.limit,
            observed: turn.value,
            since_ms: turn.since_s * 1_000,
            seen_ms: now,
        }),
        None => {}
    }
    incident.blast = blast(&incident.findings, detector);
}

fn blast(findings: &[FindingRecord], detector: &Detector) -> Blast {
    let topology = detector.topology();
    let mut services = BTreeSet::new();
    let mut instances = BTreeSet::new();
    let mut hosts = BTreeSet::new();
    for found in findings {
        match found.entity.kind {
            EntityKind::Service | EntityKind::External => drop(services.insert(found.entity.name.clone())),
            EntityKind::Host => drop(hosts.insert(found.entity.name.clone())),
            EntityKind::Instance => {
                instances.insert(found.entity.name.clone());
                let of = topology.instances().iter().find(|instance| instance.name == found.entity.name);
                services.extend(of.map(|of| topology.services()[of.service as usize].name.clone()));
                hosts.extend(of.map(|of| topology.hosts()[of.host as usize].name.clone()));
            }
            _ => {}
        }
    }
    Blast {
        services_count: services.len() as u32,
        instances_count: instances.len() as u32,
        hosts_count: hosts.len() as u32,
        services: services.into_iter().collect(),
        instances: instances.into_iter().collect(),
        datacenters: Vec::new(),
    }
}

/// Notes what goes on beside an incident; a policy, which answers in a service's place, before what only may matter.
fn note_beside(beside: &mut Vec<GoingOn>, incident: &Incident, going_on: &[Going], now: UnixMs) {
    for going in beside_of(incident, going_on, now) {
        match beside.iter().position(|known| known.kind == going.kind && known.name == going.name) {
            Some(known) => beside[known] = going,
            None if going.kind == "policy" => beside.insert(0, going),
            None if beside.len() < GOING_ON_MAX => beside.push(going),
            None => {}
        }
    }
    beside.truncate(GOING_ON_MAX);
}

/// What goes on, or ended shortly before, at the services that an incident reaches.
fn beside_of(incident: &Incident, going_on: &[Going], now: UnixMs) -> Vec<GoingOn> {
    let concerns = |going: &&Going| {
        let blast = &incident.blast.services;
        let reached = if going.services.is_empty() {
            going.on.service.as_ref().is_none_or(|service| blast.contains(service))
        } else {
            blast.iter().any(|service| going.services.contains(service))
        };
        let in_time = going.on.from <= now && going.until.is_none_or(|until| until + AFTER_MS >= incident.onset_ms);
        in_time && (reached || going.on.kind == "event")
    };
    going_on.iter().filter(concerns).map(|going| going.on.clone()).collect()
}

/// An operation that ended so long before the onset may still be to blame.
const AFTER_MS: u64 = 300_000;

/// Numbers that JSON cannot carry become 0: a record must always be readable.
fn tidy(incident: &mut Incident) {
    let mend = |value: &mut f32| *value = if value.is_finite() { *value } else { 0.0 };
    for found in &mut incident.findings {
        [&mut found.score, &mut found.baseline, &mut found.observed].into_iter().for_each(mend);
    }
    for cause in &mut incident.causes {
        mend(&mut cause.score);
        for evidence in &mut cause.evidence {
            use detect::Evidence::{Concentration, Explains, Own, Signal};
            match evidence {
                Signal { baseline, observed, .. } => [baseline, observed].into_iter().for_each(mend),
                Explains { share } | Concentration { share } | Own { share } => mend(share),
                _ => {}
            }
        }
    }
}

/// Until when nobody is told of an incident: its own silences cover it whatever it reaches, and its end; others while it goes
/// on, when they are in force over all that it reaches.
pub fn silenced(incident: &Incident, silences: &[model::Silence], now: UnixMs) -> Option<UnixMs> {
    let own = silences.iter().filter(|silence| silence.until > now && super::is_of(silence, &incident.id));
    let own = own.map(|silence| silence.until).max();
    if own.is_some() || incident.blast.services.is_empty() || !incident.state.is_open() {
        return own;
    }
    let of_service = |service: &String| {
        let mine = silences.iter().filter(|silence| silence.service.as_str() == service && silence.until > now);
        let covers = |silence: &&model::Silence| {
            silence.instances.is_empty() || (!incident.blast.instances.is_empty() && covered(incident, silence))
        };
        mine.filter(covers).map(|silence| silence.until).max()
    };
    let untils: Option<Vec<UnixMs>> = incident.blast.services.iter().map(of_service).collect();
    untils?.into_iter().min()
}

/// True when every ill instance is one of those silenced, and nothing is wrong with a service as a whole.
fn covered(incident: &Incident, silence: &model::Silence) -> bool {
    let named = |name: &String| silence.instances.iter().any(|instance| instance.as_str() == name);
    let whole = incident
        .findings
        .iter()
        .any(|found| matches!(found.entity.kind, EntityKind::Service) && found.signal != Signal::Requests);
    !whole && incident.blast.instances.iter().all(named)
}

#[cfg(test)]
mod tests;
