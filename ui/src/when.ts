// Where an event stands: ahead, on, ended. Pure.
import { span } from "./format";
import type { LiveEvent } from "./types";

/** How long ended events stay in the ribbon, in milliseconds. */
const ENDED_SHOWN_MS = 3_600_000;

export const times = (event: LiveEvent) => [event.starts_at, event.ends_at].map((at) => (at ? Date.parse(at) : null)) as [number | null, number | null];

export function phase(event: LiveEvent, now: number): "ahead" | "on" | "ended" | "gone" {
  const [start, end] = times(event);
  if (start === null || start > now) return "ahead";
  if (end === null || end > now) return "on";
  return end + ENDED_SHOWN_MS > now ? "ended" : "gone";
}

export function countdown(event: LiveEvent, now: number): string {
  const [start, end] = times(event);
  if (start !== null && start > now) return `begins in ${span(start - now)}`;
  if (end !== null && end > now) return `ends in ${span(end - now)}`;
  return start === null ? "no time is set" : end === null ? "goes on" : "has ended";
}
