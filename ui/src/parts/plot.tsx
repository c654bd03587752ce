// A line plot over time. All plots of a page share one cursor.
import { createEffect, type JSX, onCleanup, onMount } from "solid-js";
import uPlot from "uplot";
import { clock } from "../format";

const sync = uPlot.sync("night");

export interface Line {
  label: string;
  colour: string;
  fill?: string;
  /** Formats values of the legend and the axis. */
  show: (value: number) => string;
}

const time = (seconds: number) => clock(seconds * 1000);

export function Plot(props: { title: string; lines: Line[]; data: () => (number | null)[][]; height?: number }): JSX.Element {
  let place!: HTMLDivElement;
  let plot: uPlot | undefined;
  const height = () => props.height ?? 130;
  const make = () => {
    if (plot) sync.unsub(plot);
    plot?.destroy();
    const style = getComputedStyle(document.documentElement);
    const colour = (name: string) => style.getPropertyValue(name).trim();
    const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    plot = new uPlot(
      {
        width: place.clientWidth || 300,
        height: height(),
        cursor: { left: -1, sync: { key: sync.key }, drag: { x: false, y: false }, points: { size: 5 } },
        legend: { live: true },
        scales: { y: { range: (_, __, max) => [0, Math.max((max ?? 0) * 1.1, 0.001)] } },
        axes: [
          { ...axis, space: 70, size: 22, values: (_, at) => at.map(time) },
          { ...axis, size: 50, space: 24, values: (_, at) => at.map((v) => props.lines[0]!.show(v)) },
        ],
        series: [
          { value: (_, s) => (s == null ? "" : time(s)), label: "at" },
          ...props.lines.map((line) => ({
            label: line.label,
            stroke: line.colour.startsWith("--") ? colour(line.colour) : line.colour,
            fill: line.fill,
            width: 1.5,
            points: { show: false },
            spanGaps: false,
            value: (_: uPlot, v: number | null) => (v == null ? "–" : line.show(v)),
          })),
        ],
      },
      props.data() as uPlot.AlignedData,
      place,
    );
    sync.sub(plot);
    newest();
  };
  /** Nobody points: the legend says the newest values. */
  const newest = () => {
    if (plot && plot.cursor.left! < 0) plot.setLegend({ idx: plot.data[0].length - 1 }, false);
  };
  onMount(() => {
    make();
    const watch = new ResizeObserver(() => plot?.setSize({ width: place.clientWidth, height: height() }));
    watch.observe(place);
    addEventListener("themechange", make);
    onCleanup(() => {
      watch.disconnect();
      removeEventListener("themechange", make);
      if (plot) sync.unsub(plot);
      plot?.destroy();
    });
  });
  createEffect(() => {
    const data = props.data();
    plot?.setData(data as uPlot.AlignedData);
    newest();
  });
  return (
    <figure class="plot">
      <figcaption>{props.title}</figcaption>
      <div ref={place} />
    </figure>
  );
}
