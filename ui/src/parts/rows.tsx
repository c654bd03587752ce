// A table of any length: only the rows in sight exist, and where the server has the rest, only they are asked for.
import { createEffect, createMemo, createSignal, For, type JSX, on, onCleanup, onMount, Show } from "solid-js";
import { poll, query } from "../ask";
import type { RowsPage } from "../types";

const ROW_PX = 28;
const SPARE = 8;
/** Rows asked for at once start at a multiple of this: a short scroll asks nothing anew. */
const STRIDE = 40;
/** Time between questions for the rows in sight, in milliseconds. */
const REFRESH_MS = 1_000;

export interface ColumnOf<T> {
  head: string;
  text: (row: T) => string;
  /** By what the page sorts it; absent: by its text. */
  sort?: (row: T) => number | string | null;
  /** By what the server sorts it; absent: it does not. */
  key?: string;
  link?: (row: T) => string;
  warn?: (row: T) => boolean;
  number?: boolean;
}

/** Where rows come from. */
export interface Source<T> {
  total: () => number;
  row: (at: number) => T | undefined;
  want: (first: number, count: number) => void;
  sort: (column: ColumnOf<T>, descending: boolean) => void;
  failed: () => string;
}

/** Rows that the page has. */
export function local<T>(rows: () => T[], columns: ColumnOf<T>[], first: [number, boolean]): Source<T> {
  const [by, setBy] = createSignal<[ColumnOf<T>, boolean]>([columns[first[0]]!, first[1]]);
  const sorted = createMemo(() => {
    const [column, descending] = by();
    const key = column.sort ?? column.text;
    const direction = descending ? -1 : 1;
    // What was not measured comes last, whichever way the others go.
    return [...rows()].sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === null || y === null) return Number(x === null) - Number(y === null);
      return (typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y), undefined, { numeric: true })) * direction;
    });
  });
  return { total: () => sorted().length, row: (at) => sorted()[at], want: () => {}, sort: (column, descending) => setBy([column, descending]), failed: () => "" };
}

/** Rows that the server filters, sorts and cuts. */
export function remote<T>(path: string, filter: () => Record<string, string | undefined>, first: [string, boolean]): Source<T> {
  const [sort, setSort] = createSignal(first);
  const [sight, setSight] = createSignal<[number, number]>([0, 2 * STRIDE]);
  const parts = createMemo(() => query({ ...filter(), sort: sort()[0], descending: sort()[1] }));
  // Another filter or order: the rows in sight begin anew.
  createEffect(on(parts, () => setSight(([, count]) => [0, count]), { defer: true }));
  const { answer, failed } = poll<RowsPage<T>>(() => `${path}?${parts()}&offset=${sight()[0]}&limit=${sight()[1]}`, REFRESH_MS);
  const offset = () => Number(/offset=(\d+)/.exec(answer()?.asked ?? "")?.[1] ?? 0);
  return {
    total: () => answer()?.value.total ?? 0,
    row: (at) => answer()?.value.rows[at - offset()],
    want: (from, count) => {
      const start = Math.max(0, Math.floor(from / STRIDE) * STRIDE);
      const end = Math.ceil((from + count) / STRIDE) * STRIDE;
      setSight((now) => (now[0] === start && now[1] === end - start ? now : [start, end - start]));
    },
    sort: (column, descending) => column.key && setSort([column.key, descending]),
    failed,
  };
}

export function Rows<T>(props: { source: Source<T>; columns: ColumnOf<T>[]; label: string; sortBy?: [number, boolean]; onRow?: (row: T) => void; short?: boolean }): JSX.Element {
  const [top, setTop] = createSignal(0);
  const [height, setHeight] = createSignal(600);
  const [by, setBy] = createSignal<[number, boolean]>(props.sortBy ?? [0, false]);
  let place!: HTMLDivElement;
  const total = () => props.source.total();
  const first = createMemo(() => Math.max(0, Math.min(Math.floor(top() / ROW_PX), total() - 1) - SPARE));
  const inSight = createMemo(() => Math.max(0, Math.min(total() - first(), Math.ceil(height() / ROW_PX) + 2 * SPARE)));
  const places = createMemo(() => Array.from({ length: inSight() }, (_, at) => first() + at));
  createEffect(() => props.source.want(first(), Math.ceil(height() / ROW_PX) + 2 * SPARE));
  onMount(() => {
    const watch = new ResizeObserver(() => setHeight(place.clientHeight));
    watch.observe(place);
    onCleanup(() => watch.disconnect());
  });
  const sortable = (column: ColumnOf<T>) => column.sort !== undefined || column.key !== undefined;
  const turn = (at: number) => {
    const column = props.columns[at]!;
    // Numbers are looked at from the largest, names from the first.
    const descending = by()[0] === at ? !by()[1] : (column.number ?? false);
    setBy([at, descending]);
    props.source.sort(column, descending);
    place.scrollTop = 0;
  };
  return (
    <div class="rows" classList={{ short: props.short }} ref={place} onScroll={() => setTop(place.scrollTop)} tabIndex={0} role="region" aria-label={`${props.label}: ${total()} rows`}>
      <Show when={props.source.failed()}><p role="alert" class="bad">{props.source.failed()}</p></Show>
      <table aria-rowcount={total()}>
        <thead>
          <tr>
            <For each={props.columns}>
              {(column, at) => (
                <th classList={{ number: column.number }} aria-sort={by()[0] === at() ? (by()[1] ? "descending" : "ascending") : undefined}>
                  <Show when={sortable(column)} fallback={column.head}><button onClick={() => turn(at())}>{column.head}</button></Show>
                </th>
              )}
            </For>
          </tr>
        </thead>
        <tbody>
          <tr style={{ height: `${first() * ROW_PX}px` }} aria-hidden="true" />
          <For each={places()}>{(at) => <Row row={props.source.row(at)} at={at} columns={props.columns} onRow={props.onRow} />}</For>
          <tr style={{ height: `${Math.max(0, total() - first() - inSight()) * ROW_PX}px` }} aria-hidden="true" />
        </tbody>
      </table>
      <Show when={total() === 0 && !props.source.failed()}><p class="quiet none">None.</p></Show>
    </div>
  );
}

function Row<T>(props: { row: T | undefined; at: number; columns: ColumnOf<T>[]; onRow?: (row: T) => void }): JSX.Element {
  return (
    <tr aria-rowindex={props.at + 1}>
      <For each={props.columns}>
        {(column, nth) => (
          <td classList={{ warn: props.row !== undefined && column.warn?.(props.row), number: column.number }}>
            <Show when={props.row !== undefined} fallback={nth() === 0 ? "…" : ""}>
              <Show when={column.link?.(props.row!)} fallback={nth() === 0 && props.onRow ? <button class="plain" onClick={() => props.onRow!(props.row!)}>{column.text(props.row!)}</button> : column.text(props.row!)}>
                {(link) => <a href={link()}>{column.text(props.row!)}</a>}
              </Show>
            </Show>
          </td>
        )}
      </For>
    </tr>
  );
}
