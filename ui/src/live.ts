// The live feed: layout and ticks over server-sent events. Says plainly when what is shown is old.
// Deliberately absent: any guess at values between ticks.
import { createSignal } from "solid-js";
import { setToken, who } from "./api";
import type { Layout, Tick } from "./types";

/** Age from which the page calls itself stale, in milliseconds: six ticks. */
export const STALE_MS_MAX = 3_000;
/** Ticks kept in the page: five minutes. */
const HISTORY_MAX = 600;
/** Shortest pause between attempts to connect again, in milliseconds. */
const RETRY_MS_MIN = 250;
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
let retryMs = RETRY_MS_MIN;
let feed: AbortController | null = null;

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

/** Opens the feed, again and again: `EventSource` cannot say who asks, so the stream is read here. */
export async function connect() {
  feed?.abort();
  const own = (feed = new AbortController());
  try {
    const answer = await fetch("/v1/live", { headers: who(), signal: own.signal });
    setRefused(answer.status === 401);
    if (answer.status === 401) return;
    if (answer.ok && answer.body) await read(answer.body);
  } catch {
    // The server is away, or this feed was given up: the page says how old it is.
  }
  if (feed !== own) return;
  setTimeout(() => feed === own && connect(), retryMs);
  retryMs = Math.min(retryMs * 2, RETRY_MS_MAX);
}

/** Reads server-sent events until the stream ends. */
async function read(body: ReadableStream<Uint8Array>) {
  const [reader, decoder] = [body.getReader(), new TextDecoder()];
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += decoder.decode(value, { stream: true });
    let end: number;
    while ((end = text.indexOf("\n\n")) >= 0) {
      event(text.slice(0, end));
      text = text.slice(end + 2);
    }
  }
}

function event(block: string) {
  const field = (name: string) => block.split("\n").filter((line) => line.startsWith(`${name}: `)).map((line) => line.slice(name.length + 2)).join("\n");
  if (field("event") === "layout") {
    const next = JSON.parse(field("data")) as Layout;
    // Columns follow a layout: those of another one cannot be compared with these.
    if (layout?.services.map((s) => s.name).join() !== next.services.map((s) => s.name).join()) history.length = 0;
    layout = next;
  } else if (field("event") === "tick") {
    retryMs = RETRY_MS_MIN;
    hear(JSON.parse(field("data")) as Tick);
  }
}

/** Gives the token of a person who logs in; true when it was right. */
export async function login(token: string): Promise<boolean> {
  const answer = await fetch("/v1/status", { headers: { authorization: `Bearer ${token}` } });
  if (!answer.ok) return false;
  setToken(token);
  setRefused(false);
  connect();
  return true;
}

setInterval(() => setAge(heardAt ? performance.now() - heardAt : Number.POSITIVE_INFINITY), 500);
// A browser that slept has missed ticks and may hold a dead connection.
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && heardAt && performance.now() - heardAt > STALE_MS_MAX) connect();
});
