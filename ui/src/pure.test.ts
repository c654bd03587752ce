// What decides what the page shows, without a browser.
import { describe, expect, test } from "vitest";
import { align } from "./align";
import { brief, bytes, clock, count, date, ms, percent, span } from "./format";
import { funnel } from "./funnel";
import { arrange, cellAt, colour, groups, labelAt, neighbour, SCALE, scoped, UNKNOWN } from "./heat";
import { hot } from "./hot";
import { KEYS, PAGES, Presses } from "./keys";
import { GAP_MS, type Moment, PAST_MAX, remember } from "./past";
import { Reach } from "./reach";
import { heldAt, reasons, skipping, sorted, standing, stretch, verbs } from "./steps";
import { Blocks, Lateness, newest } from "./stream";
import type { Incident, Layout, LiveOperation, OperationWhole, Tick } from "./types";
import { countdown, phase } from "./when";
import { yaml } from "./yaml";

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
    expect([0, 900, 1536, 3 * 1024 ** 3, null].map(bytes)).toEqual(["0 B", "900 B", "1.5 KiB", "3.0 GiB", "–"]);
    expect([4_000, 61_000, 3_700_000, 200_000_000].map(span)).toEqual(["4 s", "1 min 1 s", "1 h 1 min", "2 d 7 h"]);
    expect([0, 440, 9_949, 12_000].map(brief)).toEqual(["0.0 s", "0.4 s", "9.9 s", "12 s"]);
  });
});

describe("times for people", () => {
  test("are ISO dates of the local day, midnight being 00", () => {
    const midnight = new Date(2027, 1, 5, 0, 0, 7).getTime();
    expect([clock(midnight), date(midnight)]).toEqual(["00:00:07", "2027-02-05 00:00:07"]);
  });
});

describe("a declaration", () => {
  test("is the YAML of a manifest", () => {
    const of = { kind: "Service", shape: { cpu: "0.2", memory: null }, ports: ["http"], dependencies: [{ on: "bank", calls: 0.3 }], command: ["x: y", ""], labels: {} };
    expect(yaml(of).split("\n")).toEqual(["kind: Service", "shape:", '  cpu: "0.2"', "ports:", "- http", "dependencies:", '- "on": bank', "  calls: 0.3", "command:", '- "x: y"', '- ""', "labels: {}"]);
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

describe("where incidents reach", () => {
  const incident = { ended_at: null, title: "loss of h2", services: ["lottery"], instances: ["lottery-1"], causes: [], findings: [{ entity_kind: "host", entity: "h2" }] } as unknown as Incident;
  const placed: Layout = {
    ...layout,
    hosts: ["h1", "h2", "h3"].map((name) => ({ name, datacenter: "dc", rack: "r" })),
    instances: [{ name: "lottery-1", service: 1, host: 0 }, { name: "lottery-2", service: 1, host: 2 }, { name: "pay-1", service: 2, host: 2 }],
  };
  test("is marked on instances, their hosts and hosts named, and makes services hot", () => {
    const reach = new Reach([incident]);
    expect([...reach.instances(placed)]).toEqual([0]);
    expect([...reach.hosts(placed)].sort()).toEqual([0, 1]);
    expect(hot(layout, tick, reach.services)[1]).toMatchObject({ service: "lottery", incident: "loss of h2" });
    expect(hot(layout, { services: { ...tick.services, cpu: [], rejected_rps: [], failed_rps: [] } } as unknown as Tick, reach.services)[0]).toMatchObject({ service: "lottery", reason: "", incident: "loss of h2" });
  });
  test("is a service as a whole where no instance is named, and nothing once it has ended", () => {
    expect([...new Reach([{ ...incident, instances: [] }]).instances(placed)]).toEqual([0, 1]);
    expect(new Reach([{ ...incident, ended_at: 5 }]).any()).toBe(false);
  });
});

describe("the feed", () => {
  test("is put together from pieces cut anywhere", () => {
    const text = 'event: layout\ndata: {"a":1}\n\n:\n\nevent: tick\ndata: 1\ndata: 2\n\nevent: ti';
    for (let cut = 1; cut < text.length; cut++) {
      const blocks = new Blocks();
      expect([...blocks.take(text.slice(0, cut)), ...blocks.take(text.slice(cut))]).toEqual([{ event: "layout", data: '{"a":1}' }, { event: "tick", data: "1\n2" }]);
    }
  });
  test("paints only the last of ticks that came at once, and every layout", () => {
    const [a, b, c, d] = ["tick 1", "layout 2", "tick 3", "tick 4"].map((text) => ({ event: text.split(" ")[0]!, data: text.split(" ")[1]! }));
    expect(newest([a!, b!, c!, d!])).toEqual([b, d]);
    expect(newest([])).toEqual([]);
  });
  test("is late by how much longer it took than the fastest of the last minute, whatever the clocks say", () => {
    const lateness = new Lateness();
    const ahead = 300_000;
    expect(lateness.heard(ahead + 1_000, 1_040)).toBe(0);
    expect(lateness.heard(ahead + 1_500, 1_530)).toBe(0);
    // A browser that slept for nine seconds reads a tick from before.
    expect(lateness.heard(ahead + 2_000, 11_030)).toBe(9_000);
    expect(lateness.heard(ahead + 11_000, 11_035)).toBe(5);
  });
  test("leaves a gap in the past where nothing was heard, and bounds it", () => {
    const past: Moment[] = [];
    const at = (ms: number) => remember(past, { at: ms, services: tick.services } as Tick);
    [0, 500, 500, 400, 500 + GAP_MS + 1].forEach(at);
    expect(past.map((of) => [of.at, of.services !== null])).toEqual([[0, true], [500, true], [501, false], [501 + GAP_MS, true]]);
    for (let n = 0; n < 2 * PAST_MAX; n++) at(100_000 + n * 500);
    expect(past).toHaveLength(PAST_MAX);
  });
});

describe("series of the server", () => {
  test("share one axis, with what is missing left out", () => {
    const of = (points: [number, number][]) => ({ name: "", labels: {}, points });
    expect(align([of([[1_010, 1], [2_020, 2], [9_000, 3]]), undefined, of([[2_010, 7]])], 1_000)).toEqual([[1, 2, 3, 9], [1, 2, null, 3], [null, null, null, null], [null, 7, null, null]]);
  });
});

describe("keys", () => {
  test("go to pages by g and a letter, in time", () => {
    const presses = new Presses();
    expect([presses.press("g", 0), presses.press("h", 1_000), presses.press("h", 1_100)]).toEqual([null, { go: "hosts" }, null]);
    expect([presses.press("g", 0), presses.press("a", 2_000)]).toEqual([null, null]);
    expect(["/", "m", "t", "?", "x"].map((key) => presses.press(key, 9_000))).toEqual(["search", "map", "theme", "help", null]);
  });
  test("are told, each page by a letter of its own", () => {
    expect(new Set(PAGES.map(([letter]) => letter)).size).toBe(PAGES.length);
    expect(KEYS.filter((of) => of.keys.startsWith("g "))).toHaveLength(PAGES.length);
  });
});

describe("an operation", () => {
  const operation = (phase: string, allowed?: LiveOperation["allowed"]) => verbs({ phase, allowed } as LiveOperation).map((of) => of.word);
  test("is steered by what the server allows, or by its phase", () => {
    expect(operation("running")).toEqual(["Pause", "Roll back"]);
    expect(operation("paused")).toEqual(["Resume", "Roll back"]);
    expect(operation("succeeded")).toEqual([]);
    expect(operation("paused", { verbs: ["rollback", "skip", "retry"], step: "start" })).toEqual(["Retry step start", "Skip step start", "Roll back"]);
    expect(operation("failed", { verbs: ["retry"] })).toEqual(["Start again"]);
  });
  test("has a bar that ends when it ended, and goes on as long as it does", () => {
    const ended = { created_at: 1_000, finished_at: 9_000 };
    expect(stretch([ended], 500_000, 1_000)).toEqual({ from: 1_000, wide: 8_000 });
    expect(stretch([ended], 500_000, 30_000)).toEqual({ from: 1_000, wide: 30_000 });
    expect(stretch([ended, { created_at: 2_000, finished_at: null }], 500_000, 30_000)).toEqual({ from: 1_000, wide: 499_000 });
  });
  test("is asked about once more before what cannot be taken back", () => {
    const asked = verbs({ phase: "running", allowed: { verbs: ["pause", "skip", "rollback"], step: "gray" } } as unknown as LiveOperation);
    expect(asked.filter((of) => of.sure).map((of) => of.verb)).toEqual(["skip", "rollback"]);
    expect([skipping("before/0"), skipping("pay-3")]).toEqual(["The hook before/0 is not asked for: the operation goes on without it.", "pay-3 is given up: the operation goes on without it."]);
  });
});

describe("an operation that is held", () => {
  const why = "hook op-1/start/before/0 failed: exit status: 1";
  const steps = [{ name: "deploy", state: "done", message: "" }, { name: "start", state: "failed", message: why }];
  const held = { phase: "paused", steps, failures: ["pay-3 on h1 was given up by unix:root"] } as unknown as OperationWhole;
  test("says where and why, whatever an operator did since", () => {
    expect([standing(held), heldAt(held)?.name]).toEqual(["held", "start"]);
    expect(reasons(held)).toEqual({ wrong: [why], done: ["pay-3 on h1 was given up by unix:root"] });
    expect([standing({ phase: "paused", steps: [] }), standing({ phase: "rolled_back", steps })]).toEqual(["paused", "rolled back"]);
    expect(reasons({ phase: "rolled_back", steps: [], failures: [why, "rolled back by unix:root"] })).toEqual({ wrong: [why], done: ["rolled back by unix:root"] });
  });
  test("keeps what failed apart from what waits for it", () => {
    const hooks = { "before/0": { failed: 1 }, "before/1": { retried: 1 }, "after/0": "skipped" };
    expect(sorted(["pay-3", "before/0", "before/1", "after/0"], hooks)).toEqual({ failed: ["before/0"], waiting: ["pay-3", "before/1", "after/0"] });
    expect(sorted(["pay-3"])).toEqual({ failed: [], waiting: ["pay-3"] });
  });
});

describe("an event", () => {
  const event = (starts_at: string | null, ends_at: string | null) => ({ name: "e", business: "b", starts_at, ends_at, entry_rps: 1 });
  test("counts down to its start, then to its end, and leaves an hour later", () => {
    const night = event("2027-02-05T16:00:00Z", "2027-02-05T16:30:00Z");
    const told = (at: string) => [phase(night, Date.parse(at)), countdown(night, Date.parse(at))];
    expect(told("2027-02-05T15:00:00Z")).toEqual(["ahead", "begins in 1 h 0 min"]);
    expect(told("2027-02-05T16:10:00Z")).toEqual(["on", "ends in 20 min 0 s"]);
    expect(told("2027-02-05T17:00:00Z")).toEqual(["ended", "has ended"]);
    expect(told("2027-02-05T18:00:00Z")[0]).toBe("gone");
    expect(countdown(event(null, null), 0)).toBe("no time is set");
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
  test("looks into a datacenter or a rack, by its label too", () => {
    const all = groups(hosts(160));
    expect(scoped(all, { datacenter: "dc2", rack: "" }).map((of) => of.rack)).toEqual(["r2", "r3"]);
    expect(scoped(all, { datacenter: "dc2", rack: "r3" })).toHaveLength(1);
    const map = arrange(all, 800, 360);
    const label = map.labels.find((of) => of.text === "r3")!;
    expect(labelAt(map, label.x + 2, label.y - 2)?.scope).toEqual({ datacenter: "dc2", rack: "r3" });
    expect(labelAt(map, 799, 359)).toBeUndefined();
  });
  test("has a colour for each value", () => {
    expect(colour(null)).toBe(UNKNOWN);
    expect(colour(0)).toBe(SCALE[0]![1]);
    expect(colour(99)).toBe(SCALE.at(-1)![1]);
  });
});
