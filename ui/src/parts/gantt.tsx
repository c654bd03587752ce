// Operations as bars over time, a row each, with what can be done about them.
import { createSignal, For, type JSX, Show } from "solid-js";
import { post } from "../api";
import { clock, span } from "../format";
import { frame } from "../live";
import type { LiveOperation } from "../types";

const FINAL = ["succeeded", "rolled_back", "failed"];

export function Gantt(props: { shownMax: number }): JSX.Element {
  const list = () => frame()!.tick.operations.slice(0, props.shownMax);
  const ids = () => list().map((of) => of.id);
  const from = () => Math.min(...list().map((of) => of.created_at));
  const wide = () => Math.max(frame()!.tick.at - from(), 1);
  return (
    <section class="card gantt" aria-label="Operations">
      <h2>Operations</h2>
      <Show when={list().length > 0} fallback={<p class="quiet">No operation ran in the last quarter of an hour.</p>}>
        <p class="axis"><span>{clock(from())}</span><span>{clock(frame()!.tick.at)}</span></p>
        <For each={ids()}>
          {(id) => {
            const now = () => list().find((of) => of.id === id);
            return <Show when={now()}>{(of) => <Row of={of()} from={from()} wide={wide()} />}</Show>;
          }}
        </For>
      </Show>
    </section>
  );
}

function Row(props: { of: LiveOperation; from: number; wide: number }): JSX.Element {
  const percent = (at: number) => `${((at - props.from) / props.wide) * 100}%`;
  const length = (from: number, to: number) => `${Math.max(((to - from) / props.wide) * 100, 0.4)}%`;
  const now = () => frame()!.tick.at;
  return (
    <div class="row" data-operation={props.of.id} data-phase={props.of.phase}>
      <div class="what">
        <a href={`#/operations/${props.of.id}`}>{props.of.id}</a> {props.of.kind} <b>{props.of.target}</b>{" "}
        <span class="phase">{props.of.phase.replace("_", " ")}</span>
        <span class="quiet"> {span((props.of.finished_at ?? now()) - props.of.created_at)}</span>
        <Actions of={props.of} />
      </div>
      <div class="lane">
        <For each={props.of.steps.filter((step) => step.started_at !== null)}>
          {(step) => (
            <i
              data-state={step.state}
              style={{ left: percent(step.started_at!), width: length(step.started_at!, step.finished_at ?? now()) }}
              title={`${step.name}: ${step.state}, ${step.done}/${step.total}`}
            >
              {step.name}
            </i>
          )}
        </For>
      </div>
      <p class="word">{props.of.message}</p>
    </div>
  );
}

/** Pause, resume, roll back: what fits the phase. */
export function Actions(props: { of: LiveOperation }): JSX.Element {
  const [said, setSaid] = createSignal("");
  const steer = async (verb: string) => {
    if (verb === "rollback" && !confirm(`Roll ${props.of.id} (${props.of.kind} ${props.of.target}) back?`)) return;
    try {
      await post(`/v1/operations/${props.of.id}/${verb}`);
      setSaid("");
    } catch (error) {
      setSaid(String((error as Error).message));
    }
  };
  return (
    <span class="actions">
      <Show when={!FINAL.includes(props.of.phase)}>
        <Show when={props.of.phase === "paused"} fallback={<button onClick={() => steer("pause")}>Pause</button>}>
          <button onClick={() => steer("resume")}>Resume</button>
        </Show>
        <button onClick={() => steer("rollback")}>Roll back</button>
      </Show>
      <Show when={said()}><span role="alert" class="bad">{said()}</span></Show>
    </span>
  );
}
