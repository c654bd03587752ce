// One instance or one host: its numbers over time, and what the server says of it.
import { type JSX, Show } from "solid-js";
import { poll, query } from "../ask";
import { bytes, count, ms, percent } from "../format";
import { Declared, Sections } from "../parts/sections";
import { CPU_HIGH, Instances, link, told as more } from "../parts/tables";
import { Lengths, Trend } from "../parts/trend";
import type { Description, HostRow, InstanceRow, RowsPage } from "../types";

/** Time between looks at the description, in milliseconds: it holds intent, which changes seldom. */
const REFRESH_MS = 5_000;

const cores = (value: number) => (value >= 10 ? value.toFixed(0) : value.toFixed(2));

export function InstancePage(props: { name: string }): JSX.Element {
  const told = poll<Description>(() => `/v1/describe/instance/${encodeURIComponent(props.name)}`, REFRESH_MS);
  const now = poll<RowsPage<InstanceRow>>(() => `/v1/rows/instances?${query({ name: props.name })}`, 1_000);
  const labels = () => ({ instance: props.name });
  return (
    <article class="page">
      <div class="title"><h1>{props.name}</h1></div>
      <Show when={told.failed()}><p role="alert" class="bad">{told.failed()}</p></Show>
      <Show when={now.answer()?.value.rows[0]}>
        {(of) => (
          <dl class="card figures">
            <div classList={{ bad: ["unhealthy", "backoff", "failed"].includes(of().state) }}><dt>state</dt><dd>{of().state}</dd></div>
            <div><dt>service</dt><dd><a href={link("services", of().service)}>{of().service}</a></dd></div>
            <div><dt>host</dt><dd><a href={link("hosts", of().host)}>{of().host}</a></dd></div>
            <div><dt>requests</dt><dd>{count(of().rps)}/s</dd></div>
            <div><dt>p99</dt><dd>{ms(of().p99_ms)}</dd></div>
            <div classList={{ bad: (of().errors ?? 0) > 0.01 }}><dt>errors</dt><dd>{percent(of().errors)}</dd></div>
            <div classList={{ warn: (of().cpu ?? 0) > CPU_HIGH }}><dt>CPU of its quota</dt><dd>{percent(of().cpu)}</dd></div>
            <div classList={{ warn: (of().memory ?? 0) > 0.9 }}><dt>memory of its limit</dt><dd>{percent(of().memory)}</dd></div>
          </dl>
        )}
      </Show>
      <section class="card" aria-label="Over time">
        <h2>Over time <Lengths /></h2>
        <div class="plots">
          <Trend title="requests a second" labels={labels()} lines={[{ metric: "springtide_instance_requests_per_second", label: "requests", colour: "--line-a", show: count }, { metric: "springtide_instance_errors_per_second", label: "errors", colour: "--line-d", show: count }]} />
          <Trend title="latency" labels={labels()} lines={[{ metric: "springtide_instance_latency_p50_seconds", label: "p50", colour: "--line-b", show: ms, scale: 1_000 }, { metric: "springtide_instance_latency_p99_seconds", label: "p99", colour: "--line-c", show: ms, scale: 1_000 }]} />
          <Trend title="CPU, cores" labels={labels()} lines={[{ metric: "springtide_slice_cpu_cores", label: "CPU", colour: "--line-b", show: cores }]} />
          <Trend title="memory" labels={labels()} lines={[{ metric: "springtide_slice_memory_bytes", label: "memory", colour: "--line-a", show: bytes }]} />
        </div>
      </section>
      <Show when={told.answer()}>{(of) => <Sections of={of().value} />}</Show>
    </article>
  );
}

export function HostPage(props: { name: string }): JSX.Element {
  const told = poll<Description>(() => `/v1/describe/host/${encodeURIComponent(props.name)}`, REFRESH_MS);
  const now = poll<RowsPage<HostRow>>(() => `/v1/rows/hosts?${query({ name: props.name })}`, 1_000);
  const labels = () => ({ host: props.name });
  return (
    <article class="page">
      <div class="title"><h1>{props.name}</h1></div>
      <Show when={told.failed()}><p role="alert" class="bad">{told.failed()}</p></Show>
      <Show when={now.answer()?.value.rows[0]}>
        {(of) => (
          <dl class="card figures">
            <div classList={{ bad: of().state.startsWith("lost"), warn: of().state !== "connected" }}><dt>state</dt><dd>{of().state}</dd></div>
            <div><dt>datacenter</dt><dd>{of().datacenter}</dd></div>
            <div><dt>rack</dt><dd>{of().rack}</dd></div>
            <div><dt>instances</dt><dd>{of().instances}</dd></div>
            <div classList={{ warn: (of().cpu ?? 0) > CPU_HIGH }}><dt>CPU</dt><dd>{percent(of().cpu)}</dd></div>
            <div classList={{ warn: (of().memory ?? 0) > 0.9 }}><dt>memory</dt><dd>{percent(of().memory)}</dd></div>
            <div><dt>CPU given out</dt><dd>{percent(of().given)}</dd></div>
          </dl>
        )}
      </Show>
      <section class="card" aria-label="Over time">
        <h2>Over time <Lengths /></h2>
        <div class="plots">
          <Trend title="CPU, cores" labels={labels()} lines={[{ metric: "springtide_host_used_cores", label: "used", colour: "--line-b", show: cores }, { metric: "springtide_host_cores", label: "there are", colour: "--line-a", show: cores }]} />
          <Trend title="memory" labels={labels()} lines={[{ metric: "springtide_host_memory_used_bytes", label: "used", colour: "--line-b", show: bytes }, { metric: "springtide_host_memory_bytes", label: "there is", colour: "--line-a", show: bytes }]} />
        </div>
      </section>
      <section class="card"><h2>Instances on it</h2><Instances filter={() => ({ host: props.name })} short more={more(() => told.answer()?.value)} /></section>
      <Show when={told.answer()}>{(of) => <Sections of={of().value} without={["instances", "declared"]} />}</Show>
      <Declared kind="hosts" name={props.name} />
    </article>
  );
}
