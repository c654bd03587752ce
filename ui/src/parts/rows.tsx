// A table of any length: only the rows in sight exist.
import { createMemo, createSignal, For, type JSX, onCleanup, onMount } from "solid-js";

const ROW_PX = 28;
const SPARE = 8;

export interface ColumnOf<T> {
  head: string;
  text: (row: T) => string;
  sort?: (row: T) => number | string | null;
  link?: (row: T) => string;
  warn?: (row: T) => boolean;
}

export function Rows<T>(props: { rows: T[]; columns: ColumnOf<T>[]; label: string; sortBy?: number }): JSX.Element {
  const [top, setTop] = createSignal(0);
  const [height, setHeight] = createSignal(600);
  const [by, setBy] = createSignal<[number, 1 | -1]>([props.sortBy ?? 0, props.sortBy ? -1 : 1]);
  let place!: HTMLDivElement;
  const sorted = createMemo(() => {
    const [column, direction] = by();
    const of = props.columns[column]!;
    const key = of.sort ?? of.text;
    // What was not measured comes last, whichever way the others go.
    return [...props.rows].sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === null || y === null) return Number(x === null) - Number(y === null);
      return (typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y), undefined, { numeric: true })) * direction;
    });
  });
  const first = () => Math.max(0, Math.floor(top() / ROW_PX) - SPARE);
  const seen = () => sorted().slice(first(), first() + Math.ceil(height() / ROW_PX) + 2 * SPARE);
  onMount(() => {
    const watch = new ResizeObserver(() => setHeight(place.clientHeight));
    watch.observe(place);
    onCleanup(() => watch.disconnect());
  });
  const turn = (column: number) => setBy(([now, way]) => (now === column ? [column, way === 1 ? -1 : 1] : [column, 1]));
  return (
    <div class="rows" ref={place} onScroll={() => setTop(place.scrollTop)} tabIndex={0} role="region" aria-label={props.label}>
      <table aria-rowcount={props.rows.length}>
        <thead>
          <tr>
            <For each={props.columns}>
              {(column, at) => (
                <th aria-sort={by()[0] === at() ? (by()[1] === 1 ? "ascending" : "descending") : undefined}>
                  <button onClick={() => turn(at())}>{column.head}</button>
                </th>
              )}
            </For>
          </tr>
        </thead>
        <tbody>
          <tr style={{ height: `${first() * ROW_PX}px` }} aria-hidden="true" />
          <For each={seen()}>
            {(row) => (
              <tr>
                <For each={props.columns}>
                  {(column) => (
                    <td classList={{ warn: column.warn?.(row) }}>
                      {column.link ? <a href={column.link(row)}>{column.text(row)}</a> : column.text(row)}
                    </td>
                  )}
                </For>
              </tr>
            )}
          </For>
          <tr style={{ height: `${Math.max(0, sorted().length - first() - seen().length) * ROW_PX}px` }} aria-hidden="true" />
        </tbody>
      </table>
    </div>
  );
}
