// What decides what the page shows, without a browser.
import { describe, expect, test } from "vitest";
import { count, ms, percent, span } from "./format";
import { funnel } from "./funnel";
import { arrange, cellAt, colour, groups, neighbour, SCALE, UNKNOWN } from "./heat";
import { hot } from "./hot";
import type { Layout, Tick } from "./types";

const layout: Layout = {
  number: "1",
  hosts: [],
  services: [
    { name: "sso", business: "b", layer: "access", calls: ["lottery"] },
    { name: "lottery", business: "b", layer: "logic", calls: ["bank"] },
    { name: "pay", business: "b", layer: "logic", calls: [] },
    { name: "bank", business: "", layer: "external", calls: [] },
  ],
  instances: [],
  events: [],
};
const tick = {
  services: {
    rps: [100, 200, null, 10],
    failed_rps: [0, 4, null, 0],
    rejected_rps: [10, 0, null, 0],
    p50_ms: [1, 2, null, 3],
    p99_ms: [5, 9, null, 3],
    cpu: [0.2, 0.9, null, null],
    healthy: [2, 4, 1, 0],
    wanted: [2, 4, 1, 0],
  },
} as unknown as Tick;

describe("numbers for people", () => {
  test("keep three digits and a unit that fits", () => {
    expect([0, 0.4, 9.96, 42, 950, 1234, 99_950, 1e6, null].map(count)).toEqual(["0", "0.4", "10.0", "42", "950", "1.2k", "100k", "1M", "–"]);
    expect([0.4, 12, 1500].map(ms)).toEqual(["0.4 ms", "12 ms", "1.5 s"]);
    expect([0, 0.004, 0.5].map(percent)).toEqual(["0%", "0.4%", "50%"]);
    expect([4_000, 61_000, 3_700_000, 200_000_000].map(span)).toEqual(["4 s", "1 min 1 s", "1 h 1 min", "2 d 7 h"]);
  });
});

describe("the funnel", () => {
  test("adds a layer's services up and keeps the worst latency", () => {
    const [access, logic, external] = funnel(layout, tick);
    expect(access).toMatchObject({ offered: 100, admitted: 90, rejected: 10, failed: 0, p99: 5 });
    expect(logic).toMatchObject({ offered: 200, failed: 4, p99: 9, cpu: 0.9, services: ["lottery", "pay"] });
    expect(external?.layer).toBe("external");
  });
});

describe("what is hot", () => {
  test("has the worst first, with its reason, and never an external", () => {
    const list = hot(layout, tick);
    expect(list.map((of) => of.service)).toEqual(["sso", "lottery", "pay"]);
    expect(list[0]?.reason).toContain("rejects 10.0%");
    expect(list[1]?.suggested).toBe(7);
  });
});

describe("the heat map", () => {
  const hosts = (count: number) =>
    Array.from({ length: count }, (_, i) => ({ datacenter: `dc${i < count / 2 ? 1 : 2}`, rack: `r${Math.floor(i / 40)}` }));
  test("gives ten thousand cells a place each, inside its width", () => {
    const map = arrange(groups(hosts(10_000)), 900, 360);
    expect(map.cells).toHaveLength(10_000);
    expect(new Set(map.cells.map((cell) => `${cell.x} ${cell.y}`)).size).toBe(10_000);
    expect(Math.max(...map.cells.map((cell) => cell.x + map.side))).toBeLessThanOrEqual(900);
  });
  test("finds what is pointed at, and walks by arrow keys", () => {
    const map = arrange(groups(hosts(12)), 400, 360);
    const first = map.cells[0]!;
    expect(cellAt(map, first.x + 1, first.y + 1)).toBe(first);
    expect(cellAt(map, -1, 0)).toBeUndefined();
    expect(neighbour(map, first, 1, 0).x).toBeGreaterThan(first.x);
    expect(neighbour(map, first, -1, 0)).toBe(first);
  });
  test("has a colour for each value", () => {
    expect(colour(null)).toBe(UNKNOWN);
    expect(colour(0)).toBe(SCALE[0]![1]);
    expect(colour(99)).toBe(SCALE.at(-1)![1]);
  });
});
