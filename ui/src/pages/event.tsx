// One event: when, how large, what it needs, and what is short.
import { createResource, For, type JSX, Show } from "solid-js";
import { go } from "../app";
import { post } from "../api";
import { count, date, percent } from "../format";
import { frame } from "../live";
import { sure } from "../parts/dialogs";
import { CPU_HIGH, link } from "../parts/tables";
import { countdown } from "../when";

interface Size {
  event: string;
  services: { service: string; load_rps: number; capacity_rps: number | null; basis: string; now: Record<string, number>; needed: Record<string, number>; utilisation: number; utilisation_one_lost: number }[];
  shortages: string[];
}

const counts = (of: Record<string, number>) => Object.entries(of).map(([at, n]) => `${at} ${n}`).join(", ") || "–";
const sum = (of: Record<string, number>) => Object.values(of).reduce((all, n) => all + n, 0);
const when = (at: string | null) => (at ? date(Date.parse(at)) : "not set");

/** What follows from the capacity of one instance, which only a stress test tells. */
function Known(props: { of: { capacity_rps: number | null }; text: string }): JSX.Element {
  return <Show when={props.of.capacity_rps !== null} fallback={<span class="quiet">not measured</span>}>{props.text}</Show>;
}

export function EventPage(props: { name: string }): JSX.Element {
  const event = () => frame()!.layout.events.find((of) => of.name === props.name);
  const [size, { refetch }] = createResource(() => props.name, (event) => post<Size>("/v1/size", { event }));
  const changes = (of: Size) => of.services.filter((s) => sum(s.needed) !== sum(s.now));
  const scale = (of: Size) =>
    sure(
      `Scale to what ${props.name} needs`,
      `One operation for each of ${changes(of).length} services, in six steps with gray release: ${changes(of).map((s) => `${s.service} from ${sum(s.now)} to ${sum(s.needed)}`).join(", ")}.`,
      "Start",
      () => post("/v1/size", { event: props.name, apply: true }).then(() => go("operations")),
    );
  return (
    <article class="page">
      <div class="title"><h1>{props.name}</h1></div>
      <Show when={event()} fallback={<p class="bad">There is no event {props.name}.</p>}>
        {(of) => (
          <dl class="card figures">
            <div><dt>countdown</dt><dd>{countdown(of(), frame()!.tick.at)}</dd></div>
            <div><dt>begins</dt><dd>{when(of().starts_at)}</dd></div>
            <div><dt>ends</dt><dd>{when(of().ends_at)}</dd></div>
            <div><dt>expected at the entry</dt><dd>{count(of().entry_rps)}/s</dd></div>
            <div><dt>business</dt><dd>{of().business}</dd></div>
          </dl>
        )}
      </Show>
      <section class="card">
        <h2>What it needs</h2>
        <Show when={!size.error} fallback={<p class="bad">{String(size.error?.message)}</p>}>
          <Show when={size.latest} fallback={<p class="quiet">Sizing…</p>}>
            {(of) => (
              <>
                <div class="wide" tabIndex={0} role="region" aria-label="Sizes">
                  <table>
                    <thead><tr><th>service</th><th class="number">load</th><th class="number">one bears</th><th>now</th><th>needed</th><th class="number">utilisation</th><th class="number">one datacenter lost</th><th>basis</th></tr></thead>
                    <tbody>
                      <For each={of().services}>
                        {(s) => <tr><td><a href={link("services", s.service)}>{s.service}</a></td><td class="number">{count(s.load_rps)}/s</td><td class="number"><Known of={s} text={`${count(s.capacity_rps)}/s`} /></td><td>{counts(s.now)}</td><td classList={{ warn: sum(s.needed) > sum(s.now) }}><Known of={s} text={counts(s.needed)} /></td><td class="number"><Known of={s} text={percent(s.utilisation)} /></td><td class="number" classList={{ warn: s.utilisation_one_lost > CPU_HIGH }}><Known of={s} text={percent(s.utilisation_one_lost)} /></td><td>{s.basis.replaceAll("_", " ")}</td></tr>}
                      </For>
                    </tbody>
                  </table>
                </div>
                <For each={of().shortages} fallback={<p>Nothing is short.</p>}>{(why) => <p class="bad">{why}</p>}</For>
                <div class="buttons"><button onClick={() => refetch()}>Size again</button><button class="primary" disabled={changes(of()).length === 0} onClick={() => scale(of())}>Scale to it</button></div>
              </>
            )}
          </Show>
        </Show>
      </section>
    </article>
  );
}
