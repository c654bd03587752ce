// One event: what it expects, what it needs, and what is short.
import { createResource, For, type JSX, Show } from "solid-js";
import { post } from "../api";
import { count, percent } from "../format";

interface Size {
  event: string;
  services: { service: string; load_rps: number; capacity_rps: number | null; basis: string; now: Record<string, number>; needed: Record<string, number>; utilisation: number; utilisation_one_lost: number }[];
  shortages: string[];
}

const counts = (of: Record<string, number>) => Object.entries(of).map(([at, n]) => `${at} ${n}`).join(", ") || "–";

export function EventPage(props: { name: string }): JSX.Element {
  const [size, { refetch }] = createResource(() => props.name, (event) => post<Size>("/v1/size", { event }));
  const apply = async () => {
    if (!confirm(`Start the scale operations that bring the fleet to the size ${props.name} needs?`)) return;
    await post("/v1/size", { event: props.name, apply: true });
    location.hash = "/operations";
  };
  return (
    <article class="card page">
      <h1>{props.name}</h1>
      <Show when={!size.error} fallback={<p class="bad">{String(size.error?.message)}</p>}>
        <Show when={size()} fallback={<p class="quiet">Sizing…</p>}>
          {(of) => (
            <>
              <table>
                <thead><tr><th>service</th><th>load</th><th>capacity of one</th><th>now</th><th>needed</th><th>utilisation</th><th>one datacenter lost</th><th>basis</th></tr></thead>
                <tbody>
                  <For each={of().services}>
                    {(s) => <tr><td><a href={`#/services/${s.service}`}>{s.service}</a></td><td>{count(s.load_rps)}/s</td><td>{count(s.capacity_rps)}/s</td><td>{counts(s.now)}</td><td>{counts(s.needed)}</td><td>{percent(s.utilisation)}</td><td classList={{ warn: s.utilisation_one_lost > 0.66 }}>{percent(s.utilisation_one_lost)}</td><td>{s.basis}</td></tr>}
                  </For>
                </tbody>
              </table>
              <For each={of().shortages} fallback={<p>Nothing is short.</p>}>{(why) => <p class="bad">{why}</p>}</For>
              <div class="buttons"><button onClick={() => refetch()}>Size again</button><button class="primary" onClick={apply}>Scale to it</button></div>
            </>
          )}
        </Show>
      </Show>
    </article>
  );
}
