// The ribbon under the navigation: what night it is, how long until it begins, and whether the page can be believed.
import { For, type JSX, Show } from "solid-js";
import { clock, count, span } from "../format";
import { age, frame, refused, stale } from "../live";
import { countdown, phase } from "../when";

const EVENTS_MAX = 3;

export function Ribbon(): JSX.Element {
  const now = () => frame()?.tick.at ?? Date.now();
  const events = () => (frame()?.layout.events ?? []).filter((event) => phase(event, now()) !== "gone").slice(0, EVENTS_MAX);
  const going = () => (frame()?.tick.incidents ?? []).filter((of) => of.ended_at === null).length;
  const word = () => (refused() ? "not logged in" : !stale() ? "live" : Number.isFinite(age()) ? `STALE: last word ${span(age())} ago` : "not connected");
  return (
    <div class="ribbon" role="region" aria-label="Now">
      <Show when={frame()}>
        <time class="clock">{clock(now())}</time>
        <For each={events().map((of) => of.name)}>
          {(name) => {
            const of = () => events().find((event) => event.name === name);
            return (
              <Show when={of()}>
                {(event) => (
                  <a class="badge event" data-phase={phase(event(), now())} href={`#/events/${encodeURIComponent(name)}`}>
                    <b>{name}</b> {countdown(event(), now())} · {count(event().entry_rps)}/s expected
                  </a>
                )}
              </Show>
            );
          }}
        </For>
        <Show when={events().length === 0}><span class="quiet">no event is planned</span></Show>
        <Show when={going() > 0}><a class="badge bad" href="#/incidents">{going() === 1 ? "1 incident" : `${going()} incidents`}</a></Show>
        <Show when={frame()!.tick.detection_trouble}>{(why) => <span class="badge bad" role="alert">{why()}</span>}</Show>
        <Show when={!frame()!.tick.settled}>
          <span class="badge warn" title="Nothing is repaired before a quorum of agents has reported">
            the server has just started: agents are still reporting
          </span>
        </Show>
      </Show>
      <span class="badge live" classList={{ bad: stale() }} role="status">{word()}</span>
    </div>
  );
}
