// The live feed: layout and ticks over server-sent events. Says plainly when what is shown is old.
// Deliberately absent: any guess at values between ticks.
import { createSignal } from "solid-js";
import type { Layout, Tick } from "./types";

/** Age from which the page calls itself stale, in milliseconds: six ticks. */
export const STALE_MS_MAX = 3_000;
/** Ticks kept in the page: five minutes. */
const HISTORY_MAX = 600;
/** Longest pause between attempts to connect again, in milliseconds. */
const RETRY_MS_MAX = 5_000;

export interface Frame {
  layout: Layout;
  tick: Tick;
}

const [frame, setFrame] = createSignal<Frame | null>(null);
const [age, setAge] = createSignal<number>(Number.POSITIVE_INFINITY);
const [refused, setRefused] = createSignal(false);

/** The newest frame. */
export { frame };
/** Milliseconds since the newest tick arrived. */
export { age };
/** True when the server wants a token. */
export { refused };
export const stale = () => age() > STALE_MS_MAX;

/** The last ticks, oldest first, of the present layout. */
export const history: Tick[] = [];

let layout: Layout | null = null;
let heardAt = 0;
let retryMs = 250;
let source: EventSource | null = null;

function hear(tick: Tick) {
  if (!layout || layout.number !== tick.layout) return;
  heardAt = performance.now();
  history.push(tick);
  if (history.length > HISTORY_MAX) history.shift();
  setAge(0);
  setFrame({ layout, tick });
  // For whoever measures the page: from the server's tick to the frame that shows it.
  requestAnimationFrame(() => performance.measure("tick-to-pixel", { start: tick.at - performance.timeOrigin }));
}

/** Opens the feed, again and again. */
export function connect() {
  source?.close();
  source = new EventSource("/v1/live");
  source.addEventListener("layout", (event) => {
    const next = JSON.parse(event.data) as Layout;
    // Columns follow a layout: those of another one cannot be compared with these.
    if (layout?.services.map((s) => s.name).join() !== next.services.map((s) => s.name).join()) history.length = 0;
    layout = next;
  });
  source.addEventListener("tick", (event) => {
    retryMs = 250;
    hear(JSON.parse(event.data) as Tick);
  });
  source.onerror = () => {
    source?.close();
    setTimeout(reconnect, retryMs);
    retryMs = Math.min(retryMs * 2, RETRY_MS_MAX);
  };
}

async function reconnect() {
  try {
    const answer = await fetch("/v1/status");
    setRefused(answer.status === 401);
    if (answer.status === 401) return;
  } catch {
    // The server is away: the page says how old it is, and tries again.
  }
  connect();
}

/** Gives the token of a person who logs in; true when it was right. */
export async function login(token: string): Promise<boolean> {
  const answer = await fetch("/v1/login", { method: "POST", headers: { authorization: `Bearer ${token}` } });
  if (!answer.ok) return false;
  setRefused(false);
  connect();
  return true;
}

setInterval(() => setAge(heardAt ? performance.now() - heardAt : Number.POSITIVE_INFINITY), 500);
// A browser that slept has missed ticks and may hold a dead connection.
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && heardAt && performance.now() - heardAt > STALE_MS_MAX) connect();
});
