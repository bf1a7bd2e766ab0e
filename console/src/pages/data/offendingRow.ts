/** The lines of a local file around the one that was refused. Pure but for reading the file. */

export interface FoundRow {
  /** As the refusal counts: of a CSV file without its first line. */
  row: number;
  text: string;
  /** There is more of it than is shown. */
  isCut: boolean;
}

const SLICE_BYTES = 4 * 1024 * 1024;
const SHOWN_BYTES = 4_000;
const NEWLINE = 0x0a;
const QUOTE = 0x22;

/** The row before, the row, and the row after it; [] where rows are not lines (Parquet, zip) or there is none. */
export async function rowsAround(file: Blob, filename: string, row: number): Promise<FoundRow[]> {
  const kind = filename.toLowerCase();
  if (row < 1 || kind.endsWith(".parquet") || kind.endsWith(".zip")) return [];
  const isCsv = kind.endsWith(".csv");
  const shift = isCsv ? 0 : 1;
  const spans = await recordSpans(file, row - shift, isCsv);
  return Promise.all(
    spans.map(async ({ index, start, end }) => ({
      row: index + shift,
      text: (await file.slice(start, Math.min(end, start + SHOWN_BYTES)).text()).replace(/\r?\n?$/, ""),
      isCut: end - start > SHOWN_BYTES,
    })),
  );
}

interface Span {
  index: number;
  start: number;
  end: number;
}

/** Where records index - 1 to index + 1 are. Line ends between quotes belong to a CSV record. */
async function recordSpans(file: Blob, wanted: number, quotes: boolean): Promise<Span[]> {
  const spans: Span[] = [];
  let [index, start, isQuoted] = [0, 0, false];
  for (let from = 0; from < file.size; from += SLICE_BYTES) {
    const bytes = new Uint8Array(await file.slice(from, from + SLICE_BYTES).arrayBuffer());
    for (let at = 0; at < bytes.length; at += 1) {
      if (quotes && bytes[at] === QUOTE) isQuoted = !isQuoted;
      if (bytes[at] !== NEWLINE || isQuoted) continue;
      const end = from + at;
      if (Math.abs(index - wanted) <= 1) spans.push({ index, start, end });
      [index, start] = [index + 1, end + 1];
      if (index > wanted + 1) return spans;
    }
  }
  if (start < file.size && Math.abs(index - wanted) <= 1) spans.push({ index, start, end: file.size });
  return spans;
}

/** What stands at `messages[1].content` of a JSON line; undefined where the line or the place cannot be read. */
export function valueAt(line: string, column: string): unknown {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return undefined;
  }
  for (const step of column.match(/[^.[\]]+/g) ?? []) {
    if (typeof value !== "object" || value === null) return undefined;
    value = (value as Record<string, unknown>)[step];
  }
  return value;
}

/** "not JSON at character 18: ..." is about the 18th; null where a reason names no place. */
export function characterIn(reason: string): number | null {
  const told = /at character (\d+)/.exec(reason);
  return told ? Number(told[1]) - 1 : null;
}

/** A dataset's name made of a file's, as the gateway makes it. */
export function nameOf(filename: string): string {
  const stem = filename.toLowerCase().replace(/\.(jsonl|ndjson|csv|parquet|zip|json|txt)$/, "");
  return stem.replace(/[^a-z0-9._-]+/g, "-").slice(0, 63).replace(/^[._-]+|[._-]+$/g, "") || "file";
}

export const NAME_PATTERN = /^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$/;
