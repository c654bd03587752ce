// Series of the server as columns over one axis of time. Pure.

export interface Series {
  name: string;
  labels: Record<string, string>;
  points: [number, number][];
}

/** Times in seconds, then a column a series; absent where a series has no point near the time. */
export function align(series: (Series | undefined)[], stepMs: number): (number | null)[][] {
  const slot = (at: number) => Math.round(at / stepMs);
  const slots = [...new Set(series.flatMap((of) => (of?.points ?? []).map(([at]) => slot(at))))].sort((a, b) => a - b);
  // A step without any point is a gap, not a line across it.
  const whole: number[] = [];
  for (const at of slots) {
    const last = whole.at(-1);
    if (last !== undefined && at - last > 3) whole.push(last + 1);
    whole.push(at);
  }
  const columns = series.map((of) => {
    const by = new Map((of?.points ?? []).map(([at, value]) => [slot(at), value]));
    return whole.map((at) => by.get(at) ?? null);
  });
  return [whole.map((at) => (at * stepMs) / 1000), ...columns];
}
