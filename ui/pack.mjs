// Compresses each built file beside itself, so that the server only has to choose, and tells the size of the whole.
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { brotliCompressSync, constants } from "node:zlib";

const KIB_MAX = 100;
const files = readdirSync("dist", { recursive: true })
  .map((name) => join("dist", String(name)))
  .filter((path) => statSync(path).isFile() && !path.endsWith(".br"));
let bytes = 0;
for (const path of files) {
  const packed = brotliCompressSync(readFileSync(path), {
    params: { [constants.BROTLI_PARAM_QUALITY]: constants.BROTLI_MAX_QUALITY },
  });
  writeFileSync(`${path}.br`, packed);
  bytes += packed.length;
}
const kib = bytes / 1024;
console.log(`the page: ${files.length} files, ${kib.toFixed(1)} KiB compressed (at most ${KIB_MAX})`);
if (kib > KIB_MAX) process.exit(1);
