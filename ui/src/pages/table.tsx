// Services, instances or hosts as a live table: sort by a head, filter by words, datacenter and state.
import { createMemo, createSignal, For, type JSX, Match, Show, Switch } from "solid-js";
import { poll } from "../ask";
import { count, ms, percent } from "../format";
import { frame } from "../live";
import { type ColumnOf, local, Rows } from "../parts/rows";
import { CPU_HIGH, Hosts, Instances, link } from "../parts/tables";
import { PHASES } from "../types";

interface Service { name: string; layer: string; business: string; rps: number | null; rejected: number | null; failed: number | null; p50: number | null; p99: number | null; cpu: number | null; healthy: number; wanted: number }

const SERVICE: ColumnOf<Service>[] = [
  { head: "service", text: (of) => of.name, sort: (of) => of.name, link: (of) => link("services", of.name) },
  { head: "layer", text: (of) => of.layer, sort: (of) => of.layer },
  { head: "business", text: (of) => of.business, sort: (of) => of.business },
  { head: "healthy", text: (of) => (of.layer === "external" ? "–" : `${of.healthy}/${of.wanted}`), sort: (of) => of.healthy - of.wanted, warn: (of) => of.healthy < of.wanted, number: true },
  { head: "req/s", text: (of) => count(of.rps), sort: (of) => of.rps, number: true },
  { head: "rejected/s", text: (of) => count(of.rejected), sort: (of) => of.rejected, warn: (of) => (of.rejected ?? 0) > 0, number: true },
  { head: "failed/s", text: (of) => count(of.failed), sort: (of) => of.failed, warn: (of) => (of.failed ?? 0) > 0.01 * (of.rps ?? 0), number: true },
  { head: "p50", text: (of) => ms(of.p50), sort: (of) => of.p50, number: true },
  { head: "p99", text: (of) => ms(of.p99), sort: (of) => of.p99, number: true },
  { head: "CPU", text: (of) => percent(of.cpu), sort: (of) => of.cpu, warn: (of) => (of.cpu ?? 0) > CPU_HIGH, number: true },
];

const HOST_STATES = ["connected", "lost", "unknown", "cordoned"];

export function TablePage(props: { of: string }): JSX.Element {
  const [words, setWords] = createSignal("");
  const [datacenter, setDatacenter] = createSignal("");
  const [state, setState] = createSignal("");
  const [total, setTotal] = createSignal(0);
  const datacenters = poll<{ resource: { name: string } }[]>(() => (props.of === "services" ? null : "/v1/resources/datacenters"), 60_000);
  const filter = createMemo(() => ({ words: words().toLowerCase().trim() || undefined, datacenter: datacenter() || undefined, state: state() || undefined }));
  const services = createMemo(() => (props.of === "services" ? all().filter((row) => fits(row, words())) : []));
  const states = () => (props.of === "hosts" ? HOST_STATES : PHASES);
  const choice = (label: string, first: string, options: string[], set: (value: string) => void) => (
    <select aria-label={label} onChange={(event) => set(event.currentTarget.value)}>
      <option value="">{first}</option>
      <For each={options}>{(name) => <option>{name}</option>}</For>
    </select>
  );
  return (
    <section class="card page">
      <h1>{props.of}</h1>
      <div class="choices">
        <input type="search" placeholder="words that must all be there" aria-label="Filter" value={words()} onInput={(event) => setWords(event.currentTarget.value)} />
        <Show when={props.of !== "services"}>
          {choice("Datacenter", "all datacenters", (datacenters.answer()?.value ?? []).map((of) => of.resource.name), setDatacenter)}
          {choice("State", "any state", states(), setState)}
        </Show>
        <span class="quiet" role="status">{(props.of === "services" ? services().length : total()).toLocaleString()} {props.of}</span>
      </div>
      <Switch>
        <Match when={props.of === "services"}><Rows label="Services" source={local(services, SERVICE, [4, true])} columns={SERVICE} sortBy={[4, true]} /></Match>
        <Match when={props.of === "instances"}><Instances filter={filter} total={setTotal} /></Match>
        <Match when={props.of === "hosts"}><Hosts filter={filter} total={setTotal} /></Match>
      </Switch>
    </section>
  );
}

function fits(row: Service, words: string): boolean {
  const text = `${row.name} ${row.layer} ${row.business}`;
  return words.toLowerCase().split(/\s+/).every((word) => text.includes(word));
}

function all(): Service[] {
  const { layout, tick } = frame()!;
  const at = <T,>(column: (T | null)[], index: number) => column[index] ?? null;
  const c = tick.services;
  return layout.services.map(({ name, layer, business }, i) => ({
    name, layer, business, rps: at(c.rps, i), rejected: at(c.rejected_rps, i), failed: at(c.failed_rps, i),
    p50: at(c.p50_ms, i), p99: at(c.p99_ms, i), cpu: at(c.cpu, i), healthy: c.healthy[i] ?? 0, wanted: c.wanted[i] ?? 0,
  }));
}
