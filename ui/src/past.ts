// The last minutes of the services, kept small: hosts and instances are thousands, their past is asked of the server. Pure.
import type { Tick } from "./types";

export interface Moment {
  at: number;
  /** Absent: nothing was heard around this time, and no line may be drawn over it. */
  services: Tick["services"] | null;
}

/** Moments kept: five minutes of two ticks a second. */
export const PAST_MAX = 600;
/** Time without a tick from which a plot has a gap, in milliseconds. */
export const GAP_MS = 3_000;

/** Appends a tick in place. */
export function remember(past: Moment[], tick: Tick) {
  const last = past.at(-1);
  if (last && tick.at <= last.at) return;
  if (last && tick.at - last.at > GAP_MS) past.push({ at: last.at + 1, services: null });
  past.push({ at: tick.at, services: tick.services });
  past.splice(0, past.length - PAST_MAX);
}
