// A line plot of the last minutes. All plots of a page share one cursor.
import { createEffect, type JSX, onCleanup, onMount } from "solid-js";
import uPlot from "uplot";

const sync = uPlot.sync("night");

export interface Line {
  label: string;
  colour: string;
  fill?: string;
  /** Formats values of the legend and the axis. */
  show: (value: number) => string;
}

export function Plot(props: { title: string; lines: Line[]; data: () => (number | null)[][]; height?: number; mark?: number }): JSX.Element {
  let place!: HTMLDivElement;
  let plot: uPlot | undefined;
  const make = () => {
    plot?.destroy();
    const style = getComputedStyle(document.documentElement);
    const [ink, grid] = [style.getPropertyValue("--quiet").trim(), style.getPropertyValue("--line").trim()];
    const axis = { stroke: ink, grid: { stroke: grid, width: 1 }, ticks: { show: false }, font: "11px system-ui" };
    const width = place.clientWidth || 300;
    plot = new uPlot(
      {
        width,
        height: props.height ?? 120,
        cursor: { sync: { key: sync.key }, drag: { x: false, y: false }, points: { size: 5 } },
        legend: { live: true },
        scales: { y: { range: (_, __, max) => [0, Math.max(max * 1.1, 0.001)] } },
        axes: [
          { ...axis, space: 70, size: 22, values: (_, at) => at.map((s) => new Date(s * 1000).toLocaleTimeString(undefined, { hour12: false })) },
          { ...axis, size: 44, space: 24, values: (_, at) => at.map((v) => props.lines[0]!.show(v)) },
        ],
        series: [
          { value: (_, s) => (s == null ? "" : new Date(s * 1000).toLocaleTimeString(undefined, { hour12: false })), label: "" },
          ...props.lines.map((line) => ({
            label: line.label,
            stroke: line.colour,
            fill: line.fill,
            width: 1.5,
            points: { show: false },
            value: (_: uPlot, v: number | null) => (v == null ? "–" : line.show(v)),
          })),
        ],
      },
      props.data() as uPlot.AlignedData,
      place,
    );
    sync.sub(plot);
  };
  onMount(() => {
    make();
    const watch = new ResizeObserver(() => plot?.setSize({ width: place.clientWidth, height: props.height ?? 120 }));
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
  });
  return (
    <figure class="plot">
      <figcaption>{props.title}</figcaption>
      <div ref={place} />
    </figure>
  );
}
