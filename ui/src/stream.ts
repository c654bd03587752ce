// Server-sent events as they come in pieces; what a page that slept may leave out; how late a tick is. Pure.

export interface Block {
  event: string;
  data: string;
}

/** Cuts a stream of text into events. */
export class Blocks {
  private text = "";

  /** Takes a piece; gives the events that are whole. */
  take(piece: string): Block[] {
    this.text += piece;
    const parts = this.text.split("\n\n");
    this.text = parts.pop()!;
    return parts.map(block).filter((of) => of.event !== "");
  }
}

function block(text: string): Block {
  const lines = text.split("\n");
  const field = (name: string) => lines.filter((line) => line.startsWith(`${name}: `)).map((line) => line.slice(name.length + 2)).join("\n");
  return { event: field("event"), data: field("data") };
}

/** Of events that came at once only the last tick is worth painting; a layout is never left out. */
export function newest(blocks: Block[]): Block[] {
  const last = blocks.findLastIndex((of) => of.event === "tick");
  return blocks.filter((of, at) => of.event !== "tick" || at === last);
}

/** Ticks over which the shortest way is looked for: a minute. */
const WAYS_MAX = 120;

/** How late ticks are. The clocks of server and browser may differ by minutes: what counts is by how much a tick came
 * later than the fastest of the last minute. */
export class Lateness {
  private ways: number[] = [];

  /** Milliseconds by which a tick of the server's time `at` is late when it arrives at the browser's time `now`. */
  heard(at: number, now: number): number {
    this.ways.push(now - at);
    if (this.ways.length > WAYS_MAX) this.ways.shift();
    return now - at - Math.min(...this.ways);
  }
}
