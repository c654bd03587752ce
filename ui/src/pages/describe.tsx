// One service, instance or host: its numbers over time, what the server says of it, and what calls what.
import { createResource, createMemo, For, type JSX, Show } from "solid-js";
import { blobUrl, get } from "../api";
import { count, ms, percent } from "../format";
import { frame, history } from "../live";
import { expand, protect } from "../parts/dialogs";
import { Plot } from "../parts/plot";
import type { Column, Description, Tick } from "../types";

/** Time between looks at the description, in milliseconds: it holds intent, which changes seldom. */
const REFRESH_MS = 5_000;
const KIND: Record<string, string> = { services: "service", instances: "instance", hosts: "host" };

interface Curve { operation: string; service: string; host_type: string; capacity_rps: number }

export function DescribePage(props: { kind: string; name: string }): JSX.Element {
  const beat = createMemo(() => Math.floor((frame()?.tick.at ?? 0) / REFRESH_MS));
  const [told] = createResource(() => [props.kind, props.name, beat()] as const, ([kind, name]) => get<Description>(`/v1/describe/${KIND[kind]}/${encodeURIComponent(name)}`).catch((error: Error) => ({ title: error.message, sections: [] })));
  return (
    <article class="page">
      <div class="title">
        <h1>{props.name}</h1>
        <Show when={props.kind === "services"}>
          <button onClick={() => expand(props.name, wanted(props.name) + 1)}>Expand</button>
          <button onClick={() => protect(props.name)}>Protect</button>
        </Show>
      </div>
      <Show when={props.kind === "services"}><Edges name={props.name} /></Show>
      <Numbers kind={props.kind} name={props.name} />
      <Show when={props.kind === "services"}><Curves name={props.name} /></Show>
      <For each={told.latest?.sections ?? []}>
        {(section) => (
          <section class="card">
            <h2>{section.title}</h2>
            <div class="wide">
              <table>
                <Show when={section.head.length > 0}><thead><tr><For each={section.head}>{(head) => <th>{head}</th>}</For></tr></thead></Show>
                <tbody><For each={section.rows}>{(row) => <tr><For each={row}>{(cell) => <td>{cell}</td>}</For></tr>}</For></tbody>
              </table>
            </div>
          </section>
        )}
      </For>
      <Show when={told.latest && told.latest.sections.length === 0}><p class="bad">{told.latest!.title}</p></Show>
    </article>
  );
}

const index = (kind: "services" | "instances" | "hosts", name: string) => frame()!.layout[kind].findIndex((of) => of.name === name);
const wanted = (name: string) => frame()!.tick.services.wanted[index("services", name)] ?? 0;

function Numbers(props: { kind: string; name: string }): JSX.Element {
  const at = () => index(props.kind as "services", props.name);
  const over = (of: (tick: Tick) => Column) => {
    frame();
    return history.map((tick) => of(tick)[at()] ?? null);
  };
  const times = () => {
    frame();
    return history.map((tick) => tick.at / 1000);
  };
  const rate = (title: string, lines: [string, string, (tick: Tick) => Column][], show: (value: number) => string) => (
    <Plot title={title} data={() => [times(), ...lines.map(([, , of]) => over(of))]} lines={lines.map(([label, colour]) => ({ label, colour, show }))} />
  );
  const [blue, amber, red, teal] = ["#8b9bb4", "#f2b134", "#e0335b", "#2f9e8f"] as const;
  return (
    <section class="card plots">
      <Show when={props.kind === "services"}>
        {rate("requests a second", [["offered", blue, (t) => t.services.rps], ["rejected", amber, (t) => t.services.rejected_rps], ["failed", red, (t) => t.services.failed_rps]], count)}
        {rate("latency", [["p50", teal, (t) => t.services.p50_ms], ["p99", amber, (t) => t.services.p99_ms]], ms)}
        {rate("CPU, of what it may use", [["CPU", teal, (t) => t.services.cpu]], percent)}
      </Show>
      <Show when={props.kind === "instances"}>
        {rate("requests a second", [["requests", blue, (t) => t.instances.rps]], count)}
        {rate("latency", [["p99", amber, (t) => t.instances.p99_ms]], ms)}
        {rate("CPU and memory, of its limits", [["CPU", teal, (t) => t.instances.cpu], ["memory", blue, (t) => t.instances.memory]], percent)}
      </Show>
      <Show when={props.kind === "hosts"}>
        {rate("CPU and memory, of the machine", [["CPU", teal, (t) => t.hosts.cpu], ["memory", blue, (t) => t.hosts.memory]], percent)}
      </Show>
    </section>
  );
}

/** Who calls it, and whom it calls: one step each way, never the whole mesh. */
function Edges(props: { name: string }): JSX.Element {
  const callers = () => frame()!.layout.services.filter((of) => of.calls.includes(props.name)).map((of) => of.name);
  const calls = () => frame()!.layout.services.find((of) => of.name === props.name)?.calls ?? [];
  const side = (names: string[]) => (
    <div><For each={names} fallback={<span class="quiet">outside</span>}>{(name) => <a class="badge" href={`#/services/${encodeURIComponent(name)}`}>{name}</a>}</For></div>
  );
  return (
    <section class="card edges" aria-label="Calls">
      {side(callers())}<span aria-hidden="true">→</span><b class="badge">{props.name}</b><span aria-hidden="true">→</span>
      <Show when={calls().length > 0} fallback={<span class="quiet">calls nobody</span>}>{side(calls())}</Show>
    </section>
  );
}

function Curves(props: { name: string }): JSX.Element {
  const [curves] = createResource(() => props.name, (name) => get<Curve[]>(`/v1/curves?service=${encodeURIComponent(name)}`).catch(() => []));
  const [image] = createResource(() => curves()?.[0]?.operation, (operation) => blobUrl(`/v1/curves/${operation}/svg`));
  return (
    <Show when={(curves() ?? []).length > 0}>
      <section class="card">
        <h2>Curve</h2>
        <img class="curve" alt={`measured by ${curves()![0]!.operation}`} src={image()} />
      </section>
    </Show>
  );
}
