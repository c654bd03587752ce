// What is hot, hottest first, each with expand and protect one click away.
import { For, type JSX } from "solid-js";
import { count, percent } from "../format";
import { hot } from "../hot";
import { frame } from "../live";
import { expand, protect } from "./dialogs";

const SHOWN_MAX = 12;

export function HotList(): JSX.Element {
  const list = () => hot(frame()!.layout, frame()!.tick).slice(0, SHOWN_MAX);
  const names = () => list().map((of) => of.service);
  return (
    <section class="card hot" aria-label="What is hot">
      <h2>What is hot</h2>
      <ol>
        <For each={names()}>
          {(name) => {
            const now = () => list().find((of) => of.service === name);
            return (
              <li data-service={name} classList={{ warn: (now()?.heat ?? 0) >= 0.9, bad: (now()?.heat ?? 0) >= 1.2 }}>
                <div class="heat-bar" style={{ width: `${Math.min(100, (now()?.heat ?? 0) * 100)}%` }} />
                <a href={`#/services/${encodeURIComponent(name)}`}>{name}</a>
                <span class="why">{now()?.reason}</span>
                <span class="num">{count(now()?.rps)}/s · {percent(now()?.cpu)} · {now()?.healthy}/{now()?.wanted}</span>
                <button onClick={() => expand(name, now()?.suggested ?? 1)}>Expand</button>
                <button onClick={() => protect(name)}>Protect</button>
              </li>
            );
          }}
        </For>
      </ol>
    </section>
  );
}
