// What an operator may do with an operation: as the server says it; from its phase where it does not. Pure.
import type { LiveOperation, OperationWhole } from "./types";

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

/** The failed step at which an operation stands still until somebody decides; one that an operator paused stands at none. */
export function heldAt<S extends { state: string }>(of: { phase: string; steps: S[] }): S | undefined {
  return of.phase === "paused" ? of.steps.find((step) => step.state === "failed") : undefined;
}

/** Where an operation stands, in a word. */
export const standing = (of: Parameters<typeof heldAt>[0]) => (heldAt(of) ? "held" : of.phase.replaceAll("_", " "));

/** What went wrong, and apart from it what operators did about it. */
export function reasons(of: Pick<OperationWhole, "phase" | "steps" | "failures">): { wrong: string[]; done: string[] } {
  const byHand = /( was given up|^rolled back) by /;
  const held = heldAt(of)?.message;
  const wrong = [...(held ? [held] : []), ...of.failures.filter((why) => !byHand.test(why))];
  return { wrong: [...new Set(wrong)], done: of.failures.filter((why) => byHand.test(why)) };
}

/** Those targets of the step in hand that failed themselves, and those that are only not done yet. */
export function sorted(targets: string[], hooks: Record<string, unknown> = {}): { failed: string[]; waiting: string[] } {
  const isFailed = (target: string) => typeof hooks[target] === "object" && hooks[target] !== null && "failed" in hooks[target];
  return { failed: targets.filter(isFailed), waiting: targets.filter((target) => !isFailed(target)) };
}

/** The time that bars of operations cover: to now while one of them goes on, else to when the last one ended. */
export function stretch(all: Pick<LiveOperation, "created_at" | "finished_at">[], now: number, wideMsMin: number): { from: number; wide: number } {
  const from = Math.min(...all.map((of) => of.created_at));
  const to = Math.max(...all.map((of) => of.finished_at ?? now));
  return { from, wide: Math.max(to - from, wideMsMin) };
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
