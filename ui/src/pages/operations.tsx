// All operations as bars; one of them with its log, its judgements and its report.
import { createSignal, For, type JSX, Show } from "solid-js";
import { blobUrl, post } from "../api";
import { poll } from "../ask";
import { clock } from "../format";
import { frame } from "../live";
import { sure } from "../parts/dialogs";
import { Gantt } from "../parts/gantt";
import { skipping } from "../steps";

interface Whole {
  id: string;
  who: string;
  phase: string;
  report: string | null;
  failures: string[];
  log: { at: number; text: string }[];
  steps: { name: string; state: string; started_at: number | null; finished_at: number | null; done: number; total: number; message?: string }[];
  verdicts: { gray_permille: number; outcome: string; requests_new: number; error_rate_new: number; error_rate_running: number; latency_p99_ms_new: number; latency_p99_ms_running: number }[];
}

const SHOWN_MAX = 100;
const REFRESH_MS = 1_000;

/** Opens the report in a tab of its own. */
async function report(event: MouseEvent, id: string) {
  event.preventDefault();
  open(await blobUrl(`/v1/operations/${id}/report`), "_blank");
}

export function OperationsPage(props: { id: string }): JSX.Element {
  return (
    <div class="page">
      <Show when={props.id} keyed fallback={<Gantt shownMax={SHOWN_MAX} />}>{(id) => <One id={id} />}</Show>
    </div>
  );
}

function One(props: { id: string }): JSX.Element {
  const whole = poll<Whole>(() => `/v1/operations/${encodeURIComponent(props.id)}`, REFRESH_MS);
  const live = () => frame()!.tick.operations.find((of) => of.id === props.id);
  return (
    <>
      <Show when={live()}><Gantt shownMax={1} only={props.id} /></Show>
      <Show when={whole.failed()}><p role="alert" class="bad">{whole.failed()}</p></Show>
      <Show when={whole.answer()?.value}>
        {(of) => (
          <section class="card operation">
            <h1>{of().id} <small>{of().phase.replace("_", " ")}, asked by {of().who}</small></h1>
            <For each={of().failures}>{(why) => <p class="bad">{why}</p>}</For>
            <Show when={of().report}><p><a href="#/operations" onClick={(event) => report(event, of().id)}>Health report</a></p></Show>
            <Targets id={of().id} />
            <Show when={of().verdicts.length > 0}>
              <h2>Gray release</h2>
              <div class="wide" tabIndex={0} role="region" aria-label="Gray release">
                <table>
                  <thead><tr><th class="number">gray</th><th>judgement</th><th class="number">requests to new</th><th class="number">errors new / running</th><th class="number">p99 new / running</th></tr></thead>
                  <tbody>
                    <For each={of().verdicts}>
                      {(v) => <tr><td class="number">{v.gray_permille / 10}%</td><td>{v.outcome.replaceAll("_", " ")}</td><td class="number">{v.requests_new}</td><td class="number">{(v.error_rate_new * 100).toFixed(2)}% / {(v.error_rate_running * 100).toFixed(2)}%</td><td class="number">{v.latency_p99_ms_new.toFixed(1)} / {v.latency_p99_ms_running.toFixed(1)} ms</td></tr>}
                    </For>
                  </tbody>
                </table>
              </div>
            </Show>
            <h2>Log</h2>
            <ol class="log"><For each={of().log}>{(line) => <li><time>{clock(line.at)}</time> {line.text}</li>}</For></ol>
          </section>
        )}
      </Show>
      <p><a href="#/operations">All operations</a></p>
    </>
  );
}

/** Instances and hooks of the step in hand that are not well: each can be tried again or gone on without. */
function Targets(props: { id: string }): JSX.Element {
  const [said, setSaid] = createSignal("");
  const allowed = () => frame()!.tick.operations.find((of) => of.id === props.id)?.allowed;
  const verbs = () => ["retry", "skip"].filter((verb) => allowed()?.verbs.includes(verb));
  const steer = (verb: string, target: string) => post(`/v1/operations/${props.id}/${verb}`, { target }).then(() => setSaid(`${verb}: ${target}`));
  const act = (verb: string, target: string) => {
    if (verb === "skip") return sure(`Skip ${target} of step ${allowed()!.step} (${props.id})`, skipping(target), `Skip ${target}`, () => steer(verb, target));
    steer(verb, target).catch((error: Error) => setSaid(error.message));
  };
  return (
    <Show when={(allowed()?.targets?.length ?? 0) > 0 && verbs().length > 0}>
      <h2>Not done in step {allowed()!.step}</h2>
      <table>
        <tbody>
          <For each={allowed()!.targets}>
            {(target) => <tr><td>{target}</td><td class="actions"><For each={verbs()}>{(verb) => <button onClick={() => act(verb, target)}>{verb === "retry" ? "Retry" : "Skip"}</button>}</For></td></tr>}
          </For>
        </tbody>
      </table>
      <Show when={said()}><p role="status">{said()}</p></Show>
    </Show>
  );
}
