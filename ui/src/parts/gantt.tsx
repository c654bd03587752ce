// Operations as bars over time, a row each, with what can be done about them.
import { createMemo, createSignal, For, type JSX, Show } from "solid-js";
import { go } from "../app";
import { post } from "../api";
import { poll } from "../ask";
import { clock, span } from "../format";
import { frame } from "../live";
import { heldAt, standing, stretch, type Verb, verbs } from "../steps";
import type { LiveOperation, OperationWhole } from "../types";
import { sure } from "./dialogs";

/** Shortest time that the bars cover, in milliseconds. */
const WIDE_MS_MIN = 30_000;
/** The same for one that stands alone: its steps fill the bar. */
const WIDE_ALONE_MS_MIN = 1_000;
const STEPS: [string, string][] = [["done", "done"], ["running", "at work"], ["failed", "failed"], ["held", "held"], ["skipped", "skipped"]];
/** Time between looks at why an operation is held, in milliseconds. */
const REFRESH_MS = 2_000;

export function Gantt(props: { shownMax: number; only?: string }): JSX.Element {
  const list = () => frame()!.tick.operations.filter((of) => !props.only || of.id === props.only).slice(0, props.shownMax);
  const ids = createMemo(() => list().map((of) => of.id).join());
  const time = createMemo(() => stretch(list(), frame()!.tick.at, props.only ? WIDE_ALONE_MS_MIN : WIDE_MS_MIN));
  const from = () => time().from;
  const wide = () => time().wide;
  return (
    <section class="card gantt" aria-label="Operations">
      <h2>Operations</h2>
      <Show when={ids() !== ""} fallback={<p class="quiet">No operation ran in the last quarter of an hour.</p>}>
        <p class="axis"><span>{clock(from())}</span><span>{clock(from() + wide() / 2)}</span><span>{clock(from() + wide())}</span></p>
        <For each={ids().split(",")}>
          {(id) => {
            const now = () => list().find((of) => of.id === id);
            return <Show when={now()}>{(of) => <Row of={of()} from={from()} wide={wide()} alone={props.only !== undefined} />}</Show>;
          }}
        </For>
        <p class="legend"><For each={STEPS}>{([state, word]) => <span><i data-state={state} />{word}</span>}</For></p>
      </Show>
    </section>
  );
}

/** A step whose hook failed before anything began is there from when it failed. */
const began = (step: LiveOperation["steps"][number]) => (step.state === "failed" ? { ...step, started_at: step.started_at ?? step.finished_at } : step);

function Row(props: { of: LiveOperation; from: number; wide: number; alone: boolean }): JSX.Element {
  const percent = (at: number) => `${((at - props.from) / props.wide) * 100}%`;
  const length = (from: number, to: number) => `${Math.max(((to - from) / props.wide) * 100, 0.4)}%`;
  const now = () => frame()!.tick.at;
  const begun = () => props.of.steps.map(began).filter((step) => step.started_at !== null);
  const names = createMemo(() => begun().map((step) => step.name).join());
  const held = () => heldAt(props.of);
  // The feed has the last word said; of one that is held the operator wants to know why.
  const whole = poll<OperationWhole>(() => (held() ? `/v1/operations/${props.of.id}` : null), REFRESH_MS);
  const why = () => (held() ? heldAt(whole.answer()?.value ?? { phase: "", steps: [] })?.message : undefined);
  return (
    <div class="row" data-operation={props.of.id} data-phase={props.of.phase} data-held={held()?.name}>
      <div class="what">
        <a href={`#/operations/${props.of.id}`}>{props.of.id}</a> {props.of.kind} <b>{props.of.target}</b>{" "}
        <span class="phase">{standing(props.of)}</span>
        <Show when={held()}>{(step) => <span class="bad why">at step {step().name}{why() ? `: ${why()}` : ""}</span>}</Show>
        <span class="quiet">{span((props.of.finished_at ?? now()) - props.of.created_at)}, by {props.of.who}</span>
        <Actions of={props.of} />
      </div>
      <div class="lane" role="img" aria-label={begun().map((step) => `${step.name} ${step.state}`).join(", ")}>
        <For each={names().split(",").filter((name) => name !== "")}>
          {(name) => {
            const step = () => begun().find((of) => of.name === name);
            return (
              <Show when={step()}>
                {(of) => (
                  <i
                    data-state={of().state}
                    style={{ left: percent(of().started_at!), width: length(of().started_at!, of().finished_at ?? now()) }}
                    title={`${name}: ${of().state}, ${of().done} of ${of().total}, ${span((of().finished_at ?? now()) - of().started_at!)}`}
                  >
                    {name}
                  </i>
                )}
              </Show>
            );
          }}
        </For>
        <Show when={held()?.finished_at}>
          {(since) => <i data-state="held" style={{ left: percent(since()), width: length(since(), now()) }} title={`held for ${span(now() - since())}`} />}
        </Show>
      </div>
      {/* Its own page says the rest, and says it once. */}
      <Show when={!props.alone}><p class="word" title={props.of.message}>{props.of.message}</p></Show>
    </div>
  );
}

/** Pause, resume, retry, skip, roll back: what fits it now. */
export function Actions(props: { of: LiveOperation }): JSX.Element {
  const [said, setSaid] = createSignal("");
  const names = createMemo(() => verbs(props.of).map((of) => of.verb).join());
  const steer = async (verb: string) => {
    const at = await post<{ id: string }>(`/v1/operations/${props.of.id}/${verb}`);
    // One that has ended is opened again as a new one.
    if (at.id !== props.of.id) go("operations", at.id);
  };
  const act = (of: Verb) => {
    if (of.sure) return sure(`${of.word}: ${props.of.kind} ${props.of.target} (${props.of.id})`, of.sure, of.word, () => steer(of.verb));
    steer(of.verb).then(() => setSaid(""), (error: Error) => setSaid(error.message));
  };
  return (
    <span class="actions">
      <For each={names().split(",").filter((verb) => verb !== "")}>
        {(verb) => {
          const now = () => verbs(props.of).find((of) => of.verb === verb);
          return <Show when={now()}>{(of) => <button onClick={() => act(of())}>{of().word}</button>}</Show>;
        }}
      </For>
      <Show when={said()}><span role="alert" class="bad">{said()}</span></Show>
    </span>
  );
}
