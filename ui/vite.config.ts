// Builds one page of static files. The server embeds what is in dist/.
import { defineConfig } from "vitest/config";
import solid from "vite-plugin-solid";

export default defineConfig({
  plugins: [solid()],
  // What is tested here needs no page; the page itself is tested in a browser, against a real fleet.
  test: { environment: "node" },
  build: { target: "es2022", modulePreload: { polyfill: false }, reportCompressedSize: false },
});
