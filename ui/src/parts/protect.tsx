// Puts a policy in force for a service, or fires a preset: dry run first, an end always.
import { createSignal, For, type JSX, Show } from "solid-js";
import { post } from "../api";

const LENGTHS: [string, number][] = [["5 min", 5], ["15 min", 15], ["30 min", 30], ["1 h", 60], ["4 h", 240]];

export function Protect(props: { service: string; close: () => void }): JSX.Element {
  const [share, setShare] = createSignal(20);
  const [minutes, setMinutes] = createSignal(15);
  const [said, setSaid] = createSignal("");
  const [failed, setFailed] = createSignal("");
  const manifest = () => ({
    files: [
      {
        path: "war-room.yaml",
        text: [
          "kind: Policy",
          `name: war-room-${props.service}`,
          `service: ${props.service}`,
          "action:",
          "  throttle:",
          `    users_percent: ${share()}`,
          `expires_at: ${new Date(Date.now() + minutes() * 60_000).toISOString().replace(/\.\d+/, "")}`,
        ].join("\n"),
      },
    ],
  });
  const put = async () => {
    try {
      await post("/v1/apply", manifest());
      setSaid(`In force for ${minutes()} minutes.`);
      setFailed("");
      setTimeout(props.close, 1200);
    } catch (error) {
      setFailed((error as Error).message);
    }
  };
  return (
    <>
      <p>
        Throttle <input type="number" min="1" max="99" value={share()} onInput={(event) => setShare(event.currentTarget.valueAsNumber || 1)} aria-label="share of users, in percent" /> % of users
        (always the same ones) for{" "}
        <select onChange={(event) => setMinutes(Number(event.currentTarget.value))} aria-label="for how long">
          <For each={LENGTHS}>{([text, value]) => <option value={value} selected={value === minutes()}>{text}</option>}</For>
        </select>
      </p>
      <Show when={said()}><p role="status">{said()}</p></Show>
      <Show when={failed()}><p role="alert" class="bad">{failed()}</p></Show>
      <div class="buttons">
        <button onClick={props.close}>Cancel</button>
        <button class="primary" onClick={put}>Put in force</button>
      </div>
    </>
  );
}
