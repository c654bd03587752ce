// The entry funnel: what each layer was offered, and what became of it. Pure.
import type { Layer, Layout, Tick } from "./types";

export interface Stage {
  layer: Layer;
  services: string[];
  offered: number;
  admitted: number;
  rejected: number;
  failed: number;
  p99: number | null;
  cpu: number | null;
}

export const LAYERS: Layer[] = ["access", "logic", "storage", "external"];

export function funnel(layout: Layout, tick: Tick): Stage[] {
  return LAYERS.map((layer) => stage(layer, layout, tick.services)).filter((stage) => stage.services.length > 0);
}

export function stage(layer: Layer, layout: Layout, columns: Tick["services"]): Stage {
  const sum: Stage = { layer, services: [], offered: 0, admitted: 0, rejected: 0, failed: 0, p99: null, cpu: null };
  layout.services.forEach((service, at) => {
    if (service.layer !== layer) return;
    sum.services.push(service.name);
    sum.offered += columns.rps[at] ?? 0;
    sum.rejected += columns.rejected_rps[at] ?? 0;
    sum.failed += columns.failed_rps[at] ?? 0;
    const worse = (a: number | null, b: number | null | undefined) => (b == null ? a : a == null ? b : Math.max(a, b));
    sum.p99 = worse(sum.p99, columns.p99_ms[at]);
    sum.cpu = worse(sum.cpu, columns.cpu[at]);
  });
  sum.admitted = Math.max(0, sum.offered - sum.rejected);
  return sum;
}
