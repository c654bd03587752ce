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
  scope: Scope;
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
/** Room around the map for the frame of a cell at its edge. */
const EDGE_PX = 2;
const SIDE_PX_MAX = 28;
/** Width of a group from which its rack is named however small the cells. */
const RACK_NAMED_PX = 48;
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

export interface Scope {
  datacenter: string;
  rack: string;
}

/** The groups inside a scope; an empty part of it means all. */
export function scoped(all: Group[], scope: Scope): Group[] {
  return all.filter((of) => (!scope.datacenter || of.datacenter === scope.datacenter) && (!scope.rack || of.rack === scope.rack));
}

/** The label at a point, if any: a datacenter or a rack to look into. */
export function labelAt(map: Map2d, x: number, y: number): Label | undefined {
  return map.labels.find((label) => y > label.y - 12 && y < label.y + 4 && x >= label.x && x < label.x + label.text.length * 7 + 4);
}

/** How many cells of a group stand side by side for each that stands one above another; tried in this order. */
const ASPECTS = [2, 3, 1.4, 1, 0.85, 0.7, 0.5, 4, 6];

/** The largest cells with which all groups fit into width × height; smaller than the minimum they overflow downwards. */
export function arrange(all: Group[], width: number, height: number): Map2d {
  for (let side = SIDE_PX_MAX; side > SIDE_PX_MIN; side--) {
    for (const aspect of ASPECTS) {
      const blocks = place(all, width, side, aspect);
      if (blocks.height <= height) return filled(blocks, side, width);
    }
  }
  return filled(place(all, width, SIDE_PX_MIN, ASPECTS[0]!), SIDE_PX_MIN, width);
}

/** Where a group stands. */
interface Block {
  group: Group;
  x: number;
  y: number;
  columns: number;
}

function place(all: Group[], wide: number, side: number, aspect: number): { blocks: Block[]; labels: Label[]; height: number } {
  const blocks: Block[] = [];
  const labels: Label[] = [];
  const width = wide - EDGE_PX;
  let y = 0;
  let datacenter: string | null = null;
  let x = EDGE_PX;
  let rowHeight = 0;
  for (const group of all) {
    if (group.datacenter !== datacenter) {
      y += rowHeight + (datacenter === null ? 0 : GAP_PX);
      labels.push({ x: EDGE_PX, y: y + LABEL_PX - 4, text: group.datacenter, strong: true, scope: { datacenter: group.datacenter, rack: "" } });
      y += LABEL_PX;
      [datacenter, x, rowHeight] = [group.datacenter, EDGE_PX, 0];
    }
    const columns = Math.max(1, Math.min(Math.ceil(Math.sqrt(group.members.length * aspect)), Math.floor((width - EDGE_PX) / side)));
    const rows = Math.ceil(group.members.length / columns);
    const named = columns * side >= RACK_NAMED_PX || side >= 8 ? LABEL_PX : 0;
    const broad = Math.max(columns * side, named ? group.rack.length * 7 : 0);
    if (x > EDGE_PX && x + broad > width) {
      y += rowHeight + GAP_PX;
      [x, rowHeight] = [EDGE_PX, 0];
    }
    if (named) labels.push({ x, y: y + LABEL_PX - 4, text: group.rack, strong: false, scope: { datacenter: group.datacenter, rack: group.rack } });
    blocks.push({ group, x, y: y + named, columns });
    rowHeight = Math.max(rowHeight, named + rows * side);
    x += broad + GAP_PX;
  }
  return { blocks, labels, height: y + rowHeight + EDGE_PX };
}

function filled({ blocks, labels, height }: ReturnType<typeof place>, side: number, width: number): Map2d {
  const cells = blocks.flatMap(({ group, x, y, columns }) =>
    group.members.map((index, at) => ({ x: x + (at % columns) * side, y: y + Math.floor(at / columns) * side, index })));
  return { cells, labels, side, height, width };
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
