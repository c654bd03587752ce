// The live feed: layout and ticks over server-sent events. Says plainly when what is shown is old.
// Deliberately absent: any guess at values between ticks.
import { createSignal } from "solid-js";
import { setToken, who } from "./api";
import { type Moment, remember } from "./past";
import { type Block, Blocks, Lateness, newest } from "./stream";
import type { Layout, Tick } from "./types";

/** Age from which the page calls itself stale, in milliseconds: six ticks. */
export const STALE_MS_MAX = 3_000;
/** A page out of sight for this long gives its feed up, in milliseconds: nobody reads it. */
const UNSEEN_MS_MAX = 30_000;
/** Shortest and longest pause between attempts to connect again, in milliseconds. */
const RETRY_MS = [250, 5_000] as const;

export interface Frame {
  layout: Layout;
  tick: Tick;
  /** True when hosts and instances are part of it. */
  whole: boolean;
}

export type Part = "all" | "services";

const [frame, setFrame] = createSignal<Frame | null>(null);
const [age, setAge] = createSignal<number>(Number.POSITIVE_INFINITY);
const [refused, setRefused] = createSignal<"" | "asked" | "wrong">("");

/** The newest frame. */
export { frame };
/** Milliseconds since the newest tick was made. */
export { age };
/** Says whether the server wants a token, or another one. */
export { refused };
export const stale = () => age() > STALE_MS_MAX;

/** The last minutes of the services of the present layout, oldest first. */
export const past: Moment[] = [];

let layout: Layout | null = null;
let part: Part = "services";
let heardAt = 0;
let late = 0;
let retryMs: number = RETRY_MS[0];
let feed: AbortController | null = null;
let unseen: ReturnType<typeof setTimeout> | undefined;
const lateness = new Lateness();

/** Asks for as much as a page needs: hosts and instances only where they are painted. */
export function want(next: Part) {
  if (part === next) return;
  part = next;
  if (feed) connect();
}

function hear(tick: Tick, whole: boolean) {
  if (!layout || layout.number !== tick.layout) return;
  heardAt = performance.now();
  late = lateness.heard(tick.at, performance.timeOrigin + heardAt);
  remember(past, tick);
  setAge(late);
  setFrame({ layout, tick, whole });
  // For whoever measures the page: from the server's tick to the frame that shows it.
  requestAnimationFrame(() => performance.measure("tick-to-pixel", { start: Math.max(0, tick.at - performance.timeOrigin) }));
}

/** Opens the feed, again and again: `EventSource` cannot say who asks, so the stream is read here. */
export async function connect() {
  feed?.abort();
  const own = (feed = new AbortController());
  const asked = part;
  try {
    const answer = await fetch(`/v1/live?only=${asked}`, { headers: who(), signal: own.signal });
    setRefused(answer.status !== 401 ? "" : who().authorization ? "wrong" : "asked");
    if (answer.status === 401) return;
    if (answer.ok && answer.body) await read(answer.body, asked === "all", own.signal);
  } catch {
    // The server is away, or this feed was given up: the page says how old it is.
  }
  if (feed !== own || own.signal.aborted) return;
  setTimeout(() => feed === own && connect(), retryMs);
  retryMs = Math.min(retryMs * 2, RETRY_MS[1]);
}

/** Reads server-sent events until the stream ends. */
async function read(body: ReadableStream<Uint8Array>, whole: boolean, signal: AbortSignal) {
  const [reader, decoder, blocks] = [body.getReader(), new TextDecoder(), new Blocks()];
  for (;;) {
    const { done, value } = await reader.read();
    if (done || signal.aborted) return;
    newest(blocks.take(decoder.decode(value, { stream: true }))).forEach((of) => event(of, whole));
  }
}

function event({ event, data }: Block, whole: boolean) {
  if (event === "layout") {
    const next = JSON.parse(data) as Layout;
    // Columns follow a layout: those of another one cannot be compared with these.
    if (layout?.services.map((s) => s.name).join() !== next.services.map((s) => s.name).join()) past.length = 0;
    layout = next;
  } else if (event === "tick") {
    retryMs = RETRY_MS[0];
    hear(JSON.parse(data) as Tick, whole);
  }
}

/** Gives the token of a person who logs in; says what was wrong with it, or nothing. */
export async function login(token: string): Promise<string> {
  let answer: Response;
  try {
    answer = await fetch("/v1/status", { headers: { authorization: `Bearer ${token}` } });
  } catch {
    return "The server does not answer: is it still running, and is the way to it open?";
  }
  if (answer.status === 401) return "This token is wrong.";
  if (!answer.ok) return `The server answers ${answer.status}: ${await answer.text()}`;
  setToken(token);
  setRefused("");
  connect();
  return "";
}

/** Forgets the token in this tab. */
export function logout() {
  setToken("");
  feed?.abort();
  heardAt = 0;
  setFrame(null);
  setRefused("asked");
}

function sleep() {
  feed?.abort();
  feed = null;
}

/** A page that slept holds a dead feed or none; what it missed is not made up for. */
function wake() {
  clearTimeout(unseen);
  if (refused()) return;
  if (!feed || performance.now() - heardAt > STALE_MS_MAX) {
    retryMs = RETRY_MS[0];
    connect();
  }
}

/** Starts the feed, and lets it go while nobody can see the page. */
export function start() {
  connect();
  setInterval(() => setAge(heardAt ? performance.now() - heardAt + late : Number.POSITIVE_INFINITY), 500);
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) unseen = setTimeout(sleep, UNSEEN_MS_MAX);
    else wake();
  });
  document.addEventListener("freeze", sleep);
  document.addEventListener("resume", wake);
}
