// Incidents: the running and the late ones, and one of them whole.
import { For, type JSX, Show } from "solid-js";
import { poll } from "../ask";
import { clock, date, span } from "../format";
import { frame } from "../live";
import { Acts, Causes, Incidents } from "../parts/incidents";
import { link } from "../parts/tables";
import type { Incident } from "../types";

const PAGES: Record<string, string> = { service: "services", instance: "instances", host: "hosts" };
/** Older ones listed below. */
const OLDER_MAX = 100;

export function IncidentsPage(props: { id: string }): JSX.Element {
  return <div class="page"><Show when={props.id} keyed fallback={<All />}>{(id) => <Whole id={id} />}</Show></div>;
}

function All(): JSX.Element {
  const known = () => frame()!.tick.incidents !== undefined;
  const older = poll<Incident[]>(() => (known() ? `/v1/incidents?limit=${OLDER_MAX}` : null), 5_000);
  const shown = () => new Set((frame()!.tick.incidents ?? []).map((of) => of.id));
  const rows = () => (older.answer()?.value ?? []).filter((of) => !shown().has(of.id));
  return (
    <>
      <Incidents all />
      <Show when={rows().length > 0}>
        <section class="card">
          <h2>Earlier</h2>
          <div class="wide" tabIndex={0} role="region" aria-label="Earlier incidents">
            <table>
              <thead><tr><th>incident</th><th>what</th><th>began</th><th>lasted</th><th>state</th></tr></thead>
              <tbody>
                <For each={rows()}>
                  {(of) => <tr><td><a href={link("incidents", of.id)}>{of.id}</a></td><td>{of.title}</td><td>{date(of.started_at)}</td><td>{of.ended_at ? span(of.ended_at - of.started_at) : "goes on"}</td><td>{of.state}</td></tr>}
                </For>
              </tbody>
            </table>
          </div>
        </section>
      </Show>
    </>
  );
}

function Whole(props: { id: string }): JSX.Element {
  const whole = poll<Incident>(() => `/v1/incidents/${encodeURIComponent(props.id)}`, 1_000);
  return (
    <>
      <Show when={whole.failed()}><p role="alert" class="bad">{whole.failed()}</p></Show>
      <Show when={whole.answer()?.value}>
        {(of) => (
          <article class="incidents" data-incident={of().id} data-state={of().state}>
            <section class="card">
              <h1>{of().title} <small>{of().id}</small></h1>
              <p class="reach">
                {of().severity}, {of().state}; began {date(of().started_at)}, seen after {span(of().opened_at - of().started_at)},{" "}
                {of().ended_at ? `ended ${date(of().ended_at!)}` : `goes on for ${span(frame()!.tick.at - of().started_at)}`}
                <Show when={of().acknowledged_by}>{(who) => <>; looked after by {who()}</>}</Show>
                <Show when={of().silenced_until}>{(until) => <>; silenced until {clock(until())}</>}</Show>
                <Show when={of().rule}>{(rule) => <>; by the rule {rule()}</>}</Show>
                <Show when={of().merged_into}>{(other) => <>; part of <a href={link("incidents", other())}>{other()}</a></>}</Show>
              </p>
              <Show when={of().ended_at === null}><Acts of={of()} /></Show>
            </section>
            <section class="card"><h2>Probable cause</h2><Causes causes={of().causes} /></section>
            <section class="card">
              <h2>How far it reaches</h2>
              <p>{of().reach.join(" · ")}</p>
              <p class="names"><For each={of().services}>{(name) => <a class="badge" href={link("services", name)}>{name}</a>}</For></p>
              <p class="names"><For each={of().instances}>{(name) => <a class="badge" href={link("instances", name)}>{name}</a>}</For></p>
            </section>
            <Show when={of().findings.length > 0}>
              <section class="card">
                <h2>What was found</h2>
                <div class="wide" tabIndex={0} role="region" aria-label="What was found">
                  <table>
                    <thead><tr><th>what</th><th>where</th><th>since</th><th>last seen</th></tr></thead>
                    <tbody>
                      <For each={of().findings}>
                        {(found) => <tr><td class="words">{found.what}</td><td><Show when={PAGES[found.entity_kind]} fallback={found.entity}>{(page) => <a href={link(page(), found.entity)}>{found.entity}</a>}</Show></td><td>{clock(found.since)}</td><td>{clock(found.last_seen)}</td></tr>}
                      </For>
                    </tbody>
                  </table>
                </div>
              </section>
            </Show>
            <Show when={of().going_on.length > 0}>
              <section class="card"><h2>What goes on by intent</h2><ul><For each={of().going_on}>{(at) => <li>{at.what} <small>since {clock(at.from)}</small></li>}</For></ul></section>
            </Show>
            <Show when={of().next.length > 0}>
              <section class="card"><h2>Commands that may help</h2><For each={of().next}>{(command) => <pre>{command}</pre>}</For></section>
            </Show>
          </article>
        )}
      </Show>
      <p><a href="#/incidents">All incidents</a></p>
    </>
  );
}
