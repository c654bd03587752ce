// The dialogs of one-click actions: each shows what would happen before it happens.
import { createResource, createSignal, For, type JSX, onMount, Show } from "solid-js";
import { go } from "../app";
import { post } from "../api";
import { count } from "../format";
import { frame } from "../live";
import type { LiveOperation, OperationPlan } from "../types";
import { Protect } from "./protect";

type Open = { kind: "expand"; service: string; to: number } | { kind: "protect"; service: string } | null;
const [open, setOpen] = createSignal<Open>(null);

/** Asks to bring a service to more instances. */
export const expand = (service: string, to: number) => setOpen({ kind: "expand", service, to });
/** Asks to put a policy in force for a service. */
export const protect = (service: string) => setOpen({ kind: "protect", service });

export function Dialogs(): JSX.Element {
  return (
    <Show when={open()} keyed>
      {(what) =>
        what.kind === "expand" ? (
          <Expand service={what.service} to={what.to} close={() => setOpen(null)} />
        ) : (
          <Modal title={`Protect ${what.service}`} close={() => setOpen(null)}>
            <Protect service={what.service} close={() => setOpen(null)} />
          </Modal>
        )
      }
    </Show>
  );
}

export function Modal(props: { title: string; close: () => void; children: JSX.Element }): JSX.Element {
  let dialog!: HTMLDialogElement;
  onMount(() => dialog.showModal());
  return (
    <dialog ref={dialog} onClose={props.close} aria-label={props.title}>
      <h2>{props.title}</h2>
      {props.children}
    </dialog>
  );
}

function Expand(props: { service: string; to: number; close: () => void }): JSX.Element {
  const [to, setTo] = createSignal(props.to);
  const [failed, setFailed] = createSignal("");
  const request = () => ({ type: "scale", service: props.service, to: to() });
  const [plan] = createResource(request, (body) => post<OperationPlan>("/v1/operations/plan", body).catch((error: Error) => ({ adds: [], removes: [], shortages: [error.message] })));
  const wanted = () => {
    const { layout, tick } = frame()!;
    return tick.services.wanted[layout.services.findIndex((of) => of.name === props.service)] ?? 0;
  };
  const start = async () => {
    try {
      const operation = await post<LiveOperation>("/v1/operations", request());
      props.close();
      go("operations", operation.id);
    } catch (error) {
      setFailed((error as Error).message);
    }
  };
  return (
    <Modal title={`Expand ${props.service}`} close={props.close}>
      <label>
        Instances{" "}
        <input type="number" min="0" max="100000" value={to()} onInput={(event) => setTo(Math.max(0, Math.round(event.currentTarget.valueAsNumber || 0)))} />
      </label>{" "}
      <span class="quiet">{count(wanted())} wanted now</span>
      <Show when={plan()} fallback={<p class="quiet">Planning…</p>}>
        {(found) => (
          <div class="plan">
            <p>
              <b>{found().adds.length}</b> to add, <b>{found().removes.length}</b> to remove, in six steps with gray release 1 → 10 → 100 %.
            </p>
            <For each={found().shortages}>{(why) => <p class="bad">{why}</p>}</For>
            <PerHost plan={found()} />
          </div>
        )}
      </Show>
      <Show when={failed()}><p role="alert" class="bad">{failed()}</p></Show>
      <div class="buttons">
        <button onClick={props.close}>Cancel</button>
        <button class="primary" disabled={!plan() || plan()!.shortages.length > 0 || plan()!.adds.length + plan()!.removes.length === 0} onClick={start}>
          Start
        </button>
      </div>
    </Modal>
  );
}

/** What the plan does, a line a host. */
function PerHost(props: { plan: OperationPlan }): JSX.Element {
  const hosts = () => {
    const found = new Map<string, { host: string; datacenter: string; adds: number; removes: number }>();
    const at = (of: { host: string; datacenter: string }) => {
      const known = found.get(of.host) ?? { ...of, adds: 0, removes: 0 };
      found.set(of.host, known);
      return known;
    };
    for (const add of props.plan.adds) at(add).adds += 1;
    for (const remove of props.plan.removes) at(remove).removes += 1;
    return [...found.values()].slice(0, 50);
  };
  return (
    <table>
      <thead><tr><th>host</th><th>datacenter</th><th>add</th><th>remove</th></tr></thead>
      <tbody>
        <For each={hosts()}>{(of) => <tr><td>{of.host}</td><td>{of.datacenter}</td><td>{of.adds || ""}</td><td>{of.removes || ""}</td></tr>}</For>
      </tbody>
    </table>
  );
}
