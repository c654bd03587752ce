// The browser's side of `cargo xtask bench ui`: opens the page, then for each line "SECONDS" on its input watches the heat
// map for so long and answers with one JSON line.
// Environment: URL and TOKEN of the API, CELLS: instances that the page must show, SHOTS: the folder of the screenshots.
import { join } from "node:path";
import { createInterface } from "node:readline";
import { withBrowser } from "./browser.mjs";

const { URL: url, TOKEN: token, SHOTS: shots } = process.env;
const cells = Number(process.env.CELLS);
const WAIT_MS = 60_000;
/** Cells whose pixels are read after each frame: columns and rows of a grid over the map. */
const GRID = [12, 8];
/** Fewer are too few to speak of a 99th percentile. */
const CELLS_MIN = 12;

/** Runs in the page: measures each frame of the heat map to its last pixel, and notes which colours it presented when. */
function watch() {
  const hex = ([red, green, blue]) => `#${[red, green, blue].map((of) => of.toString(16).padStart(2, "0")).join("")}`;
  const now = () => performance.timeOrigin + performance.now();
  const watched = (window.watched = { hex, points: [], colours: [], frames: [], changes: [], last: [] });
  const measure = performance.measure.bind(performance);
  performance.measure = (name, options) => {
    const made = measure(name, options);
    const canvas = document.querySelector("canvas[role=application]");
    if (name !== "heat-frame" || watched.points.length === 0 || !canvas) return made;
    const [paint, ratio] = [canvas.getContext("2d"), devicePixelRatio || 1];
    // Reading one pixel back waits until everything before it is painted.
    paint.getImageData(0, 0, 1, 1);
    watched.frames.push(performance.now() - options.start);
    const seen = watched.points.map(([x, y]) => watched.colours.indexOf(hex(paint.getImageData(x * ratio, y * ratio, 1, 1).data)));
    // The next callback belongs to the frame that presents this one; the one after it runs when that is done.
    requestAnimationFrame(() => requestAnimationFrame(() => {
      seen.forEach((level, cell) => {
        if (level >= 0 && watched.last[cell] !== level) watched.changes.push([cell, level, now()]);
        watched.last[cell] = level;
      });
    }));
    return made;
  };
}

/** Points at the map as an operator does, and reads whose cells they are. */
async function choose(page) {
  const canvas = page.locator("canvas[role=application]");
  const box = await canvas.boundingBox();
  const found = new Map();
  for (let column = 0; column < GRID[0]; column++) {
    for (let row = 0; row < GRID[1]; row++) {
      const [x, y] = [(box.width * (column + 0.5)) / GRID[0], (box.height * (row + 0.5)) / GRID[1]].map(Math.round);
      await canvas.hover({ position: { x, y } });
      const name = await page.locator(".told").getAttribute("data-name");
      if (name) found.set(name, [x, y]);
    }
  }
  return found;
}

await withBrowser(async (context) => {
  const page = context.pages()[0] ?? (await context.newPage());
  page.setDefaultTimeout(WAIT_MS);
  await page.addInitScript((token) => sessionStorage.setItem("springtide-token", token), token);
  await page.addInitScript(watch);
  await page.goto(url);
  await page.locator("canvas[role=application]").waitFor();
  const page_bytes = await page.evaluate(() =>
    [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource").filter((of) => /\/assets\//.test(of.name))]
      .reduce((sum, of) => sum + of.encodedBodySize, 0));
  await page.waitForFunction((cells) => document.querySelector("canvas[role=application]").getAttribute("aria-label").startsWith(`${cells} instances`), cells);
  await page.getByRole("button", { name: "memory" }).click();
  const chosen = await choose(page);
  const colours = await page.locator(".scale i").evaluateAll((steps) => steps.map((of) => {
    const [red, green, blue] = getComputedStyle(of).backgroundColor.match(/\d+/g).map(Number);
    return `#${[red, green, blue].map((part) => part.toString(16).padStart(2, "0")).join("")}`;
  }));
  await page.mouse.move(2, 2);
  // A point between two cells tells nothing: only those that show a colour of the scale are watched.
  await page.waitForFunction(() => performance.getEntriesByName("heat-frame").length > 0);
  const told = await page.evaluate(([all, colours]) => {
    const [paint, ratio] = [document.querySelector("canvas[role=application]").getContext("2d"), devicePixelRatio || 1];
    const shows = ([, [x, y]]) => colours.includes(window.watched.hex(paint.getImageData(x * ratio, y * ratio, 1, 1).data));
    return all.filter(shows);
  }, [[...chosen], colours]);
  if (told.length < CELLS_MIN) throw new Error(`only ${told.length} of ${chosen.size} cells can be watched`);
  await page.evaluate(([points, colours]) => Object.assign(window.watched, { points, colours }), [told.map(([, point]) => point), colours]);
  console.log(JSON.stringify({ page_bytes, cells: told.map(([name]) => name) }));

  const devtools = await context.newCDPSession(page);
  await devtools.send("Performance.enable");
  const worked = async () => {
    const { metrics } = await devtools.send("Performance.getMetrics");
    const value = (name) => metrics.find((of) => of.name === name).value;
    return [value("TaskDuration"), value("Timestamp")];
  };
  for await (const line of createInterface({ input: process.stdin })) {
    const seconds = Number(line);
    await page.evaluate(() => Object.assign(window.watched, { frames: [], changes: [], last: [] }));
    const [before, from] = await worked();
    const from_ms = Date.now();
    await page.waitForTimeout(seconds * 1000);
    const to_ms = Date.now();
    const [after, to] = await worked();
    // What was sampled last gets its time to be shown.
    await page.waitForTimeout(4_000);
    const { frames, changes } = await page.evaluate(() => window.watched);
    console.log(JSON.stringify({ from_ms, to_ms, frames_ms: frames, changes, busy: (after - before) / (to - from) }));
  }
  await page.screenshot({ path: join(shots, "bench-ui.png") });
});
