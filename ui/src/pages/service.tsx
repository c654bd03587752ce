// One service: its numbers over time, who calls it and whom it calls, what its instances run, and what it can bear.
import { createMemo, createResource, For, type JSX, Show } from "solid-js";
import { blobUrl, get } from "../api";
import { poll } from "../ask";
import { count, ms, percent } from "../format";
import { hot } from "../hot";
import { frame, past } from "../live";
import { expand, protect } from "../parts/dialogs";
import { reached } from "../parts/incidents";
import { Plot } from "../parts/plot";
import { Declared, Sections } from "../parts/sections";
import { CPU_HIGH, Instances, link, told as more } from "../parts/tables";
import type { Column, Description, Edge, Runs, ServiceNow, Tick } from "../types";

/** Time between looks at the description, in milliseconds: it holds intent, which changes seldom. */
const REFRESH_MS = 5_000;
/** Hex digits that tell digests apart; the page of an instance has them whole. */
const DIGEST_SHOWN = 12;

interface Curve { operation: string; service: string; host_type: string; capacity_rps: { value: number } | number }

export function ServicePage(props: { name: string }): JSX.Element {
  const at = () => frame()!.layout.services.findIndex((of) => of.name === props.name);
  const service = () => frame()!.layout.services[at()];
  const isOurs = () => service() !== undefined && service()!.layer !== "external";
  const now = poll<ServiceNow>(() => `/v1/services/${encodeURIComponent(props.name)}/now`, 1_000);
  const suggested = () => hot(frame()!.layout, frame()!.tick).find((of) => of.service === props.name)?.suggested ?? 1;
  return (
    <article class="page">
      <div class="title">
        <h1>{props.name}</h1>
        <Show when={service()}>{(of) => <span class="badge">{of().layer}</span>}</Show>
        <Show when={isOurs()}>
          <button onClick={() => expand(props.name, suggested())}>Expand</button>
          <button onClick={() => protect(props.name)}>Protect</button>
        </Show>
        <Show when={reached().services.get(props.name)}>{(title) => <a class="badge bad" href="#/incidents">incident: {title()}</a>}</Show>
      </div>
      <Show when={service()} fallback={<p class="bad">There is no service {props.name}. <a href="#/services">All services</a></p>}>
        <Figures at={at()} ours={isOurs()} />
        <Plots at={at()} ours={isOurs()} />
        <Edges name={props.name} now={now.answer()?.value} failed={now.failed()} />
        <Show when={isOurs()}><Ours name={props.name} runs={now.answer()?.value.runs ?? []} /></Show>
      </Show>
    </article>
  );
}

function Ours(props: { name: string; runs: Runs[] }): JSX.Element {
  const told = poll<Description>(() => `/v1/describe/service/${encodeURIComponent(props.name)}`, REFRESH_MS);
  return (
    <>
      <Digests runs={props.runs} />
      <section class="card"><h2>Instances</h2><Instances filter={() => ({ service: props.name })} short more={more(() => told.answer()?.value)} /></section>
      <Curves name={props.name} />
      <Show when={told.answer()}>{(of) => <Sections of={of().value} without={["what is to run", "instances", "declared"]} />}</Show>
      <Declared kind="services" name={props.name} />
    </>
  );
}

function Figures(props: { at: number; ours: boolean }): JSX.Element {
  const c = () => frame()!.tick.services;
  const of = (column: Column) => column[props.at] ?? null;
  const share = (part: number | null) => (of(c().rps) && part ? part / of(c().rps)! : 0);
  return (
    <dl class="card figures">
      <div><dt>offered</dt><dd>{count(of(c().rps))}/s</dd></div>
      <div classList={{ warn: share(of(c().rejected_rps)) > 0.01 }}><dt>rejected</dt><dd>{count(of(c().rejected_rps))}/s</dd></div>
      <div classList={{ bad: share(of(c().failed_rps)) > 0.01 }}><dt>failed</dt><dd>{count(of(c().failed_rps))}/s</dd></div>
      <div><dt>p50</dt><dd>{ms(of(c().p50_ms))}</dd></div>
      <div><dt>p99</dt><dd>{ms(of(c().p99_ms))}</dd></div>
      <Show when={props.ours}>
        <div classList={{ warn: (of(c().cpu) ?? 0) > CPU_HIGH }}><dt>CPU</dt><dd>{percent(of(c().cpu))}</dd></div>
        <div classList={{ bad: (c().healthy[props.at] ?? 0) < (c().wanted[props.at] ?? 0) }}><dt>healthy</dt><dd>{c().healthy[props.at]}/{c().wanted[props.at]}</dd></div>
      </Show>
    </dl>
  );
}

function Plots(props: { at: number; ours: boolean }): JSX.Element {
  const over = (of: (tick: Tick["services"]) => Column) => past.map((moment) => (moment.services ? (of(moment.services)[props.at] ?? null) : null));
  const data = (lines: ((tick: Tick["services"]) => Column)[]) => () => {
    frame();
    return [past.map((moment) => moment.at / 1000), ...lines.map(over)];
  };
  return (
    <section class="card plots" aria-label="The last minutes">
      <Plot
        title="requests a second"
        data={data([(c) => c.rps, (c) => c.rejected_rps, (c) => c.failed_rps])}
        lines={[{ label: "offered", colour: "--line-a", show: count }, { label: "rejected", colour: "--line-c", show: count }, { label: "failed", colour: "--line-d", show: count }]}
      />
      <Plot title="latency" data={data([(c) => c.p50_ms, (c) => c.p99_ms])} lines={[{ label: "p50", colour: "--line-b", show: ms }, { label: "p99", colour: "--line-c", show: ms }]} />
      <Show when={props.ours}><Plot title="CPU, of what it may use" data={data([(c) => c.cpu])} lines={[{ label: "CPU", colour: "--line-b", show: percent }]} /></Show>
    </section>
  );
}

/** Who calls it, and whom it calls: one step each way, never the whole mesh. */
function Edges(props: { name: string; now: ServiceNow | undefined; failed: string }): JSX.Element {
  return (
    <section class="card" aria-label="Calls">
      <h2>Calls</h2>
      <Show when={props.failed}><p role="alert" class="bad">{props.failed}</p></Show>
      <Show when={props.now} fallback={<p class="quiet">Asking…</p>}>
        {(now) => (
          <div class="edges">
            <Side title={`calls to ${props.name}`} edges={now().callers} none="Nobody calls it." />
            <Side title={`calls from ${props.name}`} edges={now().calls} none="It calls nobody." />
          </div>
        )}
      </Show>
    </section>
  );
}

function Side(props: { title: string; edges: Edge[]; none: string }): JSX.Element {
  const names = createMemo(() => props.edges.map((of) => of.peer).join());
  const share = (of: Edge, part: number | null) => (of.rps && part ? part / of.rps : 0);
  return (
    <div class="wide" tabIndex={0} role="region" aria-label={props.title}>
      <Show when={names() !== ""} fallback={<p class="quiet">{props.none}</p>}>
        <table>
          <thead><tr><th>{props.title}</th><th class="number">req/s</th><th class="number">rejected/s</th><th class="number">failed/s</th><th class="number">p50</th><th class="number">p99</th></tr></thead>
          <tbody>
            <For each={names().split(",")}>
              {(name) => {
                const now = () => props.edges.find((of) => of.peer === name);
                return (
                  <Show when={now()}>
                    {(of) => (
                      <tr>
                        <td>
                          <Show when={name !== "outside"} fallback="outside, by the entry"><a href={link("services", name)}>{name}</a></Show>
                          <Show when={!of().declared}> <span class="badge warn" title="no manifest names this dependency">not declared</span></Show>
                        </td>
                        <td class="number">{count(of().rps)}</td>
                        <td class="number" classList={{ warn: share(of(), of().rejected_rps) > 0.01 }}>{count(of().rejected_rps)}</td>
                        <td class="number" classList={{ bad: share(of(), of().failed_rps) > 0.01 }}>{count(of().failed_rps)}</td>
                        <td class="number">{ms(of().p50_ms)}</td>
                        <td class="number">{ms(of().p99_ms)}</td>
                      </tr>
                    )}
                  </Show>
                );
              }}
            </For>
          </tbody>
        </table>
      </Show>
    </div>
  );
}

const short = (digest: string) => digest.replace("sha256:", "").slice(0, DIGEST_SHOWN);

/** What runs, by digests: one everywhere is said in a line, a divergence stands out. */
function Digests(props: { runs: Runs[] }): JSX.Element {
  const kinds = () => new Set(props.runs.map((of) => `${of.package} ${of.config}`)).size;
  const wrong = () => props.runs.filter((of) => !of.wanted);
  const words = () => {
    if (wrong().length > 0) return `${wrong().reduce((sum, of) => sum + of.instances, 0)} instances do not run what they should.`;
    return kinds() === 1 ? "The same bytes and the same configuration everywhere." : "Each datacenter runs what it should.";
  };
  return (
    <section class="card digests" aria-label="What runs">
      <h2>What runs</h2>
      <Show when={props.runs.length > 0} fallback={<p class="quiet">Nothing is placed.</p>}>
        <p classList={{ bad: wrong().length > 0 }}>{words()}</p>
        <div class="wide" tabIndex={0} role="region" aria-label="Digests">
          <table>
            <thead><tr><th>datacenter</th><th>package</th><th>config</th><th class="number">instances</th><th /></tr></thead>
            <tbody>
              <For each={props.runs}>
                {(of) => (
                  <tr classList={{ differs: !of.wanted }}>
                    <td>{of.datacenter}</td>
                    <td><code title={of.package}>{short(of.package) || "–"}</code></td>
                    <td><code title={of.config}>{short(of.config) || "–"}</code></td>
                    <td class="number">{of.instances}</td>
                    <td><Show when={!of.wanted} fallback="as it should be"><b>differs</b>: <For each={of.some}>{(name) => <><a href={link("instances", name)}>{name}</a> </>}</For></Show></td>
                  </tr>
                )}
              </For>
            </tbody>
          </table>
        </div>
      </Show>
    </section>
  );
}

function Curves(props: { name: string }): JSX.Element {
  const [curves] = createResource(() => props.name, (name) => get<Curve[]>(`/v1/curves?service=${encodeURIComponent(name)}`).catch(() => []));
  const newest = () => curves()?.at(-1);
  const [image] = createResource(() => newest()?.operation, (operation) => blobUrl(`/v1/curves/${operation}/svg`));
  return (
    <Show when={newest()}>
      {(of) => (
        <section class="card">
          <h2>Performance curve</h2>
          <p class="quiet">Measured by <a href={`#/operations/${of().operation}`}>{of().operation}</a> on {of().host_type}: requests a second that one instance bears.</p>
          <img class="curve" alt={`latency and CPU of one instance over its load, measured by ${of().operation}`} src={image()} />
        </section>
      )}
    </Show>
  );
}
