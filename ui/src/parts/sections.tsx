// What the server says of one thing, as titled sections; names in it lead to their pages.
import { For, type JSX, Show } from "solid-js";
import { poll } from "../ask";
import type { Description } from "../types";
import { yaml } from "../yaml";
import { link } from "./tables";

/** Time between looks at what is declared, in milliseconds. */
const REFRESH_MS = 5_000;

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

/** What a manifest declares of it, as `springtide get -o yaml` prints it. */
export function Declared(props: { kind: string; name: string }): JSX.Element {
  const told = poll<{ resource: unknown }>(() => `/v1/resources/${props.kind}/${encodeURIComponent(props.name)}`, REFRESH_MS);
  return <Show when={told.answer()}>{(of) => <section class="card"><h2>Declared</h2><pre>{yaml(of().value.resource)}</pre></section>}</Show>;
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
