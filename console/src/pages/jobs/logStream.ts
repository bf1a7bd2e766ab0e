/** A job's log as server-sent events over fetch: EventSource cannot say why it was refused. */

import { request } from "../../api/client";

export interface LogLine {
  attempt: number;
  text: string;
  at?: string;
}

export interface ServerEvent {
  event: string;
  data: string;
  id: string | null;
}

/** Takes pieces of a stream and gives whole events; pure but for what it keeps of the last piece. */
export class EventParser {
  private rest = "";

  take(piece: string): ServerEvent[] {
    const blocks = (this.rest + piece).replaceAll("\r\n", "\n").split("\n\n");
    this.rest = blocks.pop() ?? "";
    return blocks.map(parsed).filter((event) => event !== null);
  }
}

function parsed(block: string): ServerEvent | null {
  let [event, id] = ["message", null as string | null];
  const data: string[] = [];
  for (const line of block.split("\n")) {
    const colon = line.indexOf(":");
    if (colon <= 0) continue;
    const value = line.slice(colon + 1).replace(/^ /, "");
    const field = line.slice(0, colon);
    if (field === "event") event = value;
    if (field === "data") data.push(value);
    if (field === "id") id = value;
  }
  return data.length > 0 ? { event, data: data.join("\n"), id } : null;
}

interface Told {
  lines: (lines: LogLine[]) => void;
  /** Where to go on after a break. */
  position: (id: string) => void;
}

/** Reads to the stream's end; true: the job's log has ended. Raises ProblemError. */
export async function readLog(path: string, signal: AbortSignal, told: Told): Promise<boolean> {
  const response = await request(path, { headers: { Accept: "text/event-stream" }, signal });
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
  const parser = new EventParser();
  for (let piece = await reader?.read(); piece && !piece.done; piece = await reader?.read()) {
    const events = parser.take(piece.value);
    const lines = events.filter((event) => event.event === "line").map((event) => JSON.parse(event.data) as LogLine);
    if (lines.length > 0) told.lines(lines);
    const place = events.findLast((event) => event.id !== null)?.id;
    if (place) told.position(place);
    if (events.some((event) => event.event === "end")) return true;
  }
  return false;
}
