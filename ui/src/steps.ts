// What an operator may do with an operation: as the server says it; from its phase where it does not. Pure.
import type { LiveOperation } from "./types";

export interface Verb {
  /** Part of the path: `POST /v1/operations/{id}/{verb}`. */
  verb: string;
  word: string;
  /** Asked for once more before it is done, with what it does. */
  sure?: string;
}

/** What skipping one target does: a hook, whose name has its place (`before/0`), or an instance. */
export function skipping(target: string): string {
  return target.includes("/") ? `The hook ${target} is not asked for: the operation goes on without it.` : `${target} is given up: the operation goes on without it.`;
}

const FINAL = ["succeeded", "rolled_back", "failed"];
const ORDER = ["pause", "resume", "retry", "skip", "rollback"];

/** The verbs that fit, in the order of their buttons. */
export function verbs(of: LiveOperation): Verb[] {
  const step = of.allowed?.step ? ` step ${of.allowed.step}` : "";
  const words: Record<string, Verb> = {
    pause: { verb: "pause", word: "Pause" },
    resume: { verb: "resume", word: "Resume" },
    retry: { verb: "retry", word: FINAL.includes(of.phase) ? "Start again" : `Retry${step}` },
    skip: { verb: "skip", word: `Skip${step}`, sure: `What${step || " the step"} waits for is not awaited any more: the operation goes on without it.` },
    rollback: { verb: "rollback", word: "Roll back", sure: "Everything it did is undone; what served before serves again." },
  };
  const allowed = of.allowed?.verbs ?? guessed(of.phase);
  return ORDER.filter((verb) => allowed.includes(verb)).map((verb) => words[verb]!);
}

function guessed(phase: string): string[] {
  if (FINAL.includes(phase)) return [];
  if (phase === "rolling_back") return [];
  return phase === "paused" ? ["resume", "rollback"] : ["pause", "rollback"];
}
