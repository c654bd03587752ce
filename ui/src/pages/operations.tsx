// All operations as bars; one of them with its log, its judgements and its report.
import { createMemo, createSignal, For, type JSX, Show } from "solid-js";
import { blobUrl, post } from "../api";
import { poll } from "../ask";
import { brief, clock, date } from "../format";
import { frame } from "../live";
import { sure } from "../parts/dialogs";
import { Gantt } from "../parts/gantt";
import { heldAt, reasons, skipping, sorted, standing } from "../steps";
import type { OperationWhole } from "../types";

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
  const whole = poll<OperationWhole>(() => `/v1/operations/${encodeURIComponent(props.id)}`, REFRESH_MS);
  const live = () => frame()!.tick.operations.find((of) => of.id === props.id);
  // Why it is held stands above, beside that it is.
  const said = (of: OperationWhole) => reasons(of).wrong.filter((why) => !live() || why !== heldAt(of)?.message);
  return (
    <>
      <Show when={live()}><Gantt shownMax={1} only={props.id} /></Show>
      <Show when={whole.failed()}><p role="alert" class="bad">{whole.failed()}</p></Show>
      <Show when={whole.answer()?.value}>
        {(of) => (
          <section class="card operation">
            <h1>{of().id} <small>{standing(of())}<Show when={heldAt(of())}>{(step) => <> at step {step().name}</>}</Show>, asked by {of().who}, {date(of().created_at)}</small></h1>
            <For each={said(of())}>{(why) => <p class="bad">{why}</p>}</For>
            <For each={reasons(of()).done}>{(what) => <p class="quiet">{what}</p>}</For>
            <Show when={of().report}><p><a href="#/operations" onClick={(event) => report(event, of().id)}>Health report</a></p></Show>
            <Targets of={of()} />
            <Steps of={of()} without={reasons(of()).wrong} />
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

/** Each step that began or waits: how far it is, how long it took, the last word on it where that does not stand above. */
function Steps(props: { of: OperationWhole; without: string[] }): JSX.Element {
  const now = () => props.of.finished_at ?? frame()!.tick.at;
  const names = createMemo(() => props.of.steps.map((step) => step.name).join());
  return (
    <Show when={names() !== ""}>
      <h2>Steps</h2>
      <div class="wide" tabIndex={0} role="region" aria-label="Steps">
        <table>
          <thead><tr><th>step</th><th>state</th><th>began</th><th class="number">took</th><th class="number">done</th><th class="number">attempts</th><th>last word</th></tr></thead>
          <tbody>
            <For each={names().split(",")}>
              {(name) => {
                const step = () => props.of.steps.find((of) => of.name === name);
                return (
                  <Show when={step()}>
                    {(of) => (
                      <tr>
                        <td>{name}</td>
                        <td classList={{ bad: of().state === "failed" }}>{of().state}</td>
                        <td>{of().started_at === null ? "" : clock(of().started_at!)}</td>
                        <td class="number">{of().started_at === null ? "" : brief((of().finished_at ?? now()) - of().started_at!)}</td>
                        <td class="number">{of().started_at === null ? "" : `${of().done} of ${of().total}`}</td>
                        <td class="number">{of().attempts || ""}</td>
                        <td class="words">{props.without.includes(of().message) ? "see above" : of().message}</td>
                      </tr>
                    )}
                  </Show>
                );
              }}
            </For>
          </tbody>
        </table>
      </div>
    </Show>
  );
}

/** Instances and hooks of the step in hand that are not well, those that failed apart: each can be tried again or gone on without. */
function Targets(props: { of: OperationWhole }): JSX.Element {
  const [said, setSaid] = createSignal("");
  const allowed = () => frame()!.tick.operations.find((of) => of.id === props.of.id)?.allowed;
  const all = () => sorted(allowed()?.targets ?? [], props.of.steps.find((step) => step.name === allowed()?.step)?.hooks);
  const verbs = () => ["retry", "skip"].filter((verb) => allowed()?.verbs.includes(verb));
  const steer = (verb: string, target: string) => post(`/v1/operations/${props.of.id}/${verb}`, { target }).then(() => setSaid(`${verb}: ${target}`));
  const act = (verb: string, target: string) => {
    if (verb === "skip") return sure(`Skip ${target} of step ${allowed()!.step} (${props.of.id})`, skipping(target), `Skip ${target}`, () => steer(verb, target));
    steer(verb, target).catch((error: Error) => setSaid(error.message));
  };
  const list = (title: string, targets: string[]) => (
    <Show when={targets.length > 0}>
      <h2>{title} {allowed()!.step}</h2>
      <table class="targets">
        <tbody>
          <For each={targets}>
            {(target) => <tr><td>{target.includes("/") ? `hook ${target}` : target}</td><td class="actions"><For each={verbs()}>{(verb) => <button onClick={() => act(verb, target)}>{verb === "retry" ? "Retry" : "Skip"}</button>}</For></td></tr>}
          </For>
        </tbody>
      </table>
    </Show>
  );
  return (
    <Show when={(allowed()?.targets?.length ?? 0) > 0 && verbs().length > 0}>
      {list("Failed in step", all().failed)}
      {list(all().failed.length > 0 ? "Waiting for that in step" : "Not done in step", all().waiting)}
      <Show when={said()}><p role="status">{said()}</p></Show>
    </Show>
  );
}
