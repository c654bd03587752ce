// Who changed what, newest first.
import { createResource, type JSX, Show } from "solid-js";
import { get } from "../api";
import { frame } from "../live";
import { type ColumnOf, Rows } from "../parts/rows";
import type { AuditEntry } from "../types";

const REFRESH_MS = 5_000;
const COLUMNS: ColumnOf<AuditEntry>[] = [
  { head: "sequence", text: (of) => String(of.sequence), sort: (of) => -of.sequence },
  { head: "when", text: (of) => new Date(of.at).toLocaleString(undefined, { hour12: false }), sort: (of) => of.at },
  { head: "who", text: (of) => of.who },
  { head: "what", text: (of) => of.what },
  { head: "change", text: (of) => (of.before === null ? "made" : of.after === null ? "deleted" : "changed") },
];

export function AuditPage(): JSX.Element {
  const beat = () => Math.floor((frame()?.tick.at ?? 0) / REFRESH_MS);
  const [entries] = createResource(beat, () => get<AuditEntry[]>("/v1/audit?limit=1000"));
  return (
    <section class="card page">
      <h1>audit</h1>
      <Show when={entries.latest}>{(of) => <Rows label="Audit" rows={of()} columns={COLUMNS} />}</Show>
    </section>
  );
}
