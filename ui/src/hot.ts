// What is hot: services in order of how close they are to trouble, each with its reason. Pure.
import type { Layout, Tick } from "./types";

export interface Hot {
  service: string;
  layer: string;
  /** Larger is worse; 1 is at a limit. */
  heat: number;
  /** Empty: the incident is. */
  reason: string;
  healthy: number;
  wanted: number;
  rps: number | null;
  cpu: number | null;
  /** Instances that would bring the CPU back to the target. */
  suggested: number;
  /** The title of the incident that reaches it. */
  incident: string | null;
}

/** No service is to pass this share of its CPU. */
export const CPU_CEILING = 0.66;
/** Where an expanded service should come to rest. */
export const CPU_TARGET = 0.55;
const REJECTED_MAX = 0.01;
const FAILED_MAX = 0.01;
/** A service in an incident is at least this hot. */
const INCIDENT_HEAT = 1.3;

export function hot(layout: Layout, tick: Tick, incidents: Map<string, string> = new Map()): Hot[] {
  const columns = tick.services;
  const found: Hot[] = [];
  layout.services.forEach((service, at) => {
    if (service.layer === "external") return;
    const rps = columns.rps[at] ?? null;
    const cpu = columns.cpu[at] ?? null;
    const [healthy, wanted] = [columns.healthy[at] ?? 0, columns.wanted[at] ?? 0];
    const share = (part: number | null | undefined) => (rps && part ? part / rps : 0);
    const signs: [number, string][] = [
      [(cpu ?? 0) / CPU_CEILING, `CPU ${Math.round((cpu ?? 0) * 100)}%`],
      [share(columns.rejected_rps[at]) / REJECTED_MAX, `rejects ${(share(columns.rejected_rps[at]) * 100).toFixed(1)}%`],
      [share(columns.failed_rps[at]) / FAILED_MAX, `fails ${(share(columns.failed_rps[at]) * 100).toFixed(1)}%`],
      [wanted ? (wanted - healthy) / wanted + (healthy < wanted ? 1 : 0) : 0, `${wanted - healthy} of ${wanted} not healthy`],
    ];
    const incident = incidents.get(service.name) ?? null;
    if (incident !== null) signs.push([INCIDENT_HEAT, ""]);
    const [heat, reason] = signs.reduce((worst, sign) => (sign[0] > worst[0] ? sign : worst));
    const suggested = cpu && cpu > CPU_TARGET ? Math.ceil((wanted * cpu) / CPU_TARGET) : wanted + 1;
    found.push({ service: service.name, layer: service.layer, heat, reason, healthy, wanted, rps, cpu, suggested, incident });
  });
  return found.sort((a, b) => b.heat - a.heat || a.service.localeCompare(b.service));
}
