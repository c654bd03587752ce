// Who changed what, newest first: the newest come by themselves, older ones when one scrolls to them.
import { createEffect, createMemo, createSignal, For, type JSX, on, Show } from "solid-js";
import { getWith } from "../api";
import { date } from "../format";
import { frame } from "../live";
import { Modal } from "../parts/dialogs";
import { type ColumnOf, Rows, type Source } from "../parts/rows";
import type { AuditEntry } from "../types";

const REFRESH_MS = 2_000;
/** Entries asked for at once. */
const PAGE_MAX = 200;
/** Entries kept in the page. */
const KEPT_MAX = 20_000;
/** Rows below the last one in sight from which older entries are asked for. */
const AHEAD = 40;

const COLUMNS: ColumnOf<AuditEntry>[] = [
  { head: "what", text: (of) => of.what },
  { head: "change", text: (of) => (of.before === null ? "made" : of.after === null ? "deleted" : "changed") },
  { head: "who", text: (of) => of.who },
  { head: "when", text: (of) => date(of.at) },
  { head: "sequence", text: (of) => String(of.sequence), number: true },
];

export function AuditPage(): JSX.Element {
  const [words, setWords] = createSignal("");
  const [entries, setEntries] = createSignal<AuditEntry[]>([]);
  const [searchedTo, setSearchedTo] = createSignal(Number.POSITIVE_INFINITY);
  const [failed, setFailed] = createSignal("");
  const [chosen, setChosen] = createSignal<AuditEntry | null>(null);
  let busy = false;
  /** Asks for a page: the newest, or those before what was searched. */
  const ask = async (before: number | null) => {
    if (busy) return;
    busy = true;
    const asked = words().trim();
    try {
      const from = before === null ? Number.MAX_SAFE_INTEGER : before;
      const [found, header] = await getWith<AuditEntry[]>(`/v1/audit?before=${from}&limit=${PAGE_MAX}&words=${encodeURIComponent(asked)}`);
      if (asked === words().trim()) {
        const reached = Number(header("x-searched-to") ?? 0);
        // More came at once than one answer holds: older ones are asked for again, lest there be a hole.
        const isHole = before === null && entries().length > 0 && reached > entries()[0]!.sequence + 1;
        const kept = isHole ? [] : entries();
        if (isHole) setSearchedTo(reached);
        const known = new Set(kept.map((of) => of.sequence));
        const news = found.filter((of) => !known.has(of.sequence));
        if (news.length > 0 || isHole) setEntries([...kept, ...news].sort((a, b) => b.sequence - a.sequence).slice(0, KEPT_MAX));
        setSearchedTo(Math.min(searchedTo(), reached));
      }
      setFailed("");
    } catch (error) {
      setFailed((error as Error).message);
    }
    busy = false;
    if (asked !== words().trim()) ask(null);
  };
  const beat = createMemo(() => Math.floor((frame()?.tick.at ?? 0) / REFRESH_MS));
  createEffect(on(words, () => (setEntries([]), setSearchedTo(Number.POSITIVE_INFINITY))));
  createEffect(on([beat, words], () => ask(null)));
  const source: Source<AuditEntry> = {
    total: () => entries().length,
    row: (at) => entries()[at],
    want: (first, count) => {
      const to = searchedTo();
      if (first + count + AHEAD > entries().length && to > 1 && Number.isFinite(to) && entries().length < KEPT_MAX) ask(to);
    },
    sort: () => {},
    failed,
  };
  return (
    <section class="card page">
      <h1>audit</h1>
      <div class="choices">
        <input type="search" placeholder="words that must all be there" aria-label="Filter" value={words()} onInput={(event) => setWords(event.currentTarget.value)} />
        <span class="quiet" role="status">
          {entries().length.toLocaleString()} entries{searchedTo() <= 1 ? ", all there are" : `, searched back to ${Number.isFinite(searchedTo()) ? searchedTo().toLocaleString() : "…"}`}
        </span>
      </div>
      <Rows label="Audit" source={source} columns={COLUMNS} onRow={setChosen} />
      <Show when={chosen()}>{(of) => <Change of={of()} close={() => setChosen(null)} />}</Show>
    </section>
  );
}

function Change(props: { of: AuditEntry; close: () => void }): JSX.Element {
  const sides = () => [["before", props.of.before], ["after", props.of.after]] as const;
  return (
    <Modal title={props.of.what} close={props.close}>
      <p>by {props.of.who}, {date(props.of.at)}, entry {props.of.sequence}</p>
      <For each={sides()}>{([name, value]) => <><h3>{name}</h3><pre class="json">{value === null ? "nothing" : JSON.stringify(value, null, 1)}</pre></>}</For>
      <div class="buttons"><button onClick={props.close}>Close</button></div>
    </Modal>
  );
}
