// What the server sends: `api::live` and the parts of `api::http` that the page uses. Rust is the source of these shapes.

export interface Layout {
  number: string;
  hosts: { name: string; datacenter: string; rack: string }[];
  services: { name: string; business: string; layer: Layer; calls: string[] }[];
  instances: { name: string; service: number; host: number }[];
  events: LiveEvent[];
}

export type Layer = "access" | "logic" | "storage" | "external";
export type Column = (number | null)[];

export interface LiveEvent {
  name: string;
  business: string;
  starts_at: string | null;
  ends_at: string | null;
  entry_rps: number;
}

export interface Tick {
  layout: string;
  at: number;
  settled: boolean;
  services: {
    rps: Column;
    failed_rps: Column;
    rejected_rps: Column;
    p50_ms: Column;
    p99_ms: Column;
    cpu: Column;
    healthy: number[];
    wanted: number[];
  };
  instances: { phase: number[]; rps: Column; p99_ms: Column; errors: Column; cpu: Column; memory: Column };
  hosts: { state: number[]; cpu: Column; memory: Column; given: Column };
  operations: LiveOperation[];
  /** Absent: this server does not watch for incidents. */
  incidents?: LiveIncident[];
  /** Why incidents may be missed at present; absent: all is well. */
  detection_trouble?: string;
}

export interface LiveIncident {
  id: string;
  state: string;
  title: string;
  severity: string;
  started_at: number;
  ended_at: number | null;
  acknowledged_by: string | null;
  silenced_until: number | null;
  reach: string[];
  causes: { what: string; confidence: number; service: string | null; evidence: string[] }[];
}

/** The whole of an incident. */
export interface Incident extends Omit<LiveIncident, "causes"> {
  opened_at: number;
  updated_at: number;
  rule: string | null;
  services: string[];
  instances: string[];
  datacenters: string[];
  causes: { what: string; confidence: number; kind: string; entity_kind: string; entity: string; service: string | null; evidence: string[] }[];
  going_on: { kind: string; name: string; what: string; from: number }[];
  findings: { what: string; signal: string; entity_kind: string; entity: string; since: number; last_seen: number }[];
  next: string[];
  reopened: number;
  merged_into: string | null;
}

export interface LiveOperation {
  id: string;
  kind: string;
  target: string;
  phase: string;
  who: string;
  created_at: number;
  finished_at: number | null;
  gray_permille: number;
  steps: {
    name: string;
    state: "waiting" | "running" | "done" | "skipped" | "failed";
    started_at: number | null;
    finished_at: number | null;
    done: number;
    total: number;
  }[];
  message: string;
  /** What may be done with it now; absent: the server does not say, its phase does. */
  allowed?: { verbs: string[]; step?: string; targets?: string[] };
}

/** The whole of an operation. */
export interface OperationWhole {
  id: string;
  who: string;
  phase: string;
  created_at: number;
  finished_at: number | null;
  report: string | null;
  failures: string[];
  log: { at: number; text: string }[];
  steps: {
    name: string;
    state: string;
    started_at: number | null;
    finished_at: number | null;
    attempts: number;
    done: number;
    total: number;
    message: string;
    /** What became of its hooks, by `before/0`. */
    hooks?: Record<string, unknown>;
  }[];
  verdicts: { gray_permille: number; outcome: string; requests_new: number; error_rate_new: number; error_rate_running: number; latency_p99_ms_new: number; latency_p99_ms_running: number }[];
}

export const PHASES = [
  "unknown",
  "fetching",
  "deployed",
  "starting",
  "healthy",
  "unhealthy",
  "backoff",
  "stopping",
  "stopped",
  "failed",
];

export interface Description {
  title: string;
  sections: { title: string; head: string[]; rows: string[][] }[];
}

export interface AuditEntry {
  sequence: number;
  at: number;
  who: string;
  what: string;
  before: unknown;
  after: unknown;
}

/** A page of a table that the server filtered, sorted and cut. */
export interface RowsPage<T> {
  at: number;
  total: number;
  rows: T[];
}

export interface InstanceRow {
  name: string;
  service: string;
  host: string;
  datacenter: string;
  state: string;
  rps: number | null;
  p99_ms: number | null;
  errors: number | null;
  cpu: number | null;
  memory: number | null;
}

export interface HostRow {
  name: string;
  datacenter: string;
  rack: string;
  state: string;
  instances: number;
  cpu: number | null;
  memory: number | null;
  given: number | null;
}

export interface Edge {
  peer: string;
  declared: boolean;
  rps: number | null;
  failed_rps: number | null;
  rejected_rps: number | null;
  p50_ms: number | null;
  p99_ms: number | null;
}

export interface Runs {
  datacenter: string;
  package: string;
  config: string;
  wanted: boolean;
  instances: number;
  some: string[];
}

export interface ServiceNow {
  at: number;
  callers: Edge[];
  calls: Edge[];
  runs: Runs[];
}

export interface OperationPlan {
  adds: { instance: string; host: string; datacenter: string }[];
  removes: { instance: string; host: string; datacenter: string }[];
  shortages: string[];
}
