// Clicks through the war room of a real fleet: login, live numbers, heat map, keys, expand, operation, one that is held,
// protect, tables, stale and back, a browser that sleeps.
// Environment: URL and TOKEN of the API, SERVER_PID: its process, SERVICE to act on, HELD: an operation whose start fails,
// SHOTS: the folder of the screenshots.
import assert from "node:assert/strict";
import { join } from "node:path";
import { withBrowser } from "./browser.mjs";

const { URL: url, TOKEN: token, SERVICE: service, HELD: held, SHOTS: shots } = process.env;
const server = Number(process.env.SERVER_PID);
const WAIT_MS = 30_000;
/** How long the browser sleeps: longer than a page may be silent before it calls itself stale. */
const SLEEP_MS = 4_500;
/** Ticks that a page may paint in the second after it woke: what the server sends in a second, and one more. */
const WOKEN_TICKS_MAX = 3;

await withBrowser(async (context) => {
  const page = context.pages()[0] ?? (await context.newPage());
  page.setDefaultTimeout(WAIT_MS);
  const faults = [];
  page.on("pageerror", (error) => faults.push(String(error)));
  page.on("console", (message) => {
    // A refused login and a server away are part of the test.
    if (message.type() === "error" && !/Failed to load resource|ERR_/.test(message.text())) faults.push(message.text());
  });
  const shot = (name) => page.screenshot({ path: join(shots, `${name}.png`), fullPage: true });
  const text = (selector) => page.locator(selector).first().innerText();

  // Login: a wrong token is told, the right one opens the room.
  await page.emulateMedia({ colorScheme: "dark" });
  await page.goto(url);
  await page.getByLabel("Token").fill("wrong");
  await page.getByRole("button", { name: "Enter" }).click();
  await page.getByRole("alert").filter({ hasText: "This token is wrong." }).waitFor();
  await shot("login");
  await page.getByLabel("Token").fill(token);
  await page.getByRole("button", { name: "Enter" }).click();

  // Live: the traffic that flows is in the funnel, and the page says that it is live.
  await page.locator("section.funnel").waitFor();
  await page.waitForFunction(() => /[1-9]/.test(document.querySelector(".funnel dd")?.textContent ?? ""));
  assert.match(await text(".badge.live"), /live/);
  const cells = await page.locator("canvas[role=application]").getAttribute("aria-label");
  assert.match(cells, /^[1-9]\d* instances/);

  // The heat map by keyboard: an arrow chooses, the words below tell.
  await page.locator("canvas[role=application]").focus();
  await page.keyboard.press("ArrowRight");
  await page.waitForFunction(() => / on host-/.test(document.querySelector(".told")?.textContent ?? ""));
  await page.keyboard.press("Enter");
  await page.locator("article.page h1").waitFor();
  await shot("instance");
  await page.goto(`${url}/#/`);
  await page.locator("section.hot").waitFor();

  // Keys: to a page, into its filter, the list of keys and out of it again.
  await page.keyboard.press("g");
  await page.keyboard.press("h");
  await page.waitForURL(/#\/hosts$/);
  await page.locator(".rows tbody a").first().waitFor();
  await page.keyboard.press("/");
  await page.waitForFunction(() => document.activeElement?.getAttribute("aria-label") === "Filter");
  await page.keyboard.type("g");
  assert.match(page.url(), /#\/hosts$/, "what is typed into a field is no key");
  await page.getByLabel("Filter").fill("");
  await page.getByRole("heading", { name: "hosts" }).click();
  await page.keyboard.press("?");
  await page.locator("dialog", { hasText: "go to: War room" }).waitFor();
  await page.keyboard.press("Escape");
  await page.locator("dialog").waitFor({ state: "detached" });
  await page.goto(`${url}/#/`);
  await page.locator("section.hot").waitFor();

  // The incident of the rule: in the ribbon, on the map, hot; expand and protect from it; taken over, silenced, read whole.
  const incident = page.locator("section.incidents article", { hasText: "busy-probe" }).first();
  await incident.waitFor();
  await page.locator(".ribbon .badge.bad", { hasText: /incident/ }).waitFor();
  await page.locator(".legend", { hasText: "in an incident" }).waitFor();
  await page.locator(`section.hot li[data-service="${service}"] .badge.bad`).waitFor();
  await incident.getByRole("button", { name: `Expand ${service}` }).click();
  await page.locator("dialog .plan").waitFor();
  await page.getByRole("button", { name: "Cancel" }).click();
  await incident.getByRole("button", { name: `Protect ${service}` }).click();
  await page.getByRole("button", { name: "Put in force" }).waitFor();
  await page.getByRole("button", { name: "Close" }).click();
  await incident.getByRole("button", { name: "Acknowledge" }).click();
  await incident.locator(".reach", { hasText: "looked after by token:api" }).waitFor();
  await incident.getByRole("button", { name: "Silence" }).click();
  await page.getByLabel("why").fill("rehearsal");
  await page.locator("dialog").getByRole("button", { name: "Silence" }).click();
  await page.getByRole("status").filter({ hasText: "Silenced until" }).waitFor();
  await page.getByRole("button", { name: "Close" }).click();
  await shot("war-room-incident");
  await incident.locator("h3 a").click();
  await page.locator("article.incidents h2", { hasText: "What was found" }).waitFor();
  await shot("incident");
  await page.goto(`${url}/#/`);
  await page.locator("section.hot").waitFor();

  // Expand: the plan is shown first, then the operation runs to its end.
  const row = page.locator(`section.hot li[data-service="${service}"]`);
  await row.getByRole("button", { name: "Expand" }).click();
  await page.locator("dialog .plan tbody tr").first().waitFor();
  await shot("expand");
  await page.getByRole("button", { name: "Start", exact: true }).click();
  await page.waitForURL(/#\/operations\/op-/);
  const id = page.url().split("/").pop();
  // The operation is held and let go on again.
  await page.getByRole("button", { name: "Pause" }).click();
  await page.locator(`[data-operation="${id}"][data-phase="paused"]`).waitFor();
  await shot("operation-paused");
  await page.getByRole("button", { name: "Resume" }).click();
  await page.locator(`[data-operation="${id}"][data-phase="succeeded"]`).waitFor({ timeout: 90_000 });
  await page.getByRole("link", { name: "Health report" }).waitFor();
  await shot("operation");

  // One that is held at a failed step: where, why, at which instance; tried again, and undone when asked twice.
  await page.goto(`${url}/#/operations/${held}`);
  const isHeld = page.locator(".operation h1 small", { hasText: "held at step start" });
  await isHeld.waitFor();
  await page.locator(".operation .targets tr", { hasText: "broken-1" }).getByRole("button", { name: "Skip" }).waitFor();
  await shot("operation-held");
  await page.locator(".bad", { hasText: "broken-1 on host-a1 keeps exiting" }).first().waitFor();
  await page.getByRole("button", { name: "Retry step start" }).click();
  await page.locator(".operation .log li", { hasText: "tried again" }).waitFor();
  await page.locator(".operation .log li", { hasText: "held at the failed step" }).nth(1).waitFor();
  await isHeld.waitFor();
  await page.getByRole("button", { name: "Roll back" }).click();
  await page.locator("dialog").getByRole("button", { name: "Roll back" }).click();
  await page.locator(`[data-operation="${held}"][data-phase="rolled_back"]`).waitFor();
  await page.locator(".operation h1 small", { hasText: "rolled back" }).waitFor();

  // Protect: in force with one more click, and seen by the server.
  await page.goto(`${url}/#/services/${service}`);
  await page.locator("article.page h1").waitFor();
  await page.getByRole("button", { name: "Protect" }).click();
  await page.locator("dialog").waitFor();
  await shot("protect");
  await page.locator("dialog .plan p").first().waitFor();
  await page.getByRole("button", { name: "Put in force" }).click();
  await page.getByRole("status").filter({ hasText: "In force" }).waitFor();
  await shot("protected");
  await page.getByRole("button", { name: "Lift" }).click();
  await page.getByRole("button", { name: "Close" }).click();
  await page.locator("dialog").waitFor({ state: "detached" });
  // The service: its callers with their numbers, one digest everywhere, and cursors that go together.
  await page.waitForFunction(() => /outside.*\d/.test(document.querySelector("section[aria-label=Calls] tbody tr")?.textContent ?? ""));
  await page.locator(".digests", { hasText: "The same bytes and the same configuration everywhere." }).waitFor();
  await page.locator(".u-over").first().hover();
  const times = () => [...document.querySelectorAll(".plots .u-legend tr:first-child td")].map((of) => of.textContent);
  assert.equal(new Set(await page.evaluate(times)).size, 1, "all plots point at the same moment");
  await shot("service");

  // Tables: sorted and filtered.
  for (const [of, words] of [["services", service], ["instances", service], ["hosts", "host-a"], ["operations", ""], ["audit", ""], ["incidents", ""]]) {
    await page.goto(`${url}/#/${of}`);
    await page.locator("main .page").waitFor();
    if (words) await page.getByLabel("Filter").fill(words);
    if (words) await page.locator(".rows tbody a").first().waitFor();
    await shot(`table-${of}`);
  }

  // Stale: said plainly when the server says nothing any more, and gone when it does again.
  await page.goto(`${url}/#/`);
  await page.locator("section.funnel").waitFor();
  await shot("war-room-dark");
  process.kill(server, "SIGSTOP");
  await page.locator(".badge.live.bad", { hasText: "STALE" }).waitFor();
  await shot("stale");
  process.kill(server, "SIGCONT");
  await page.locator(".badge.live:not(.bad)").waitFor();

  // A browser that sleeps: awake again it is live at once, and paints no flood of what it missed.
  const devtools = await context.newCDPSession(page);
  const painted = () => page.evaluate(() => performance.getEntriesByName("tick-to-pixel").length);
  await devtools.send("Page.setWebLifecycleState", { state: "frozen" });
  await new Promise((woken) => setTimeout(woken, SLEEP_MS));
  await devtools.send("Page.setWebLifecycleState", { state: "active" });
  const asleep = await painted();
  await page.waitForFunction((asleep) => performance.getEntriesByName("tick-to-pixel").length > asleep, asleep);
  await page.locator(".badge.live:not(.bad)").waitFor();
  const woken = await page.evaluate(async (asleep) => {
    const ticks = performance.getEntriesByName("tick-to-pixel").slice(asleep);
    const first = ticks[0].startTime + ticks[0].duration;
    while (performance.now() - first < 1_000) await new Promise(requestAnimationFrame);
    const all = performance.getEntriesByName("tick-to-pixel").slice(asleep + 1);
    return all.filter((tick) => tick.startTime + tick.duration <= first + 1_000).length;
  }, asleep);
  assert.ok(woken <= WOKEN_TICKS_MAX, `${woken} ticks were painted in the second after it woke`);

  // Light, on a phone, on a projector: nothing runs over the edge.
  await page.getByRole("button", { name: "Light or dark" }).click();
  await shot("war-room-light");
  for (const [name, width, height] of [["phone", 390, 844], ["projector", 1920, 1080]]) {
    await page.setViewportSize({ width, height });
    await page.waitForFunction((width) => document.documentElement.scrollWidth <= width, width);
    await shot(name);
  }
  assert.deepEqual(faults, [], "the page reported errors");
});
console.log("the war room works");
