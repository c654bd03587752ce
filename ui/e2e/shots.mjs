// Screenshots of every page of a fleet: dark, light, on a phone and on a projector; ends with an error where one runs over the edge.
// Environment: URL and TOKEN of the API, SHOTS: the folder, PREFIX of the files.
import { join } from "node:path";
import { withBrowser } from "./browser.mjs";

const { URL: url, TOKEN: token, SHOTS: shots, PREFIX: prefix } = process.env;
const WAIT_MS = 30_000;
const SIZES = { dark: [1600, 1000], light: [1600, 1000], phone: [390, 844], projector: [1920, 1080] };

await withBrowser(async (context) => {
  const page = context.pages()[0] ?? (await context.newPage());
  page.setDefaultTimeout(WAIT_MS);
  await page.addInitScript((token) => sessionStorage.setItem("springtide-token", token), token);
  await page.goto(url);
  await page.locator("section.funnel").waitFor();
  const names = await page.evaluate(async (token) => {
    const get = async (path) => (await fetch(path, { headers: { authorization: `Bearer ${token}` } })).json();
    const [services, instances, hosts, operations, events] = await Promise.all(
      ["services", "rows/instances?limit=1", "rows/hosts?limit=1", "operations", "resources/events"].map((path) => get(`/v1/${path}`)));
    const logic = services.find((of) => of.name === "lottery") ?? services.at(-1);
    return { service: logic?.name, instance: instances.rows[0]?.name, host: hosts.rows[0]?.name, operation: operations[0]?.id, event: events[0]?.resource?.name };
  }, token);
  const pages = [["war-room", ""], ["services", "services"], ["instances", "instances"], ["hosts", "hosts"], ["operations", "operations"],
    ["incidents", "incidents"], ["audit", "audit"]];
  for (const [of, name] of Object.entries(names)) if (name) pages.push([of, `${of}s/${name}`]);
  for (const [look, [width, height]] of Object.entries(SIZES)) {
    await page.setViewportSize({ width, height });
    // The page follows the system until somebody chooses.
    await page.emulateMedia({ colorScheme: look === "light" ? "light" : "dark" });
    for (const [name, path] of pages) {
      await page.goto(`${url}/#/${path}`);
      await page.locator("main .card").first().waitFor();
      // Two ticks, so that what is asked of the server is there too.
      await page.waitForTimeout(1_500);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth);
      if (wide > width) throw new Error(`${name} on ${look}: ${wide} px wide`);
      await page.screenshot({ path: join(shots, `${prefix}-${name}-${look}.png`), fullPage: look === "phone" });
    }
  }
});
