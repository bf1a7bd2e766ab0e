// Writes a .br and a .gz beside every built text file, so that the gateway compresses nothing while it serves.
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { brotliCompress, constants, gzip } from "node:zlib";

const SMALLEST_BYTES = 1024;
const encoders = {
  br: (bytes) => promisify(brotliCompress)(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 9 } }),
  gz: (bytes) => promisify(gzip)(bytes, { level: 9 }),
};

const entries = await readdir("dist", { recursive: true, withFileTypes: true });
const files = entries.filter((entry) => entry.isFile() && /\.(js|css|svg|json)$/.test(entry.name));
await Promise.all(
  files.map(async (file) => {
    const path = join(file.parentPath, file.name);
    const bytes = await readFile(path);
    if (bytes.length < SMALLEST_BYTES) return;
    for (const [suffix, encode] of Object.entries(encoders)) {
      const packed = await encode(bytes);
      if (packed.length < bytes.length) await writeFile(`${path}.${suffix}`, packed);
    }
  }),
);
