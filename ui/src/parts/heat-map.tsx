// Thousands of hosts or instances at once, on a canvas: a cell each, by datacenter and rack.
import { createEffect, createMemo, createSignal, For, type JSX, onCleanup, onMount, Show } from "solid-js";
import { go } from "../app";
import { count, ms, percent } from "../format";
import { arrange, type Cell, cellAt, colour, groups, labelAt, LOST, neighbour, SCALE, type Scope, scoped, UNKNOWN } from "../heat";
import { frame } from "../live";
import { type Column, type Layout, PHASES, type Tick } from "../types";
import { reached } from "./incidents";

const HEIGHT_PX = 400;
/** Latency that is painted as 1. */
const P99_FULL_MS = 500;
/** Share of errors that is painted as 1. */
const ERRORS_FULL = 0.05;
/** How visible cells are that do not fit the search. */
const DIM = 0.18;

type Of = "hosts" | "instances";

/** The value of each cell as a share of 1, for one way of looking. */
const LOOKS: Record<Of, Record<string, (tick: Tick) => Column>> = {
  hosts: {
    CPU: (tick) => tick.hosts.cpu,
    memory: (tick) => tick.hosts.memory,
    given: (tick) => tick.hosts.given,
  },
  instances: {
    CPU: (tick) => tick.instances.cpu,
    memory: (tick) => tick.instances.memory,
    p99: (tick) => tick.instances.p99_ms.map((of) => (of == null ? null : of / P99_FULL_MS)),
    errors: (tick) => tick.instances.errors.map((of) => (of == null ? null : of / ERRORS_FULL)),
  },
};

/** What a cell's value is a share of. */
const MEANS: Record<string, string> = {
  CPU: "CPU used",
  memory: "memory used",
  given: "CPU given to instances",
  p99: "99th percentile of latency",
  errors: "share of requests that failed",
};

const [of, setOf] = createSignal<Of>("instances");
const [look, setLook] = createSignal("CPU");
const [scope, setScope] = createSignal<Scope>({ datacenter: "", rack: "" });
const [words, setWords] = createSignal("");

export function HeatMap(): JSX.Element {
  return (
    <section class="card heat" aria-label="Heat map">
      <h2>Heat map</h2>
      <Show when={frame()!.whole} fallback={<p class="quiet">Waiting for hosts and instances…</p>}>
        <Whole />
      </Show>
    </section>
  );
}

function Whole(): JSX.Element {
  const [width, setWidth] = createSignal(600);
  const [chosen, setChosen] = createSignal<Cell | null>(null);
  const [pointer, setPointer] = createSignal<[number, number] | null>(null);
  let canvas!: HTMLCanvasElement;
  const number = createMemo(() => frame()!.layout.number);
  const all = createMemo(() => (number(), groups(places(of(), frame()!.layout))));
  const map = createMemo(() => arrange(scoped(all(), scope()), width(), HEIGHT_PX));
  const fits = createMemo(() => (number(), searched(of(), frame()!.layout, words())));
  const paint = () => {
    const { tick, layout } = frame()!;
    const marked = of() === "hosts" ? reached().hosts(layout) : reached().instances(layout);
    draw(canvas, map(), { values: LOOKS[of()][look()]!(tick), alarmed: alarms(of(), tick), fits: fits(), marked, chosen: chosen() });
  };
  createEffect(paint);
  onMount(() => {
    const watch = new ResizeObserver(() => setWidth(canvas.parentElement!.clientWidth));
    watch.observe(canvas.parentElement!);
    addEventListener("themechange", paint);
    onCleanup(() => {
      watch.disconnect();
      removeEventListener("themechange", paint);
    });
  });
  const point = (event: MouseEvent) => cellAt(map(), event.offsetX, event.offsetY);
  const name = (cell: Cell) => frame()!.layout[of()][cell.index]?.name ?? "";
  const look_into = (next: Scope) => {
    setChosen(null);
    setScope(next);
  };
  const click = (event: MouseEvent) => {
    const cell = point(event);
    if (cell) return go(of(), name(cell));
    const label = labelAt(map(), event.offsetX, event.offsetY);
    if (label) look_into(label.scope);
  };
  const keys = (event: KeyboardEvent) => {
    const moves: Record<string, [number, number]> = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const move = moves[event.key];
    const from = chosen() ?? map().cells[0];
    if (move && from) {
      setChosen(chosen() ? neighbour(map(), from, ...move) : from);
      setPointer(null);
      event.preventDefault();
    } else if (event.key === "Enter" && chosen()) go(of(), name(chosen()!));
    else if (event.key === "Escape") setChosen(null);
  };
  return (
    <>
      <Choices all={all()} look_into={look_into} />
      <div class="canvas">
        <canvas
          ref={canvas}
          tabIndex={0}
          role="application"
          aria-label={`${map().cells.length} ${of()}; arrow keys choose one, Enter opens it`}
          onMouseMove={(event) => {
            setChosen(point(event) ?? null);
            setPointer([event.offsetX, event.offsetY]);
          }}
          onMouseLeave={() => setChosen(null)}
          onClick={click}
          onKeyDown={keys}
        />
        <Show when={chosen() && pointer()}>
          {(at) => (
            <div class="tip" aria-hidden="true" style={{ left: `${Math.min(at()[0] + 14, Math.max(0, width() - 250))}px`, top: `${at()[1] + 16}px` }}>
              <For each={told(of(), chosen()!.index)}>{(line, nth) => (nth() === 0 ? <b>{line}</b> : <span>{line}</span>)}</For>
            </div>
          )}
        </Show>
      </div>
      <Legend look={look()} />
      <p class="told" aria-live="polite" data-name={chosen() ? name(chosen()!) : undefined}>
        <Show when={chosen()} fallback={`${count(map().cells.length)} ${of()}: point at one to read it, click to open it.`}>
          {(cell) => told(of(), cell().index).join(" · ")}
        </Show>
      </p>
    </>
  );
}

function Choices(props: { all: { datacenter: string; rack: string }[]; look_into: (scope: Scope) => void }): JSX.Element {
  const datacenters = () => [...new Set(props.all.map((of) => of.datacenter))];
  const racks = () => props.all.filter((of) => of.datacenter === scope().datacenter).map((of) => of.rack);
  return (
    <div class="choices">
      <span role="group" aria-label="Cells">
        <For each={Object.keys(LOOKS) as Of[]}>
          {(kind) => <button aria-pressed={of() === kind} onClick={() => { setOf(kind); setLook("CPU"); }}>{kind}</button>}
        </For>
      </span>
      <span role="group" aria-label="Colour">
        <For each={Object.keys(LOOKS[of()])}>
          {(kind) => <button aria-pressed={look() === kind} title={MEANS[kind]} onClick={() => setLook(kind)}>{kind}</button>}
        </For>
      </span>
      <select aria-label="Datacenter" onChange={(event) => props.look_into({ datacenter: event.currentTarget.value, rack: "" })}>
        <option value="" selected={!scope().datacenter}>all datacenters</option>
        <For each={datacenters()}>{(name) => <option selected={scope().datacenter === name}>{name}</option>}</For>
      </select>
      <Show when={scope().datacenter}>
        <select aria-label="Rack" onChange={(event) => props.look_into({ ...scope(), rack: event.currentTarget.value })}>
          <option value="" selected={!scope().rack}>all racks</option>
          <For each={racks()}>{(name) => <option selected={scope().rack === name}>{name}</option>}</For>
        </select>
      </Show>
      <input type="search" class="find" placeholder="find" aria-label="Find cells" value={words()} onInput={(event) => setWords(event.currentTarget.value)} />
    </div>
  );
}

function Legend(props: { look: string }): JSX.Element {
  const bound = (share: number) => {
    if (props.look === "p99") return ms(share * P99_FULL_MS);
    if (props.look === "errors") return percent(share * ERRORS_FULL);
    return percent(share);
  };
  return (
    <p class="legend">
      <span>{MEANS[props.look]}:</span>
      <span class="scale">
        <For each={SCALE}>{([share, name], at) => <span><i style={{ background: name }} />{Number.isFinite(share) ? `≤ ${bound(share)}` : `> ${bound(SCALE[at() - 1]![0])}`}</span>}</For>
      </span>
      <span><i style={{ background: UNKNOWN }} />not measured</span>
      <span><i class="alarm" />{of() === "hosts" ? "lost" : "not healthy"}</span>
      <Show when={reached().any()}><span><i class="marked" />in an incident</span></Show>
    </p>
  );
}

function places(of: Of, layout: Layout): { datacenter: string; rack: string }[] {
  if (of === "hosts") return layout.hosts;
  return layout.instances.map((instance) => layout.hosts[instance.host]!);
}

/** Which cells have all words in their names; null when there are none. */
function searched(of: Of, layout: Layout, words: string): boolean[] | null {
  const all = words.toLowerCase().split(/\s+/).filter((word) => word !== "");
  if (all.length === 0) return null;
  const has = (text: string) => all.every((word) => text.includes(word));
  if (of === "hosts") return layout.hosts.map((host) => has(`${host.name} ${host.datacenter} ${host.rack}`));
  return layout.instances.map((at) => has(`${at.name} ${layout.services[at.service]!.name} ${layout.hosts[at.host]!.name}`));
}

/** Cells that are marked whatever their value. */
function alarms(of: Of, tick: Tick): boolean[] {
  if (of === "hosts") return tick.hosts.state.map((state) => state % 4 === 2);
  const bad = ["unhealthy", "backoff", "failed"].map((word) => PHASES.indexOf(word));
  return tick.instances.phase.map((phase) => bad.includes(phase));
}

function told(of: Of, index: number): string[] {
  const { layout, tick } = frame()!;
  if (of === "hosts") {
    const host = layout.hosts[index];
    if (!host) return [];
    const code = tick.hosts.state[index] ?? 0;
    const state = ["unknown", "connected", "lost"][code % 4] + (code >= 4 ? ", cordoned" : "");
    return [host.name, `${host.datacenter}, rack ${host.rack}`, state, `CPU ${percent(tick.hosts.cpu[index])}`, `memory ${percent(tick.hosts.memory[index])}`, `given ${percent(tick.hosts.given[index])}`];
  }
  const instance = layout.instances[index];
  if (!instance) return [];
  const at = tick.instances;
  const host = layout.hosts[instance.host]!;
  return [instance.name, `on ${host.name} (${host.datacenter}, ${host.rack})`, PHASES[at.phase[index] ?? 0]!, `${count(at.rps[index])}/s`, `p99 ${ms(at.p99_ms[index])}`, `errors ${percent(at.errors[index])}`, `CPU ${percent(at.cpu[index])}`, `memory ${percent(at.memory[index])}`];
}

interface Look {
  values: Column;
  alarmed: boolean[];
  fits: boolean[] | null;
  marked: Set<number>;
  chosen: Cell | null;
}

/** Colours of the theme, asked for once: asking makes the browser lay the whole page out first. */
let inks: { ink: string; marked: string } | null = null;
addEventListener("themechange", () => (inks = null));

function inksOf(canvas: HTMLCanvasElement) {
  const style = getComputedStyle(canvas);
  return { ink: style.color, marked: style.getPropertyValue("--marked") };
}

/** The pixels of a canvas, kept from frame to frame. */
let pixels: ImageData | null = null;

/** A colour as a pixel has it in memory: red, green, blue, opacity from the lowest byte. */
function pixel(name: string, opacity: number): number {
  const [red, green, blue] = [1, 3, 5].map((at) => Number.parseInt(name.slice(at, at + 2), 16)) as [number, number, number];
  return ((Math.round(opacity * 255) << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}

/** Fills the cells straight into pixels: ten thousand rectangles take a canvas five times as long. */
function fill(paint: CanvasRenderingContext2D, map: ReturnType<typeof arrange>, size: number, ratio: number, colourOf: (cell: Cell) => number) {
  const { width, height } = paint.canvas;
  if (pixels?.width !== width || pixels.height !== height) pixels = paint.createImageData(width, height);
  const words = new Uint32Array(pixels.data.buffer);
  words.fill(0);
  for (const cell of map.cells) {
    const word = colourOf(cell);
    const [left, right] = [Math.round(cell.x * ratio), Math.min(width, Math.round((cell.x + size) * ratio))];
    const [top, bottom] = [Math.round(cell.y * ratio), Math.min(height, Math.round((cell.y + size) * ratio))];
    for (let y = top; y < bottom; y++) {
      for (let at = y * width + left, end = y * width + right; at < end; at++) words[at] = word;
    }
  }
  paint.putImageData(pixels, 0, 0);
}

function draw(canvas: HTMLCanvasElement, map: ReturnType<typeof arrange>, look: Look) {
  const started = performance.now();
  const ratio = devicePixelRatio || 1;
  const [width, height] = [Math.round(map.width * ratio), Math.round(Math.max(map.height, 40) * ratio)];
  if (canvas.width !== width || canvas.height !== height) {
    [canvas.width, canvas.height] = [width, height];
    canvas.style.height = `${height / ratio}px`;
  }
  const paint = canvas.getContext("2d", { alpha: true })!;
  const size = map.side > 6 ? map.side - 2 : map.side - 1;
  const words = new Map<string, number>();
  const alarmed: Cell[] = [];
  const framed: Cell[] = [];
  fill(paint, map, size, ratio, (cell) => {
    const name = look.alarmed[cell.index] ? LOST : colour(look.values[cell.index]);
    const dim = look.fits !== null && !look.fits[cell.index];
    if (look.alarmed[cell.index] && !dim) alarmed.push(cell);
    if (look.marked.has(cell.index)) framed.push(cell);
    const key = dim ? `${name} dim` : name;
    let word = words.get(key);
    if (word === undefined) words.set(key, (word = pixel(name, dim ? DIM : 1)));
    return word;
  });
  paint.setTransform(ratio, 0, 0, ratio, 0, 0);
  const frames = (colour: string, cells: Cell[], by: number) => {
    paint.strokeStyle = colour;
    paint.lineWidth = by;
    for (const cell of cells) paint.strokeRect(cell.x, cell.y, size, size);
  };
  frames("#e0335b", alarmed, size > 6 ? 2 : 1);
  inks ??= inksOf(canvas);
  frames(inks.marked, framed, size > 6 ? 2 : 1);
  paint.fillStyle = inks.ink;
  for (const label of map.labels) {
    paint.font = label.strong ? "600 12px system-ui, sans-serif" : "11px system-ui, sans-serif";
    paint.fillText(label.text, label.x, label.y);
  }
  if (look.chosen) {
    paint.lineWidth = 2;
    paint.strokeStyle = inks.ink;
    paint.strokeRect(look.chosen.x - 1, look.chosen.y - 1, size + 2, size + 2);
  }
  performance.measure("heat-frame", { start: started });
}
