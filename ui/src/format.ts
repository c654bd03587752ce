// Numbers for people: three digits, units that fit.

const NONE = "–";

/** A count or rate: 950, 1.2k, 34k, 5.6M. */
export function count(value: number | null | undefined): string {
  if (value == null || !Number.isFinite(value)) return NONE;
  if (value >= 999_500) return `${short(value / 1e6)}M`;
  if (value >= 999.5) return `${short(value / 1e3)}k`;
  return short(value);
}

function short(value: number): string {
  if (value >= 99.95 || value === 0) return value.toFixed(0);
  if (value >= 10) return value.toFixed(value % 1 >= 0.05 ? 1 : 0);
  return value.toFixed(value % 1 >= 0.005 ? 1 : 0);
}

export function ms(value: number | null | undefined): string {
  if (value == null || !Number.isFinite(value)) return NONE;
  if (value >= 1000) return `${(value / 1000).toFixed(1)} s`;
  return value >= 10 || value === 0 ? `${value.toFixed(0)} ms` : `${value.toFixed(1)} ms`;
}

export function percent(value: number | null | undefined): string {
  if (value == null || !Number.isFinite(value)) return NONE;
  const of = value * 100;
  return of > 0 && of < 1 ? `${of.toFixed(1)}%` : `${of.toFixed(0)}%`;
}

/** A length of time: 42 s, 3 min, 2 h 10 min, 5 d 3 h. */
export function span(value: number): string {
  const seconds = Math.max(0, Math.round(value / 1000));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${seconds % 60} s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${minutes % 60} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** A length of time that may be less than a second: 0.4 s, 12 s, 3 min 5 s. */
export function brief(value: number): string {
  return value < 9_950 ? `${(Math.max(0, value) / 1000).toFixed(1)} s` : span(value);
}

export function clock(at: number): string {
  const of = new Date(at);
  return [of.getHours(), of.getMinutes(), of.getSeconds()].map(two).join(":");
}

/** A day and a time of it, local: 2027-02-05 23:59:00. The same in every browser, whatever its language. */
export function date(at: number): string {
  const of = new Date(at);
  return `${of.getFullYear()}-${two(of.getMonth() + 1)}-${two(of.getDate())} ${clock(at)}`;
}

const two = (value: number) => String(value).padStart(2, "0");

/** An amount of memory: 12 MiB, 1.5 GiB. */
export function bytes(value: number | null | undefined): string {
  if (value == null || !Number.isFinite(value)) return NONE;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  let of = value;
  for (; of >= 1024 && at < units.length - 1; at++) of /= 1024;
  return `${of >= 10 || of === 0 || at === 0 ? of.toFixed(0) : of.toFixed(1)} ${units[at]}`;
}
