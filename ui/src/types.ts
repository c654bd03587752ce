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

export interface OperationPlan {
  adds: { instance: string; host: string; datacenter: string }[];
  removes: { instance: string; host: string; datacenter: string }[];
  shortages: string[];
}
