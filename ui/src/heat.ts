// The heat map's geometry and colours, apart from the canvas so that they can be tested.
// Cells are grouped by datacenter, then rack; every group is a block of columns.

export interface Group {
  datacenter: string;
  rack: string;
  /** Places of the cells in the layout's list. */
  members: number[];
}

export interface Cell {
  x: number;
  y: number;
  index: number;
}

export interface Label {
  x: number;
  y: number;
  text: string;
  strong: boolean;
}

export interface Map2d {
  cells: Cell[];
  labels: Label[];
  side: number;
  height: number;
  width: number;
}

const LABEL_PX = 16;
const GAP_PX = 6;
const SIDE_PX_MAX = 28;
const SIDE_PX_MIN = 3;

/** Groups in order of datacenter and rack, as the layout lists them. */
export function groups(places: { datacenter: string; rack: string }[]): Group[] {
  const found = new Map<string, Group>();
  places.forEach((place, index) => {
    const key = `${place.datacenter}\n${place.rack}`;
    let group = found.get(key);
    if (!group) found.set(key, (group = { datacenter: place.datacenter, rack: place.rack, members: [] }));
    group.members.push(index);
  });
  return [...found.values()];
}

/** The largest cells with which all groups fit into width × height; smaller than the minimum they overflow downwards. */
export function arrange(all: Group[], width: number, height: number): Map2d {
  for (let side = SIDE_PX_MAX; side > SIDE_PX_MIN; side--) {
    const map = place(all, width, side);
    if (map.height <= height) return map;
  }
  return place(all, width, SIDE_PX_MIN);
}

function place(all: Group[], width: number, side: number): Map2d {
  const cells: Cell[] = [];
  const labels: Label[] = [];
  let y = 0;
  let datacenter: string | null = null;
  let x = 0;
  let rowHeight = 0;
  for (const group of all) {
    if (group.datacenter !== datacenter) {
      y += rowHeight + (datacenter === null ? 0 : GAP_PX);
      labels.push({ x: 0, y: y + LABEL_PX - 4, text: group.datacenter, strong: true });
      y += LABEL_PX;
      [datacenter, x, rowHeight] = [group.datacenter, 0, 0];
    }
    const columns = Math.max(1, Math.min(Math.ceil(Math.sqrt(group.members.length * 2)), Math.floor(width / side)));
    const rows = Math.ceil(group.members.length / columns);
    const named = side >= 8 ? LABEL_PX : 0;
    const wide = Math.max(columns * side, named ? group.rack.length * 7 : 0);
    if (x > 0 && x + wide > width) {
      y += rowHeight + GAP_PX;
      [x, rowHeight] = [0, 0];
    }
    if (named) labels.push({ x, y: y + LABEL_PX - 4, text: group.rack, strong: false });
    group.members.forEach((index, at) => {
      cells.push({ x: x + (at % columns) * side, y: y + named + Math.floor(at / columns) * side, index });
    });
    rowHeight = Math.max(rowHeight, named + rows * side);
    x += wide + GAP_PX;
  }
  return { cells, labels, side, height: y + rowHeight, width };
}

/** The cell at a point, if any. */
export function cellAt(map: Map2d, x: number, y: number): Cell | undefined {
  return map.cells.find((cell) => x >= cell.x && x < cell.x + map.side && y >= cell.y && y < cell.y + map.side);
}

/** The cell next to one, for the arrow keys: the nearest in that direction. */
export function neighbour(map: Map2d, from: Cell, dx: number, dy: number): Cell {
  let best = from;
  let bestAway = Number.POSITIVE_INFINITY;
  for (const cell of map.cells) {
    const along = (cell.x - from.x) * dx + (cell.y - from.y) * dy;
    if (along <= 0) continue;
    const across = Math.abs((cell.x - from.x) * dy) + Math.abs((cell.y - from.y) * dx);
    const away = along + across * 3;
    if (away < bestAway) [best, bestAway] = [cell, away];
  }
  return best;
}

/** Steps of the scale: upper bound (a share of 1) and colour, told apart without red and green too. */
export const SCALE: [number, string][] = [
  [0.1, "#1f3a5f"],
  [0.3, "#245f86"],
  [0.5, "#2a8a8f"],
  [0.6, "#5fb07a"],
  [0.66, "#b5cf5a"],
  [0.8, "#f2b134"],
  [0.9, "#ee7b30"],
  [Number.POSITIVE_INFINITY, "#e0335b"],
];
export const UNKNOWN = "#6b7280";
export const LOST = "#000000";

/** The colour of a share of 1; absent is grey. */
export function colour(value: number | null | undefined): string {
  if (value == null) return UNKNOWN;
  for (const [bound, name] of SCALE) if (value <= bound) return name;
  return UNKNOWN;
}
