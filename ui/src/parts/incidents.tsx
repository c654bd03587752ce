// Incidents: what is wrong, since when, how far it reaches, the probable cause and the evidence for it.
import { createMemo, createResource, createSignal, For, type JSX, Show } from "solid-js";
import { get, post } from "../api";
import { span } from "../format";
import { frame } from "../live";
import { expand, protect } from "./dialogs";

export interface Incident {
  id: string;
  state: string;
  title: string;
  started_at: number;
  ended_at: number | null;
  reach: string[];
  causes: { what: string; confidence: number; evidence: string[]; service: string | null }[];
}

/** Time between questions, in milliseconds; a server that has no answer is asked again less often. */
const REFRESH_MS = 1_000;
const ABSENT_REFRESH_MS = 30_000;

export function Incidents(props: { all?: boolean }): JSX.Element {
  const [absent, setAbsent] = createSignal(false);
  const beat = createMemo(() => Math.floor((frame()?.tick.at ?? 0) / (absent() ? ABSENT_REFRESH_MS : REFRESH_MS)));
  const [list] = createResource(beat, () => get<Incident[]>("/v1/incidents").catch(() => null).then((found) => (setAbsent(found === null), found)));
  const shown = () => (list.latest ?? []).filter((of) => props.all || of.ended_at === null);
  return (
    <section class="card incidents" aria-label="Incidents">
      <h2>Incidents</h2>
      <For each={shown()} fallback={<p class="quiet">{list.latest === null ? "This server does not watch for incidents." : "None."}</p>}>
        {(of) => (
          <article data-incident={of.id} data-state={of.state}>
            <h3>{of.title} <small>{of.state}, {span((of.ended_at ?? frame()!.tick.at) - of.started_at)}</small></h3>
            <p class="reach">{of.reach.join(", ")}</p>
            <ol>
              <For each={of.causes.slice(0, 3)}>
                {(cause) => <li><b>{cause.what}</b> <small>{Math.round(cause.confidence * 100)}%</small><ul><For each={cause.evidence.slice(0, 4)}>{(text) => <li>{text}</li>}</For></ul></li>}
              </For>
            </ol>
            <Show when={of.ended_at === null}>
              <button disabled={of.state === "acknowledged"} onClick={() => post(`/v1/incidents/${of.id}/ack`)}>Acknowledge</button>
              <Show when={of.causes[0]?.service}>
                {(service) => <><button onClick={() => expand(service(), 1)}>Expand</button><button onClick={() => protect(service())}>Protect</button></>}
              </Show>
            </Show>
          </article>
        )}
      </For>
    </section>
  );
}
