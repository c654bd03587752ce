// Services, instances or hosts as a live table: sort by a head, filter by words.
import { createMemo, createSignal, type JSX, Match, Switch } from "solid-js";
import { count, ms, percent } from "../format";
import { frame } from "../live";
import { type ColumnOf, Rows } from "../parts/rows";
import { PHASES } from "../types";

const link = (kind: string, name: string) => `#/${kind}/${encodeURIComponent(name)}`;

interface Service { name: string; layer: string; business: string; rps: number | null; rejected: number | null; failed: number | null; p50: number | null; p99: number | null; cpu: number | null; healthy: number; wanted: number }
interface Instance { name: string; service: string; host: string; phase: string; rps: number | null; p99: number | null; errors: number | null; cpu: number | null; memory: number | null }
interface Host { name: string; datacenter: string; rack: string; state: string; cpu: number | null; memory: number | null; given: number | null }

const SERVICE: ColumnOf<Service>[] = [
  { head: "service", text: (of) => of.name, link: (of) => link("services", of.name) },
  { head: "layer", text: (of) => of.layer },
  { head: "business", text: (of) => of.business },
  { head: "healthy", text: (of) => `${of.healthy}/${of.wanted}`, sort: (of) => of.healthy - of.wanted, warn: (of) => of.healthy < of.wanted },
  { head: "req/s", text: (of) => count(of.rps), sort: (of) => of.rps },
  { head: "rejected/s", text: (of) => count(of.rejected), sort: (of) => of.rejected, warn: (of) => (of.rejected ?? 0) > 0 },
  { head: "failed/s", text: (of) => count(of.failed), sort: (of) => of.failed, warn: (of) => (of.failed ?? 0) > 0 },
  { head: "p50", text: (of) => ms(of.p50), sort: (of) => of.p50 },
  { head: "p99", text: (of) => ms(of.p99), sort: (of) => of.p99 },
  { head: "CPU", text: (of) => percent(of.cpu), sort: (of) => of.cpu, warn: (of) => (of.cpu ?? 0) > 0.66 },
];

const INSTANCE: ColumnOf<Instance>[] = [
  { head: "instance", text: (of) => of.name, link: (of) => link("instances", of.name) },
  { head: "service", text: (of) => of.service, link: (of) => link("services", of.service) },
  { head: "host", text: (of) => of.host, link: (of) => link("hosts", of.host) },
  { head: "state", text: (of) => of.phase, warn: (of) => ["unhealthy", "backoff", "failed"].includes(of.phase) },
  { head: "req/s", text: (of) => count(of.rps), sort: (of) => of.rps },
  { head: "p99", text: (of) => ms(of.p99), sort: (of) => of.p99 },
  { head: "errors", text: (of) => percent(of.errors), sort: (of) => of.errors, warn: (of) => (of.errors ?? 0) > 0.01 },
  { head: "CPU", text: (of) => percent(of.cpu), sort: (of) => of.cpu, warn: (of) => (of.cpu ?? 0) > 0.66 },
  { head: "memory", text: (of) => percent(of.memory), sort: (of) => of.memory, warn: (of) => (of.memory ?? 0) > 0.9 },
];

const HOST: ColumnOf<Host>[] = [
  { head: "host", text: (of) => of.name, link: (of) => link("hosts", of.name) },
  { head: "datacenter", text: (of) => of.datacenter },
  { head: "rack", text: (of) => of.rack },
  { head: "state", text: (of) => of.state, warn: (of) => of.state.startsWith("lost") },
  { head: "CPU", text: (of) => percent(of.cpu), sort: (of) => of.cpu, warn: (of) => (of.cpu ?? 0) > 0.66 },
  { head: "memory", text: (of) => percent(of.memory), sort: (of) => of.memory },
  { head: "given", text: (of) => percent(of.given), sort: (of) => of.given },
];

export function TablePage(props: { of: string }): JSX.Element {
  const [words, setWords] = createSignal("");
  const keep = (row: object) => {
    const text = Object.values(row).filter((value) => typeof value === "string").join(" ").toLowerCase();
    return words().toLowerCase().split(/\s+/).every((word) => text.includes(word));
  };
  const rows = createMemo(() => all(props.of).filter(keep));
  return (
    <section class="card page">
      <h1>{props.of}</h1>
      <input type="search" placeholder="filter: words that must all be there" aria-label="Filter" value={words()} onInput={(event) => setWords(event.currentTarget.value)} />
      <span class="quiet"> {rows().length} shown</span>
      <Switch>
        <Match when={props.of === "services"}><Rows label="Services" rows={rows() as Service[]} columns={SERVICE} sortBy={4} /></Match>
        <Match when={props.of === "instances"}><Rows label="Instances" rows={rows() as Instance[]} columns={INSTANCE} sortBy={7} /></Match>
        <Match when={props.of === "hosts"}><Rows label="Hosts" rows={rows() as Host[]} columns={HOST} sortBy={4} /></Match>
      </Switch>
    </section>
  );
}

function all(of: string): object[] {
  const { layout, tick } = frame()!;
  const at = <T,>(column: (T | null)[], index: number) => column[index] ?? null;
  if (of === "services") {
    const c = tick.services;
    return layout.services.map(({ name, layer, business }, i): Service => ({
      name, layer, business, rps: at(c.rps, i), rejected: at(c.rejected_rps, i), failed: at(c.failed_rps, i),
      p50: at(c.p50_ms, i), p99: at(c.p99_ms, i), cpu: at(c.cpu, i), healthy: c.healthy[i] ?? 0, wanted: c.wanted[i] ?? 0,
    }));
  }
  if (of === "instances") {
    const c = tick.instances;
    return layout.instances.map((instance, i): Instance => ({
      name: instance.name, service: layout.services[instance.service]!.name, host: layout.hosts[instance.host]!.name,
      phase: PHASES[c.phase[i] ?? 0]!, rps: at(c.rps, i), p99: at(c.p99_ms, i), errors: at(c.errors, i), cpu: at(c.cpu, i), memory: at(c.memory, i),
    }));
  }
  const c = tick.hosts;
  return layout.hosts.map((host, i): Host => {
    const state = c.state[i] ?? 0;
    const word = ["unknown", "connected", "lost"][state % 4]!;
    return { ...host, state: state >= 4 ? `${word}, cordoned` : word, cpu: at(c.cpu, i), memory: at(c.memory, i), given: at(c.given, i) };
  });
}
