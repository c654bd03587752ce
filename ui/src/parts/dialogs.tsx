// The dialogs of one-click actions: each shows what would happen before it happens.
import { createResource, createSignal, For, type JSX, onCleanup, onMount, Show } from "solid-js";
import { go } from "../app";
import { post } from "../api";
import { clock, count } from "../format";
import { KEYS } from "../keys";
import { frame } from "../live";
import type { LiveOperation, OperationPlan } from "../types";
import { Protect } from "./protect";

type Open =
  | { kind: "expand"; service: string; to: number }
  | { kind: "protect"; service: string }
  | { kind: "silence"; incident: string; title: string }
  | { kind: "confirm"; title: string; text: string; verb: string; act: () => Promise<unknown> }
  | { kind: "help" }
  | null;
const [open, setOpen] = createSignal<Open>(null);
const close = () => setOpen(null);

/** Asks to bring a service to more instances. */
export const expand = (service: string, to: number) => setOpen({ kind: "expand", service, to });
/** Asks to put a policy in force for a service. */
export const protect = (service: string) => setOpen({ kind: "protect", service });
/** Asks to keep an incident quiet for a while. */
export const silence = (incident: string, title: string) => setOpen({ kind: "silence", incident, title });
/** Asks once more before something that cannot be taken back. */
export const sure = (title: string, text: string, verb: string, act: () => Promise<unknown>) => setOpen({ kind: "confirm", title, text, verb, act });
/** Shows which key does what. */
export const help = () => setOpen({ kind: "help" });

export function Dialogs(): JSX.Element {
  return (
    <Show when={open()} keyed>
      {(what) => {
        switch (what.kind) {
          case "expand":
            return <Expand service={what.service} to={what.to} />;
          case "protect":
            return <Modal title={`Protect ${what.service}`} close={close}><Protect service={what.service} close={close} /></Modal>;
          case "silence":
            return <Silence incident={what.incident} title={what.title} />;
          case "confirm":
            return <Confirm {...what} />;
          case "help":
            return <Help />;
        }
      }}
    </Show>
  );
}

export function Modal(props: { title: string; close: () => void; children: JSX.Element }): JSX.Element {
  let dialog!: HTMLDialogElement;
  const before = document.activeElement;
  onMount(() => dialog.showModal());
  // Back to where the keyboard was.
  onCleanup(() => before instanceof HTMLElement && before.focus());
  return (
    <dialog ref={dialog} onClose={props.close} aria-label={props.title}>
      <h2>{props.title}</h2>
      {props.children}
    </dialog>
  );
}

function Expand(props: { service: string; to: number }): JSX.Element {
  const [to, setTo] = createSignal(props.to);
  const [failed, setFailed] = createSignal("");
  const [hold, setHold] = createSignal(false);
  const request = () => ({ type: "scale", service: props.service, to: to() });
  const [plan] = createResource(request, (body) => post<OperationPlan>("/v1/operations/plan", body).catch((error: Error) => ({ adds: [], removes: [], shortages: [error.message] })));
  const wanted = () => {
    const { layout, tick } = frame()!;
    return tick.services.wanted[layout.services.findIndex((of) => of.name === props.service)] ?? 0;
  };
  const moves = () => (plan()?.adds.length ?? 0) + (plan()?.removes.length ?? 0);
  const start = async () => {
    try {
      const operation = await post<LiveOperation>("/v1/operations", { ...request(), hold: hold() });
      close();
      go("operations", operation.id);
    } catch (error) {
      setFailed((error as Error).message);
    }
  };
  return (
    <Modal title={`Expand ${props.service}`} close={close}>
      <label>
        Instances{" "}
        <input type="number" min="0" max="100000" value={to()} onInput={(event) => setTo(Math.max(0, Math.round(event.currentTarget.valueAsNumber || 0)))} />
      </label>{" "}
      <span class="quiet">{count(wanted())} wanted now</span>
      <Show when={plan.latest} fallback={<p class="quiet">Planning…</p>}>
        {(found) => (
          <div class="plan" classList={{ stale: plan.loading }}>
            <Show when={moves() > 0} fallback={<p>Nothing would change.</p>}>
              <p>
                <b>{found().adds.length}</b> to add, <b>{found().removes.length}</b> to remove, in six steps with gray release 1 → 10 → 100 %.
              </p>
            </Show>
            <For each={found().shortages}>{(why) => <p class="bad">{why}</p>}</For>
            <Show when={moves() > 0}><PerHost plan={found()} /></Show>
          </div>
        )}
      </Show>
      <p><label><input type="checkbox" checked={hold()} onChange={(event) => setHold(event.currentTarget.checked)} /> hold at a step that fails, to retry or skip it; otherwise it undoes itself</label></p>
      <Show when={failed()}><p role="alert" class="bad">{failed()}</p></Show>
      <div class="buttons">
        <button onClick={close}>Cancel</button>
        <button class="primary" disabled={plan.loading || !plan.latest || plan.latest.shortages.length > 0 || moves() === 0} onClick={start}>
          Start
        </button>
      </div>
    </Modal>
  );
}

/** Hosts listed in a plan. */
const HOSTS_MAX = 50;

/** What the plan does, a line a host. */
function PerHost(props: { plan: OperationPlan }): JSX.Element {
  const all = () => {
    const found = new Map<string, { host: string; datacenter: string; adds: number; removes: number }>();
    const at = (of: { host: string; datacenter: string }) => {
      const known = found.get(of.host) ?? { ...of, adds: 0, removes: 0 };
      found.set(of.host, known);
      return known;
    };
    for (const add of props.plan.adds) at(add).adds += 1;
    for (const remove of props.plan.removes) at(remove).removes += 1;
    return [...found.values()];
  };
  return (
    <>
      <table>
        <thead><tr><th>host</th><th>datacenter</th><th class="number">add</th><th class="number">remove</th></tr></thead>
        <tbody>
          <For each={all().slice(0, HOSTS_MAX)}>{(of) => <tr><td>{of.host}</td><td>{of.datacenter}</td><td class="number">{of.adds || ""}</td><td class="number">{of.removes || ""}</td></tr>}</For>
        </tbody>
      </table>
      <Show when={all().length > HOSTS_MAX}><p class="quiet">… and {all().length - HOSTS_MAX} more hosts</p></Show>
    </>
  );
}

const QUIET: [string, string][] = [["15 min", "15m"], ["30 min", "30m"], ["1 h", "1h"], ["2 h", "2h"], ["8 h", "8h"]];

function Silence(props: { incident: string; title: string }): JSX.Element {
  const [length, setLength] = createSignal("30m");
  const [reason, setReason] = createSignal("");
  const [failed, setFailed] = createSignal("");
  const [until, setUntil] = createSignal(0);
  const act = () =>
    post<{ until: number }>(`/v1/incidents/${props.incident}/silence`, { for: length(), reason: reason() })
      .then((done) => setUntil(done.until), (error: Error) => setFailed(error.message));
  return (
    <Modal title={`Silence ${props.incident}`} close={close}>
      <p>{props.title}</p>
      <p class="quiet">Nobody is told of the services it reaches until the silence ends. It stays on this page.</p>
      <p>
        <label>For <select onChange={(event) => setLength(event.currentTarget.value)}><For each={QUIET}>{([text, value]) => <option value={value} selected={value === length()}>{text}</option>}</For></select></label>{" "}
        <label>why <input type="text" value={reason()} onInput={(event) => setReason(event.currentTarget.value)} placeholder="for the others" /></label>
      </p>
      <Show when={until() > 0}><p role="status">Silenced until {clock(until())}.</p></Show>
      <Show when={failed()}><p role="alert" class="bad">{failed()}</p></Show>
      <div class="buttons"><button onClick={close}>Close</button><button class="primary" onClick={act}>Silence</button></div>
    </Modal>
  );
}

function Confirm(props: { title: string; text: string; verb: string; act: () => Promise<unknown> }): JSX.Element {
  const [failed, setFailed] = createSignal("");
  const act = () => props.act().then(close, (error: Error) => setFailed(error.message));
  return (
    <Modal title={props.title} close={close}>
      <p>{props.text}</p>
      <Show when={failed()}><p role="alert" class="bad">{failed()}</p></Show>
      <div class="buttons"><button onClick={close}>Cancel</button><button class="primary" onClick={act}>{props.verb}</button></div>
    </Modal>
  );
}

function Help(): JSX.Element {
  return (
    <Modal title="Keys" close={close}>
      <table><tbody><For each={KEYS}>{(of) => <tr><td><For each={of.keys.split(" ")}>{(key) => <kbd>{key}</kbd>}</For></td><td class="words">{of.does}</td></tr>}</For></tbody></table>
      <div class="buttons"><button onClick={close}>Close</button></div>
    </Modal>
  );
}
