// Which key does what, outside of fields. Pure.

export interface Key {
  keys: string;
  does: string;
}

/** Pages by the letter after `g`. */
export const PAGES: [string, string, string][] = [
  ["w", "", "War room"],
  ["s", "services", "Services"],
  ["i", "instances", "Instances"],
  ["h", "hosts", "Hosts"],
  ["o", "operations", "Operations"],
  ["n", "incidents", "Incidents"],
  ["a", "audit", "Audit"],
];

export const KEYS: Key[] = [
  ...PAGES.map(([letter, , title]) => ({ keys: `g ${letter}`, does: `go to: ${title}` })),
  { keys: "/", does: "search or filter on this page" },
  { keys: "m", does: "to the heat map; arrows choose a cell, Enter opens it, Esc leaves it" },
  { keys: "t", does: "light or dark" },
  { keys: "?", does: "this list" },
  { keys: "Tab", does: "to the next link, button or table; tables scroll by arrows, Page Up and Page Down" },
  { keys: "Esc", does: "close a dialog" },
];

export type Act = { go: string } | "search" | "map" | "theme" | "help" | null;

/** Longest time between `g` and its letter, in milliseconds. */
const PAIR_MS_MAX = 1_500;

/** Turns key presses into acts; `g` waits for its letter. */
export class Presses {
  private went = Number.NEGATIVE_INFINITY;

  press(key: string, at: number): Act {
    const paired = at - this.went <= PAIR_MS_MAX;
    this.went = Number.NEGATIVE_INFINITY;
    if (paired) {
      const page = PAGES.find(([letter]) => letter === key);
      return page ? { go: page[1] } : null;
    }
    if (key === "g") this.went = at;
    return key === "/" ? "search" : key === "m" ? "map" : key === "t" ? "theme" : key === "?" ? "help" : null;
  }
}
