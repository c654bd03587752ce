// The shell: ribbon, navigation, and the page that the address names.
import { createSignal, For, type JSX, Match, onCleanup, Show, Switch } from "solid-js";
import { frame, refused, stale } from "./live";
import { Dialogs } from "./parts/dialogs";
import { Login } from "./parts/login";
import { Ribbon } from "./parts/ribbon";
import { AuditPage } from "./pages/audit";
import { EventPage } from "./pages/event";
import { IncidentsPage } from "./pages/incidents";
import { OperationsPage } from "./pages/operations";
import { DescribePage } from "./pages/describe";
import { TablePage } from "./pages/table";
import { WarRoom } from "./pages/war-room";

const PAGES: [string, string][] = [
  ["", "War room"],
  ["services", "Services"],
  ["instances", "Instances"],
  ["hosts", "Hosts"],
  ["operations", "Operations"],
  ["incidents", "Incidents"],
  ["audit", "Audit"],
];

const read = () => location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
const [at, setAt] = createSignal<string[]>(read());

/** Goes to a page of this one. */
export function go(...parts: string[]) {
  location.hash = `/${parts.map(encodeURIComponent).join("/")}`;
}

export function App(): JSX.Element {
  const moved = () => setAt(read());
  addEventListener("hashchange", moved);
  onCleanup(() => removeEventListener("hashchange", moved));
  return (
    <>
      <a class="skip" href="#main">To the content</a>
      <header>
        <nav aria-label="Pages">
          <a class="brand" href="#/">Springtide</a>
          <For each={PAGES}>
            {([path, title]) => (
              <a href={`#/${path}`} aria-current={(at()[0] ?? "") === path ? "page" : undefined}>{title}</a>
            )}
          </For>
          <Theme />
        </nav>
        <Ribbon />
      </header>
      <main id="main" tabIndex={-1} classList={{ stale: stale() }}>
        <Show when={!refused()} fallback={<Login />}>
          <Show when={frame()} fallback={<p class="quiet">Waiting for the first second of the fleet…</p>}>
            <Page />
          </Show>
        </Show>
      </main>
      <Dialogs />
    </>
  );
}

function Page(): JSX.Element {
  const kind = () => at()[0] ?? "";
  const name = () => at()[1] ?? "";
  return (
    <Switch fallback={<p>There is no page here. <a href="#/">To the war room</a></p>}>
      <Match when={kind() === ""}><WarRoom /></Match>
      <Match when={["services", "instances", "hosts"].includes(kind()) && !name()}><TablePage of={kind()} /></Match>
      <Match when={["services", "instances", "hosts"].includes(kind())}><DescribePage kind={kind()} name={name()} /></Match>
      <Match when={kind() === "operations"}><OperationsPage id={name()} /></Match>
      <Match when={kind() === "incidents"}><IncidentsPage /></Match>
      <Match when={kind() === "events"}><EventPage name={name()} /></Match>
      <Match when={kind() === "audit"}><AuditPage /></Match>
    </Switch>
  );
}

function Theme(): JSX.Element {
  const stored = localStorage.getItem("theme");
  if (stored) document.documentElement.dataset.theme = stored;
  const turn = () => {
    const dark = getComputedStyle(document.documentElement).colorScheme.startsWith("dark");
    const next = dark ? "light" : "dark";
    document.documentElement.dataset.theme = next;
    localStorage.setItem("theme", next);
    dispatchEvent(new Event("themechange"));
  };
  return <button class="theme" onClick={turn} title="Light or dark" aria-label="Light or dark">◐</button>;
}
