// Questions asked again at a rhythm, never two at a time.
import { createEffect, createMemo, createSignal, on } from "solid-js";
import { get } from "./api";
import { frame } from "./live";

export interface Answer<T> {
  asked: string;
  value: T;
}

/** Asks for a path now, when it changes, and every so often while ticks come; null asks nothing. */
export function poll<T>(asks: () => string | null, everyMs: number): { answer: () => Answer<T> | undefined; failed: () => string; again: () => void } {
  const path = createMemo(asks);
  const [answer, setAnswer] = createSignal<Answer<T>>();
  const [failed, setFailed] = createSignal("");
  let busy = false;
  let missed = false;
  const ask = async () => {
    const asked = path();
    if (asked === null) return;
    if (busy) {
      missed = true;
      return;
    }
    busy = true;
    try {
      const value = await get<T>(asked);
      setAnswer({ asked, value });
      setFailed("");
    } catch (error) {
      // What was answered for another path is no answer for this one.
      if (answer()?.asked.split("?")[0] !== asked.split("?")[0]) setAnswer(undefined);
      setFailed((error as Error).message);
    }
    busy = false;
    if (missed || path() !== asked) {
      missed = false;
      ask();
    }
  };
  const beat = createMemo(() => Math.floor((frame()?.tick.at ?? 0) / everyMs));
  createEffect(on([path, beat], ask));
  return { answer, failed, again: ask };
}

/** A query of those parts that say something. */
export function query(parts: Record<string, string | number | boolean | undefined>): string {
  const said = Object.entries(parts).filter(([, value]) => value !== undefined && value !== "" && value !== false);
  return said.map(([name, value]) => `${name}=${encodeURIComponent(String(value))}`).join("&");
}
