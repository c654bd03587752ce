// The shell: ribbon, navigation, keys, and the page that the address names.
import { createEffect, createSignal, For, type JSX, Match, onCleanup, onMount, Show, Switch } from "solid-js";
import { who } from "./api";
import { PAGES, Presses } from "./keys";
import { frame, logout, refused, stale, want } from "./live";
import { Dialogs, help } from "./parts/dialogs";
import { Login } from "./parts/login";
import { Ribbon } from "./parts/ribbon";
import { AuditPage } from "./pages/audit";
import { EventPage } from "./pages/event";
import { IncidentsPage } from "./pages/incidents";
import { OperationsPage } from "./pages/operations";
import { ServicePage } from "./pages/service";
import { TablePage } from "./pages/table";
import { HostPage, InstancePage } from "./pages/thing";
import { WarRoom } from "./pages/war-room";

const read = () => location.hash.replace(/^#\/?/, "").split("/").map(decoded);
const [at, setAt] = createSignal<string[]>(read());

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** Goes to a page of this one. */
export function go(...parts: string[]) {
  location.hash = `/${parts.map(encodeURIComponent).join("/")}`;
}

export function App(): JSX.Element {
  const moved = () => setAt(read());
  addEventListener("hashchange", moved);
  addEventListener("keydown", press);
  onCleanup(() => {
    removeEventListener("hashchange", moved);
    removeEventListener("keydown", press);
  });
  // Only the room paints hosts and instances: other pages ask for the rows they show.
  createEffect(() => want((at()[0] ?? "") === "" ? "all" : "services"));
  createEffect(() => (document.title = [at()[1] ?? "", PAGES.find(([, path]) => path === (at()[0] ?? ""))?.[2] ?? at()[0], "Springtide"].filter((part) => part).join(" · ")));
  return (
    <>
      <a class="skip" href="#main" onClick={(event) => { event.preventDefault(); document.getElementById("main")!.focus(); }}>To the content</a>
      <header>
        <nav aria-label="Pages">
          <a class="brand" href="#/">Springtide</a>
          <For each={PAGES}>
            {([letter, path, title]) => <a href={`#/${path}`} title={`g ${letter}`} aria-current={(at()[0] ?? "") === path ? "page" : undefined}>{title}</a>}
          </For>
          <span class="tools">
            <button onClick={help} title="Keys (?)" aria-label="Keys">?</button>
            <Theme />
            <Show when={frame() && who().authorization}><button onClick={logout} title="Forget the token in this tab">Log out</button></Show>
          </span>
        </nav>
        <Ribbon />
      </header>
      <main id="main" tabIndex={-1} classList={{ stale: stale() && !refused() }}>
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
  const isTable = () => ["services", "instances", "hosts"].includes(kind()) && !name();
  return (
    <Switch fallback={<p>There is no page here. <a href="#/">To the war room</a></p>}>
      <Match when={kind() === ""}><WarRoom /></Match>
      <Match when={isTable() && kind()} keyed>{(of) => <TablePage of={of} />}</Match>
      <Match when={kind() === "services" && name()} keyed>{(of) => <ServicePage name={of} />}</Match>
      <Match when={kind() === "instances" && name()} keyed>{(of) => <InstancePage name={of} />}</Match>
      <Match when={kind() === "hosts" && name()} keyed>{(of) => <HostPage name={of} />}</Match>
      <Match when={kind() === "operations"}><OperationsPage id={name()} /></Match>
      <Match when={kind() === "incidents"}><IncidentsPage id={name()} /></Match>
      <Match when={kind() === "events" && name()} keyed>{(of) => <EventPage name={of} />}</Match>
      <Match when={kind() === "audit"}><AuditPage /></Match>
    </Switch>
  );
}

const presses = new Presses();

/** Acts on keys that nobody else wants. */
function press(event: KeyboardEvent) {
  const target = event.target as HTMLElement;
  if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(target.tagName) || document.querySelector("dialog[open]")) return;
  const act = presses.press(event.key, event.timeStamp);
  if (act === null) return;
  event.preventDefault();
  if (act === "search") document.querySelector<HTMLElement>("main input[type=search]")?.focus();
  else if (act === "map") document.querySelector<HTMLElement>("canvas[role=application]")?.focus();
  else if (act === "theme") turn();
  else if (act === "help") help();
  else go(act.go);
}

/** Light or dark, remembered by this browser. */
function turn() {
  const dark = getComputedStyle(document.documentElement).colorScheme.startsWith("dark");
  const next = dark ? "light" : "dark";
  document.documentElement.dataset["theme"] = next;
  localStorage.setItem("theme", next);
  dispatchEvent(new Event("themechange"));
}

function Theme(): JSX.Element {
  const stored = localStorage.getItem("theme");
  if (stored) document.documentElement.dataset["theme"] = stored;
  // One that follows the system follows it live.
  onMount(() => matchMedia("(prefers-color-scheme: light)").addEventListener("change", () => dispatchEvent(new Event("themechange"))));
  return <button onClick={turn} title="Light or dark (t)" aria-label="Light or dark">◐</button>;
}
