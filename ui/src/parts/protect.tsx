// Puts a policy in force for a service, or fires a preset: dry run on the last minutes' requests first, an end always.
import { createMemo, createResource, createSignal, For, type JSX, Show } from "solid-js";
import { get, post } from "../api";
import { count, percent, span } from "../format";

const LENGTHS: [string, string][] = [["5 min", "5m"], ["15 min", "15m"], ["30 min", "30m"], ["1 h", "1h"], ["4 h", "4h"]];
/** How long the click waits for proxies to confirm, in milliseconds. */
const WAIT_MS = 3_000;

interface InForce { proxies: number; proxies_taken: number; hosts: number; hosts_taken: number; after_ms?: number; waiting: string[] }
interface Estimate { value: number; low: number; high: number }
interface DryRun {
  sampled: number;
  window_seconds: number;
  policies: { policy: string; action: string; requests_share: Estimate; users: Estimate }[];
}
interface Protection {
  policies: { policy: { name: string; service?: string }; life_ms: number; taken_per_second?: number; who: string }[];
  presets: { name: string; policies: unknown[] }[];
}

export function Protect(props: { service: string; close: () => void }): JSX.Element {
  const [preset, setPreset] = createSignal("");
  const [users, setUsers] = createSignal(20);
  const [life, setLife] = createSignal("15m");
  const [said, setSaid] = createSignal("");
  const [failed, setFailed] = createSignal("");
  const [now, { refetch }] = createResource(() => get<Protection>("/v1/protect"));
  const files = () => [{ path: "war-room.yaml", text: throttle(props.service, users()) }];
  const question = createMemo(() => (preset() ? { preset: preset() } : { files: files() }));
  const [run] = createResource(question, (body) => post<DryRun>("/v1/protect/dry-run", body).catch((error: Error) => error.message));
  const act = async (path: string, body: object) => {
    try {
      const done = await post<{ in_force: InForce }>(path, { ...body, wait_ms: WAIT_MS });
      setSaid(reach(done.in_force));
      setFailed("");
      refetch();
    } catch (error) {
      setFailed((error as Error).message);
    }
  };
  const put = () => (preset() ? act(`/v1/protect/fire/${encodeURIComponent(preset())}`, { life: life() }) : act("/v1/protect/apply", { files: files(), life: life() }));
  return (
    <>
      <p>
        <label>
          What{" "}
          <select onChange={(event) => setPreset(event.currentTarget.value)}>
            <option value="">throttle a share of users</option>
            <For each={now()?.presets ?? []}>{(of) => <option value={of.name}>preset {of.name} ({of.policies.length} policies)</option>}</For>
          </select>
        </label>
      </p>
      <p>
        <Show when={!preset()}>
          <input type="number" min="1" max="99" value={users()} aria-label="share of users, in percent" onInput={(event) => setUsers(Math.min(99, Math.max(1, event.currentTarget.valueAsNumber || 1)))} />
          {" % of users, the same ones all along, "}
        </Show>
        <label>
          for{" "}
          <select onChange={(event) => setLife(event.currentTarget.value)}>
            <For each={LENGTHS}>{([text, value]) => <option value={value} selected={value === life()}>{text}</option>}</For>
          </select>
        </label>
      </p>
      <DryRunTold run={run.latest} />
      <Show when={said()}><p role="status">{said()}</p></Show>
      <Show when={failed()}><p role="alert" class="bad">{failed()}</p></Show>
      <div class="buttons">
        <button onClick={props.close}>Close</button>
        <button class="primary" onClick={put}>Put in force</button>
      </div>
      <Show when={(now()?.policies ?? []).length > 0}>
        <h2>In force</h2>
        <table>
          <tbody>
            <For each={now()!.policies}>
              {(of) => (
                <tr>
                  <td>{of.policy.name}</td>
                  <td>{count(of.taken_per_second)}/s taken</td>
                  <td>ends in {span(of.life_ms)}</td>
                  <td><button onClick={() => act("/v1/protect/lift", { names: [of.policy.name] })}>Lift</button></td>
                </tr>
              )}
            </For>
          </tbody>
        </table>
      </Show>
    </>
  );
}

function DryRunTold(props: { run: DryRun | string | undefined }): JSX.Element {
  const told = () => (typeof props.run === "object" ? props.run : undefined);
  return (
    <div class="plan">
      <Show when={typeof props.run === "string"}><p class="bad">{props.run as string}</p></Show>
      <Show when={told()} fallback={<p class="quiet">Asking the proxies what it would have done…</p>}>
        {(run) => (
          <Show when={run().sampled > 0} fallback={<p class="quiet">No request was sampled in the last minutes: what it would do is not known.</p>}>
            <For each={run().policies}>
              {(of) => (
                <p>
                  {of.action}: would have taken <b>{percent(of.requests_share.value)}</b> of the requests of the last {span(run().window_seconds * 1000)} (
                  {percent(of.requests_share.low)} to {percent(of.requests_share.high)}), about <b>{count(of.users.value)}</b> users.
                </p>
              )}
            </For>
          </Show>
        )}
      </Show>
    </div>
  );
}

const throttle = (service: string, users: number) => ["kind: Policy", `name: war-room-${service}`, `service: ${service}`, "action:", "  throttle:", `    users_percent: ${users}`].join("\n");

function reach(of: InForce): string {
  const after = of.after_ms === undefined ? "" : ` after ${of.after_ms.toFixed(0)} ms`;
  const hosts = of.hosts > 0 ? ` and ${of.hosts_taken}/${of.hosts} hosts` : "";
  return `In force on ${of.proxies_taken}/${of.proxies} proxies${hosts}${after}.`;
}
