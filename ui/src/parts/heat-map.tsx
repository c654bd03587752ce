// Thousands of hosts or instances at once, on a canvas: a cell each, by datacenter and rack.
import { createEffect, createMemo, createSignal, For, type JSX, onCleanup, onMount, Show } from "solid-js";
import { go } from "../app";
import { count, ms, percent } from "../format";
import { arrange, type Cell, cellAt, colour, groups, LOST, neighbour, SCALE } from "../heat";
import { frame } from "../live";
import { type Column, type Layout, PHASES, type Tick } from "../types";

const HEIGHT_PX = 360;
/** Latency that is painted as 1. */
const P99_FULL_MS = 500;
/** Share of errors that is painted as 1. */
const ERRORS_FULL = 0.05;

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

export function HeatMap(): JSX.Element {
  const [of, setOf] = createSignal<Of>("instances");
  const [look, setLook] = createSignal("CPU");
  const [width, setWidth] = createSignal(600);
  const [chosen, setChosen] = createSignal<Cell | null>(null);
  let canvas!: HTMLCanvasElement;
  const number = () => frame()!.layout.number;
  const map = createMemo(() => {
    number();
    return arrange(groups(places(of(), frame()!.layout)), width(), HEIGHT_PX);
  });
  const paint = () => {
    const { tick } = frame()!;
    draw(canvas, map(), LOOKS[of()][look()]!(tick), alarms(of(), tick), chosen());
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
  const name = (cell: Cell) => frame()!.layout[of()][cell.index]!.name;
  const keys = (event: KeyboardEvent) => {
    const moves: Record<string, [number, number]> = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const move = moves[event.key];
    const from = chosen() ?? map().cells[0];
    if (move && from) {
      setChosen(chosen() ? neighbour(map(), from, ...move) : from);
      event.preventDefault();
    } else if (event.key === "Enter" && chosen()) go(of(), name(chosen()!));
  };
  return (
    <section class="card heat" aria-label="Heat map">
      <h2>Heat map</h2>
      <div class="choices">
        <For each={Object.keys(LOOKS) as Of[]}>
          {(kind) => <button aria-pressed={of() === kind} onClick={() => { setOf(kind); setLook("CPU"); setChosen(null); }}>{kind}</button>}
        </For>
        <span class="split" />
        <For each={Object.keys(LOOKS[of()])}>
          {(kind) => <button aria-pressed={look() === kind} onClick={() => setLook(kind)}>{kind}</button>}
        </For>
        <Scale look={look()} />
      </div>
      <div class="canvas">
        <canvas
          ref={canvas}
          tabIndex={0}
          role="application"
          aria-label={`${map().cells.length} ${of()}; arrow keys choose one, Enter opens it`}
          onMouseMove={(event) => setChosen(point(event) ?? null)}
          onMouseLeave={() => setChosen(null)}
          onClick={(event) => { const cell = point(event); if (cell) go(of(), name(cell)); }}
          onKeyDown={keys}
        />
      </div>
      <p class="told" aria-live="polite"><Show when={chosen()} fallback="Choose a cell to read it.">{(cell) => told(of(), cell().index)}</Show></p>
    </section>
  );
}

function Scale(props: { look: string }): JSX.Element {
  const bound = (share: number) => {
    if (props.look === "p99") return ms(share * P99_FULL_MS);
    if (props.look === "errors") return percent(share * ERRORS_FULL);
    return percent(share);
  };
  return (
    <span class="scale" aria-hidden="true">
      <For each={SCALE}>{([share, name]) => <i style={{ background: name }} title={Number.isFinite(share) ? `up to ${bound(share)}` : "more"} />}</For>
    </span>
  );
}

function places(of: Of, layout: Layout): { datacenter: string; rack: string }[] {
  if (of === "hosts") return layout.hosts;
  return layout.instances.map((instance) => layout.hosts[instance.host]!);
}

/** Cells that are marked whatever their value. */
function alarms(of: Of, tick: Tick): boolean[] {
  if (of === "hosts") return tick.hosts.state.map((state) => state % 4 === 2);
  const bad = ["unhealthy", "backoff", "failed"].map((word) => PHASES.indexOf(word));
  return tick.instances.phase.map((phase) => bad.includes(phase));
}

function told(of: Of, index: number): string {
  const { layout, tick } = frame()!;
  if (of === "hosts") {
    const host = layout.hosts[index];
    if (!host) return "";
    const state = ["unknown", "connected", "lost"][(tick.hosts.state[index] ?? 0) % 4];
    return `${host.name} (${host.datacenter}, ${host.rack}): ${state}, CPU ${percent(tick.hosts.cpu[index])}, memory ${percent(tick.hosts.memory[index])}, given ${percent(tick.hosts.given[index])}`;
  }
  const instance = layout.instances[index];
  if (!instance) return "";
  const at = tick.instances;
  return `${instance.name} on ${layout.hosts[instance.host]!.name}: ${PHASES[at.phase[index] ?? 0]}, ${count(at.rps[index])}/s, p99 ${ms(at.p99_ms[index])}, errors ${percent(at.errors[index])}, CPU ${percent(at.cpu[index])}`;
}

function draw(canvas: HTMLCanvasElement, map: ReturnType<typeof arrange>, values: Column, alarmed: boolean[], chosen: Cell | null) {
  const started = performance.now();
  const ratio = devicePixelRatio || 1;
  const [width, height] = [Math.round(map.width * ratio), Math.round(Math.max(map.height, 40) * ratio)];
  if (canvas.width !== width || canvas.height !== height) {
    [canvas.width, canvas.height] = [width, height];
    canvas.style.height = `${height / ratio}px`;
  }
  const paint = canvas.getContext("2d", { alpha: true })!;
  paint.setTransform(ratio, 0, 0, ratio, 0, 0);
  paint.clearRect(0, 0, map.width, map.height);
  const size = map.side > 6 ? map.side - 2 : map.side - 0.5;
  // One pass a colour: changing the fill style costs more than a rectangle.
  const byColour = new Map<string, Cell[]>();
  for (const cell of map.cells) {
    const name = alarmed[cell.index] ? LOST : colour(values[cell.index]);
    const same = byColour.get(name);
    if (same) same.push(cell);
    else byColour.set(name, [cell]);
  }
  for (const [name, cells] of byColour) {
    paint.fillStyle = name;
    for (const cell of cells) paint.fillRect(cell.x, cell.y, size, size);
  }
  paint.strokeStyle = "#e0335b";
  paint.lineWidth = 2;
  for (const cell of byColour.get(LOST) ?? []) paint.strokeRect(cell.x + 1, cell.y + 1, size - 2, size - 2);
  const ink = getComputedStyle(canvas).color;
  paint.fillStyle = ink;
  for (const label of map.labels) {
    paint.font = label.strong ? "600 12px system-ui" : "11px system-ui";
    paint.fillText(label.text, label.x, label.y);
  }
  if (chosen) {
    paint.strokeStyle = ink;
    paint.strokeRect(chosen.x - 1, chosen.y - 1, size + 2, size + 2);
  }
  performance.measure("heat-frame", { start: started });
}
