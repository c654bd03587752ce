// What is hot, hottest first, each with expand and protect one click away.
import { createMemo, createSignal, For, type JSX, Show } from "solid-js";
import { count, percent } from "../format";
import { hot } from "../hot";
import { frame } from "../live";
import { expand, protect } from "./dialogs";
import { reached } from "./incidents";

const SHOWN_MAX = 12;

export function HotList(): JSX.Element {
  const all = createMemo(() => hot(frame()!.layout, frame()!.tick, reached().services));
  const list = () => all().slice(0, SHOWN_MAX);
  const [held, setHeld] = createSignal(false);
  // Under the pointer or the keyboard nothing moves: what is clicked is what was aimed at.
  const names = createMemo<string[]>((before) => (held() && before.length > 0 ? before : list().map((of) => of.service)), []);
  return (
    <section class="card hot" aria-label="What is hot">
      <h2>What is hot</h2>
      <ol onMouseEnter={() => setHeld(true)} onMouseLeave={() => setHeld(false)} onFocusIn={() => setHeld(true)} onFocusOut={() => setHeld(false)}>
        <For each={names()}>
          {(name) => {
            const now = () => all().find((of) => of.service === name);
            return (
              <li data-service={name} classList={{ warn: (now()?.heat ?? 0) >= 0.9, bad: (now()?.heat ?? 0) >= 1.2 }}>
                <div class="heat-bar" style={{ width: `${Math.min(100, (now()?.heat ?? 0) * 100)}%` }} />
                <span class="who">
                  <a href={`#/services/${encodeURIComponent(name)}`}>{name}</a> <span class="why">{now()?.reason}</span>{" "}
                  <Show when={now()?.incident}>{(title) => <a class="badge bad" href="#/incidents" title={title()}>in an incident</a>}</Show>
                </span>
                <span class="acts">
                  <button aria-label={`Expand ${name}`} onClick={() => expand(name, now()?.suggested ?? 1)}>Expand</button>
                  <button aria-label={`Protect ${name}`} onClick={() => protect(name)}>Protect</button>
                </span>
                <span class="num" title="requests a second, CPU of what it may use, instances healthy of wanted">{count(now()?.rps)}/s · CPU {percent(now()?.cpu)} · {now()?.healthy}/{now()?.wanted} healthy</span>
              </li>
            );
          }}
        </For>
      </ol>
      <Show when={all().length > SHOWN_MAX}><p class="quiet"><a href="#/services">and {all().length - SHOWN_MAX} cooler services</a></p></Show>
    </section>
  );
}
