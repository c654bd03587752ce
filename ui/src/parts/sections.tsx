// What the server says of one thing, as titled sections; names in it lead to their pages.
import { For, type JSX, Show } from "solid-js";
import type { Description } from "../types";
import { link } from "./tables";

const PAGES: Record<string, string> = { service: "services", instance: "instances", host: "hosts", operation: "operations" };

export function Sections(props: { of: Description; without?: string[] }): JSX.Element {
  return (
    <For each={props.of.sections.filter((section) => !props.without?.includes(section.title))}>
      {(section) => (
        <section class="card">
          <h2>{section.title}</h2>
          <div class="wide" tabIndex={0} role="region" aria-label={section.title}>
            <table classList={{ facts: section.head.length === 0 }}>
              <Show when={section.head.length > 0}><thead><tr><For each={section.head}>{(head) => <th>{head}</th>}</For></tr></thead></Show>
              <tbody><For each={section.rows}>{(row) => <tr><For each={row}>{(cell, at) => <Text kind={section.head[at()] ?? (at() === 1 ? row[0]! : "")} text={cell} head={section.head.length === 0 && at() === 0} />}</For></tr>}</For></tbody>
            </table>
          </div>
        </section>
      )}
    </For>
  );
}

function Text(props: { kind: string; text: string; head: boolean }): JSX.Element {
  const page = () => PAGES[props.kind];
  const name = () => props.text.split(" ")[0]!;
  return (
    <Show when={!props.head} fallback={<th scope="row">{props.text}</th>}>
      <td><Show when={page() && props.text !== ""} fallback={props.text}><a href={link(page()!, name())}>{name()}</a>{props.text.slice(name().length)}</Show></td>
    </Show>
  );
}
