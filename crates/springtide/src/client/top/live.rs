//! The live screen: the terminal, the keyboard and the server around [`Screen`]. The terminal is put back however it ends.
//!
//! A look or a deed that takes long holds nothing up: keys are taken and the screen is drawn meanwhile.

use super::draw::draw;
use super::state::{Answer, Data, Request, Screen};
use super::{Tab, incidents};
use crate::client::failure::Failure;
use api::client::{Client, Error};
use api::http::{FireRequest, OperationRequest, SilenceRequest, StepRequest};
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// Time between looks at the fleet.
const LOOK_MS: u64 = 1_000;
/// Looks of which one asks for incidents and operations too while another view is shown: their tabs say how many there are.
const WHOLE_EACH: u32 = 5;
/// Time in which a look must be answered; then the data count as stale.
const LOOK_MS_MAX: u64 = 5_000;
/// Time between looks at the keyboard.
const KEY_MS: u64 = 50;
/// Keys pressed and not yet taken.
const KEYS_MAX: usize = 64;
/// Deeds under way at once; more are refused in words.
const DEEDS_MAX: usize = 8;

type Work<'a> = FuturesUnordered<BoxFuture<'a, Answer>>;

/// Shows the screen until `q`.
pub async fn run(client: &Client, tab: Tab) -> Result<(), Failure> {
    let data = look(client, tab, true).await?;
    let mut screen = Screen::new(tab, data);
    let mut terminal = ratatui::init();
    let done = serve(client, &mut screen, &mut terminal).await;
    ratatui::restore();
    done
}

async fn serve(client: &Client, screen: &mut Screen, terminal: &mut ratatui::DefaultTerminal) -> Result<(), Failure> {
    let fault = |error: std::io::Error| Failure::Local(format!("cannot draw on the terminal: {error}"));
    let mut keys = keyboard();
    let mut told_to_end = signal(SignalKind::terminate()).map_err(fault)?;
    let mut resized = signal(SignalKind::window_change()).map_err(fault)?;
    let mut rhythm = tokio::time::interval(Duration::from_millis(LOOK_MS));
    rhythm.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut number: u32 = 0;
    let mut looks = Work::new();
    let mut deeds = Work::new();
    loop {
        terminal.draw(|frame| draw(screen, frame)).map_err(fault)?;
        tokio::select! {
            _ = rhythm.tick() => if looks.is_empty() {
                number = number.wrapping_add(1);
                looks.push(looked(client, screen.tab, number.is_multiple_of(WHOLE_EACH)));
            },
            Some(answer) = looks.next() => screen.take(answer),
            Some(answer) = deeds.next() => {
                screen.take(answer);
                looks.push(looked(client, screen.tab, false));
            }
            _ = resized.recv() => {}
            _ = told_to_end.recv() => return Ok(()),
            key = keys.recv() => {
                let Some(key) = key else { return Ok(()) };
                for request in screen.press(key) {
                    match request {
                        Request::Quit => return Ok(()),
                        Request::Look => looks.push(looked(client, screen.tab, false)),
                        _ if deeds.len() >= DEEDS_MAX => {
                            screen.take(Answer::Refused(format!("{DEEDS_MAX} things are under way: wait for them")));
                        }
                        request => deeds.push(done(client, request)),
                    }
                }
            }
        }
    }
}

/// Keys, read on a thread of its own that ends with the receiver.
fn keyboard() -> mpsc::Receiver<KeyCode> {
    let (sender, receiver) = mpsc::channel(KEYS_MAX);
    std::thread::spawn(move || {
        while !sender.is_closed() {
            match event::poll(Duration::from_millis(KEY_MS)) {
                Ok(false) => {}
                Ok(true) => match event::read() {
                    Ok(Event::Key(key)) if key.kind == KeyEventKind::Press => {
                        let interrupt = key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c');
                        if interrupt || sender.blocking_send(key.code).is_err() {
                            return;
                        }
                    }
                    Ok(_) => {}
                    Err(_) => return,
                },
                Err(_) => return,
            }
        }
    });
    receiver
}

fn looked(client: &Client, tab: Tab, whole: bool) -> BoxFuture<'_, Answer> {
    let look = async move {
        match tokio::time::timeout(Duration::from_millis(LOOK_MS_MAX), look(client, tab, whole)).await {
            Ok(Ok(data)) => Answer::Looked(data),
            Ok(Err(error)) => Answer::Unreachable(error.to_string()),
            Err(_) => Answer::Unreachable(format!("nothing came for {} s", LOOK_MS_MAX / 1_000)),
        }
    };
    look.boxed()
}

/// What a view shows; `whole` also what the other tabs count.
async fn look(client: &Client, tab: Tab, whole: bool) -> Result<Data, Error> {
    let top = client.top().await?;
    let operations = match whole || tab == Tab::Operations {
        true => Some(client.operation_views().await?),
        false => None,
    };
    let incidents = match whole || tab == Tab::Incidents {
        true => Some(incidents::all(client).await?),
        false => None,
    };
    let detection_trouble = match tab {
        Tab::Incidents => client.status().await?.detection_trouble,
        _ => None,
    };
    Ok(Data { top, operations, incidents, detection_trouble })
}

fn done(client: &Client, request: Request) -> BoxFuture<'_, Answer> {
    async move { deed(client, request).await.unwrap_or_else(|error| Answer::Refused(error.to_string())) }.boxed()
}

async fn deed(client: &Client, request: Request) -> Result<Answer, Error> {
    Ok(match request {
        Request::Quit | Request::Look => Answer::Done(String::new()),
        Request::Describe("incident", name) => Answer::Described(incidents::described(&client.incident(&name).await?)),
        Request::Describe(kind, name) => Answer::Described(client.describe(kind, &name).await?),
        Request::Steer(id, verb @ ("retry" | "skip")) => {
            let view = client.steer_step(&id, verb, &StepRequest::default()).await?;
            let said = view.operation.log.last().map(|line| line.text.clone()).unwrap_or_default();
            Answer::Done(format!("{}: {said}", view.operation.id))
        }
        Request::Steer(id, verb) => {
            let operation = client.steer_operation(&id, verb).await?;
            Answer::Done(format!("{id} is {}", crate::client::progress::standing(&operation)))
        }
        Request::Plan(service, to) => {
            let plan = client.plan_operation(&scale(&service, to)).await?;
            Answer::Planned(service, to, plan)
        }
        Request::Scale(service, to) => {
            let operation = client.open_operation(&scale(&service, to)).await?;
            Answer::Done(format!("{}: {service} goes to {to}; view 5 shows how", operation.id))
        }
        Request::Presets => {
            let presets = client.protect().await?.presets.into_iter();
            let item = |preset: model::Preset| {
                let policies: Vec<String> = preset.policies.iter().map(|policy| policy.name.to_string()).collect();
                (preset.name.to_string(), policies.join(", "))
            };
            Answer::Presets(presets.map(item).collect())
        }
        Request::Fire(preset) => {
            client.protect_fire(&preset, &FireRequest::default()).await?;
            Answer::Done(format!("preset {preset} is in force; `springtide protect lift` ends it early"))
        }
        Request::Acknowledge(incident) => {
            client.incident_ack(&incident).await?;
            Answer::Done(format!("{incident} is acknowledged"))
        }
        Request::Silence(incident, minutes) => {
            let (length, reason) = (format!("{minutes}m"), "muted in springtide top".to_owned());
            client.incident_silence(&incident, &SilenceRequest { r#for: length, reason }).await?;
            Answer::Done(format!("{incident} is mute for {minutes} min"))
        }
    })
}

fn scale(service: &str, to: u32) -> OperationRequest {
    OperationRequest::Scale { service: service.to_owned(), to: Some(to), instances: BTreeMap::new() }
}
