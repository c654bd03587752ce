// The ribbon under the navigation: what night it is, how long until it begins, and whether the page can be believed.
import { For, type JSX, Show } from "solid-js";
import { clock, count, span } from "../format";
import { age, frame, stale } from "../live";
import type { LiveEvent } from "../types";

/** How long ended events stay in the ribbon, in milliseconds. */
const ENDED_SHOWN_MS = 3_600_000;

export function Ribbon(): JSX.Element {
  const now = () => frame()?.tick.at ?? Date.now();
  const events = () => (frame()?.layout.events ?? []).filter((event) => phase(event, now()) !== "gone").slice(0, 3);
  return (
    <div class="ribbon" role="status">
      <Show when={frame()}>
        <time class="clock">{clock(now())}</time>
        <For each={events()}>{(event) => <Countdown event={event} now={now()} />}</For>
        <Show when={events().length === 0}><span class="quiet">no event is planned</span></Show>
        <Show when={!frame()!.tick.settled}>
          <span class="badge warn" title="Nothing is repaired before a quorum of agents has reported">
            the server has just started: agents are still reporting
          </span>
        </Show>
      </Show>
      <span class="badge live" classList={{ bad: stale() }} aria-live="polite">
        {stale() ? (Number.isFinite(age()) ? `STALE: last word ${span(age())} ago` : "not connected") : "live"}
      </span>
    </div>
  );
}

function Countdown(props: { event: LiveEvent; now: number }): JSX.Element {
  const text = () => {
    const [start, end] = times(props.event);
    if (start !== null && start > props.now) return `begins in ${span(start - props.now)}`;
    if (end !== null && end > props.now) return `ends in ${span(end - props.now)}`;
    return start === null ? "no time is set" : "has ended";
  };
  return (
    <a class="badge event" data-phase={phase(props.event, props.now)} href={`#/events/${encodeURIComponent(props.event.name)}`}>
      <b>{props.event.name}</b> {text()} · {count(props.event.entry_rps)}/s expected
    </a>
  );
}

const times = (event: LiveEvent) => [event.starts_at, event.ends_at].map((at) => (at ? Date.parse(at) : null)) as [number | null, number | null];

function phase(event: LiveEvent, now: number): "ahead" | "on" | "ended" | "gone" {
  const [start, end] = times(event);
  if (start === null || start > now) return "ahead";
  if (end === null || end > now) return "on";
  return end + ENDED_SHOWN_MS > now ? "ended" : "gone";
}
