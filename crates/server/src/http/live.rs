//! The war room's live feed: two frames a second, made once for all who look, and only while somebody looks.
//!
//! Pages without a heat map ask for the services alone (`?only=services`): of ten thousand hosts that is a hundredth.

mod layout;
pub mod tick;

use super::App;
use super::extract::Params;
use super::problem::Failure;
use super::watch::{Events, live};
use crate::clock::now_ms;
use crate::control_loop::{Ended, Loop};
use crate::incidents::Incidents;
use api::live::{HostColumns, InstanceColumns, Layout, Tick};
use axum::extract::State;
use axum::response::sse::Event;
use model::{Revision, UnixMs};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// Time between ticks: half of that between samples, so that none waits long to be seen.
const TICK_MS: u64 = 500;
/// Age up to which a frame made for another viewer is as good as a new one.
const SHARED_MS_MAX: u64 = 250;

/// Who is there, as texts, made when the first viewer wants them.
struct Scene {
    /// Revision of the intent that it shows.
    revision: Revision,
    layout: Layout,
    whole: OnceLock<String>,
    services: OnceLock<(String, String)>,
}

/// What a viewer is sent: texts, so that many viewers cost one serialisation.
pub struct Frame {
    at: UnixMs,
    scene: Arc<Scene>,
    tick: Tick,
    whole: OnceLock<String>,
    services: OnceLock<String>,
}

/// The newest frame.
#[derive(Default)]
pub struct Live {
    newest: Mutex<Option<Arc<Frame>>>,
}

impl Live {
    /// A frame that is new enough.
    pub async fn frame(&self, control: &Loop, incidents: &Incidents) -> Result<Arc<Frame>, Ended> {
        let mut newest = self.newest.lock().await;
        if let Some(frame) = newest.as_ref().filter(|frame| frame.at + SHARED_MS_MAX > now_ms()) {
            return Ok(Arc::clone(frame));
        }
        let known = newest.as_ref().map(|frame| Arc::clone(&frame.scene));
        let (scene, mut tick) = control
            .read(move |world| {
                let revision = world.snapshot.revision;
                let scene = known.filter(|known| known.revision == revision);
                let scene = scene.unwrap_or_else(|| Arc::new(Scene::of(layout::layout(world), revision)));
                let tick = tick::tick(world, &scene.layout, now_ms());
                (scene, tick)
            })
            .await?;
        let at = tick.at;
        let shown = incidents.shown();
        (tick.incidents, tick.detection_trouble) = (tick::incidents(&shown, at), shown.trouble(at));
        let frame = Frame { at, scene, tick, whole: OnceLock::new(), services: OnceLock::new() };
        let frame = Arc::new(frame);
        *newest = Some(Arc::clone(&frame));
        Ok(frame)
    }
}

fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("names and numbers make JSON")
}

impl Scene {
    fn of(layout: Layout, revision: Revision) -> Self {
        Self { revision, layout, whole: OnceLock::new(), services: OnceLock::new() }
    }

    /// Number and text of the part.
    fn part(&self, part: Part) -> (&str, &str) {
        match part {
            Part::All => (&self.layout.number, self.whole.get_or_init(|| text(&self.layout))),
            Part::Services => {
                let (number, text) = self.services.get_or_init(|| {
                    let layout = layout::services_only(&self.layout);
                    let text = text(&layout);
                    (layout.number, text)
                });
                (number, text)
            }
        }
    }
}

impl Frame {
    /// Who is there.
    pub fn layout(&self) -> &Layout {
        &self.scene.layout
    }

    /// Its numbers.
    pub fn tick(&self) -> &Tick {
        &self.tick
    }

    fn text(&self, part: Part) -> &str {
        match part {
            Part::All => self.whole.get_or_init(|| text(&self.tick)),
            Part::Services => self.services.get_or_init(|| {
                let (hosts, instances) = (HostColumns::default(), InstanceColumns::default());
                let layout = self.scene.part(Part::Services).0.to_owned();
                text(&Tick { layout, hosts, instances, ..self.tick.clone() })
            }),
        }
    }
}

/// How much of it a viewer wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Part {
    All,
    Services,
}

/// What a viewer asks for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    only: Option<Part>,
}

/// One viewer.
struct Viewer {
    app: App,
    part: Part,
    rhythm: Interval,
    layout: String,
    waiting: VecDeque<Event>,
}

impl Viewer {
    async fn next(&mut self) -> Option<Event> {
        if let Some(event) = self.waiting.pop_front() {
            return Some(event);
        }
        self.rhythm.tick().await;
        let frame = self.app.live.frame(&self.app.control, &self.app.incidents).await.ok()?;
        let (number, layout) = frame.scene.part(self.part);
        if self.layout != number {
            number.clone_into(&mut self.layout);
            self.waiting.push_back(Event::default().event("layout").data(layout));
        }
        self.waiting.push_back(Event::default().event("tick").data(frame.text(self.part)));
        self.waiting.pop_front()
    }
}

/// The fleet, live.
#[utoipa::path(get, path = "/v1/live",
    params(("only" = Option<String>, Query, description = "`services`: neither hosts nor instances; `all` unless said")),
    responses((status = 200, content_type = "text/event-stream", body = Tick, description = "events `layout` and `tick`")))]
pub async fn stream(State(app): State<App>, Params(wish): Params<Wish>) -> Result<Events, Failure> {
    let mut rhythm = interval(Duration::from_millis(TICK_MS));
    rhythm.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let part = wish.only.unwrap_or(Part::All);
    let viewer = Viewer { app, part, rhythm, layout: String::new(), waiting: VecDeque::new() };
    Ok(live(futures_util::stream::unfold(viewer, |mut viewer| async move {
        let event = viewer.next().await?;
        Some((Ok(event), viewer))
    })))
}
