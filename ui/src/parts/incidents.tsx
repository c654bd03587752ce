// Incidents: what is wrong, since when, how far it reaches, the probable cause and the evidence for it, and what helps.
import { createEffect, createMemo, createRoot, createSignal, For, type JSX, Show } from "solid-js";
import { del, post } from "../api";
import { poll } from "../ask";
import { clock, span } from "../format";
import { hot } from "../hot";
import { frame } from "../live";
import { Reach } from "../reach";
import type { Incident, LiveIncident } from "../types";
import { expand, protect, silence } from "./dialogs";

/** Time between questions for where incidents reach, in milliseconds. */
const REFRESH_MS = 2_000;
/** Incidents shown in the room; all are on their page. */
const SHOWN_MAX = 5;
/** Incidents whose reach is painted. */
const DETAILS_MAX = 50;

const [details, setDetails] = createSignal<Incident[]>([]);
const reach = createRoot(() => createMemo(() => new Reach(details())));
/** Where the incidents that go on reach. */
export { reach as reached };

const going = () => (frame()!.tick.incidents ?? []).filter((of) => of.ended_at === null);

export function Incidents(props: { all?: boolean }): JSX.Element {
  const shown = () => (props.all ? (frame()!.tick.incidents ?? []) : going().slice(0, SHOWN_MAX));
  const ids = createMemo(() => shown().map((of) => of.id).join());
  const whole = poll<Incident[]>(() => (going().length > 0 ? `/v1/incidents?limit=${DETAILS_MAX}` : null), REFRESH_MS);
  createEffect(() => setDetails(going().length > 0 ? (whole.answer()?.value ?? []).filter((of) => of.ended_at === null) : []));
  const none = () => (frame()!.tick.incidents === undefined ? "This server does not watch for incidents." : props.all ? "None in the last quarter of an hour." : "None.");
  return (
    <section class="card incidents" aria-label="Incidents">
      <h2>Incidents <Show when={going().length > 0}><span class="badge bad">{going().length} going on</span></Show></h2>
      <Show when={ids() !== ""} fallback={<p class="quiet">{none()}</p>}>
        <For each={ids().split(",")}>
          {(id) => {
            const now = () => shown().find((of) => of.id === id);
            return <Show when={now()}>{(of) => <One of={of()} />}</Show>;
          }}
        </For>
      </Show>
      <Show when={!props.all && going().length > SHOWN_MAX}><p><a href="#/incidents">and {going().length - SHOWN_MAX} more</a></p></Show>
    </section>
  );
}

function One(props: { of: LiveIncident }): JSX.Element {
  const lasted = () => span((props.of.ended_at ?? frame()!.tick.at) - props.of.started_at);
  return (
    <article data-incident={props.of.id} data-state={props.of.state} data-severity={props.of.severity}>
      <h3><a href={`#/incidents/${props.of.id}`}>{props.of.title}</a></h3>
      <p class="reach">
        <span class="badge" classList={{ bad: props.of.severity === "critical" && props.of.ended_at === null }}>{props.of.severity}</span>{" "}
        {props.of.id}, {props.of.state}, {props.of.ended_at === null ? `for ${lasted()}` : `lasted ${lasted()}`}
        <Show when={props.of.acknowledged_by}>{(who) => <>, looked after by {who()}</>}</Show>
        <Show when={props.of.silenced_until}>{(until) => <>, silenced until {clock(until())}</>}</Show>
      </p>
      <p class="reach">{props.of.reach.join(" · ")}</p>
      <Causes causes={props.of.causes} />
      <Show when={props.of.ended_at === null}><Acts of={props.of} /></Show>
    </article>
  );
}

/** Probable causes, best first, each with why it is believed. */
export function Causes(props: { causes: LiveIncident["causes"] }): JSX.Element {
  return (
    <ol class="causes">
      <For each={props.causes}>
        {(cause) => (
          <li>
            <b>{cause.what}</b> <small>{Math.round(cause.confidence * 100)}%</small>
            <Show when={cause.evidence.length > 0}><ul><For each={cause.evidence}>{(text) => <li>{text}</li>}</For></ul></Show>
          </li>
        )}
      </For>
    </ol>
  );
}

/** What an operator does about one: take it over, keep it quiet, expand or protect the service concerned. */
export function Acts(props: { of: Pick<LiveIncident, "id" | "state" | "causes" | "title" | "silenced_until"> }): JSX.Element {
  const [failed, setFailed] = createSignal("");
  // One of a rule has no cause: what it reaches first is what it is about.
  const service = () => props.of.causes.find((cause) => cause.service)?.service ?? details().find((of) => of.id === props.of.id)?.services[0] ?? null;
  const known = () => frame()!.layout.services.find((of) => of.name === service() && of.layer !== "external");
  const suggested = (name: string) => hot(frame()!.layout, frame()!.tick).find((of) => of.service === name)?.suggested ?? 1;
  const done = (asked: Promise<unknown>) => asked.then(() => setFailed(""), (error: Error) => setFailed(error.message));
  const acknowledge = () => done(post(`/v1/incidents/${props.of.id}/ack`));
  const unsilence = () => done(del(`/v1/incidents/${props.of.id}/silence`));
  return (
    <p class="acts">
      <Show when={known()}>
        {(of) => (
          <>
            <button onClick={() => expand(of().name, suggested(of().name))}>Expand {of().name}</button>
            <button onClick={() => protect(of().name)}>Protect {of().name}</button>
          </>
        )}
      </Show>
      <Show when={props.of.state === "open"}><button onClick={acknowledge}>Acknowledge</button></Show>
      <button onClick={() => silence(props.of.id, props.of.title)}>Silence</button>
      <Show when={props.of.silenced_until}><button onClick={unsilence}>End the silence</button></Show>
      <Show when={failed()}><span role="alert" class="bad">{failed()}</span></Show>
    </p>
  );
}
