// Plots of what the server keeps: series over the last minutes or hours, asked again as they grow.
import { createSignal, For, type JSX } from "solid-js";
import { align, type Series } from "../align";
import { poll, query } from "../ask";
import { frame } from "../live";
import { type Line, Plot } from "./plot";

/** Lengths to choose from: word, milliseconds, time between points. */
const LENGTHS: [string, number, number][] = [["5 min", 300_000, 1_000], ["30 min", 1_800_000, 6_000], ["2 h", 7_200_000, 24_000]];
const [length, setLength] = createSignal(0);

/** How far back the plots of a page look. */
export function Lengths(): JSX.Element {
  return (
    <span class="lengths" role="group" aria-label="Time shown">
      <For each={LENGTHS}>{([word], at) => <button aria-pressed={length() === at()} onClick={() => setLength(at())}>{word}</button>}</For>
    </span>
  );
}

export interface Metric extends Line {
  metric: string;
  /** Turns the series' unit into the one shown. */
  scale?: number;
}

export function Trend(props: { title: string; lines: Metric[]; labels: Record<string, string> }): JSX.Element {
  const step = () => LENGTHS[length()]![2];
  const asked = props.lines.map((line) =>
    poll<Series[]>(() => {
      const to = frame()?.tick.at ?? Date.now();
      const end = Math.ceil(to / step()) * step();
      return `/v1/metrics/range?${query({ name: line.metric, ...props.labels, from_ms: end - LENGTHS[length()]![1], step_ms: step() })}`;
    }, 60_000),
  );
  const data = () => {
    const [times, ...columns] = align(asked.map((of) => of.answer()?.value[0]), step());
    return [times!, ...columns.map((column, at) => column.map((value) => (value === null ? null : value * (props.lines[at]!.scale ?? 1))))];
  };
  return <Plot title={props.title} lines={props.lines} data={data} />;
}
