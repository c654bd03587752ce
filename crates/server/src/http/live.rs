//! The war room's live feed: two frames a second, made once for all who look, and only while somebody looks.

mod layout;
mod tick;

use super::App;
use super::problem::Failure;
use super::watch::{Events, live};
use crate::clock::now_ms;
use crate::control_loop::{Ended, Loop};
use api::live::{Layout, Tick};
use axum::extract::State;
use axum::response::sse::Event;
use model::UnixMs;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// Time between ticks: half of that between samples, so that none waits long to be seen.
const TICK_MS: u64 = 500;
/// Age up to which a frame made for another viewer is as good as a new one.
const SHARED_MS_MAX: u64 = 250;

/// What a viewer is sent: texts, so that many viewers cost one serialisation.
struct Frame {
    at: UnixMs,
    number: String,
    layout: String,
    tick: String,
}

/// The newest frame.
#[derive(Default)]
pub struct Live {
    newest: Mutex<Option<Arc<Frame>>>,
}

impl Live {
    async fn frame(&self, control: &Loop) -> Result<Arc<Frame>, Ended> {
        let mut newest = self.newest.lock().await;
        if let Some(frame) = newest.as_ref().filter(|frame| frame.at + SHARED_MS_MAX > now_ms()) {
            return Ok(Arc::clone(frame));
        }
        let (layout, tick) = control
            .read(|world| {
                let layout = layout::layout(world);
                let tick = tick::tick(world, &layout, now_ms());
                (layout, tick)
            })
            .await?;
        let frame = Arc::new(Frame::of(&layout, &tick));
        *newest = Some(Arc::clone(&frame));
        Ok(frame)
    }
}

impl Frame {
    fn of(layout: &Layout, tick: &Tick) -> Self {
        let text = |value: serde_json::Result<String>| value.expect("names and numbers make JSON");
        Self {
            at: tick.at,
            number: layout.number.clone(),
            layout: text(serde_json::to_string(layout)),
            tick: text(serde_json::to_string(tick)),
        }
    }
}

/// One viewer.
struct Viewer {
    app: App,
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
        let frame = self.app.live.frame(&self.app.control).await.ok()?;
        if self.layout != frame.number {
            self.layout.clone_from(&frame.number);
            self.waiting.push_back(Event::default().event("layout").data(&frame.layout));
        }
        self.waiting.push_back(Event::default().event("tick").data(&frame.tick));
        self.waiting.pop_front()
    }
}

/// The fleet, live.
#[utoipa::path(get, path = "/v1/live", responses(
    (status = 200, content_type = "text/event-stream", body = Tick, description = "events `layout` and `tick`")))]
pub async fn stream(State(app): State<App>) -> Result<Events, Failure> {
    let mut rhythm = interval(Duration::from_millis(TICK_MS));
    rhythm.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let viewer = Viewer { app, rhythm, layout: String::new(), waiting: VecDeque::new() };
    Ok(live(futures_util::stream::unfold(viewer, |mut viewer| async move {
        let event = viewer.next().await?;
        Some((Ok(event), viewer))
    })))
}
