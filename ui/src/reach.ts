// Where incidents reach, for the heat map and the list of what is hot. Pure.
import type { Incident, Layout } from "./types";

export class Reach {
  /** Services with the title of the incident that reaches them. */
  readonly services = new Map<string, string>();
  private readonly names = new Set<string>();
  private readonly whole = new Set<string>();
  private readonly hostNames = new Set<string>();

  constructor(incidents: Incident[]) {
    for (const of of incidents) {
      if (of.ended_at !== null) continue;
      for (const service of of.services) this.services.set(service, of.title);
      for (const instance of of.instances) this.names.add(instance);
      // One that names no instance reaches its services as a whole.
      if (of.instances.length === 0) for (const service of of.services) this.whole.add(service);
      for (const cause of of.causes.slice(0, 1)) if (cause.entity_kind === "host") this.hostNames.add(cause.entity);
      for (const finding of of.findings) if (finding.entity_kind === "host") this.hostNames.add(finding.entity);
    }
  }

  any(): boolean {
    return this.services.size + this.names.size + this.hostNames.size > 0;
  }

  /** Places of the instances that are reached. */
  instances(layout: Layout): Set<number> {
    const found = new Set<number>();
    if (!this.any()) return found;
    layout.instances.forEach((of, at) => {
      if (this.names.has(of.name) || this.whole.has(layout.services[of.service]!.name)) found.add(at);
    });
    return found;
  }

  /** Places of the hosts that are reached, themselves or by instances named on them. */
  hosts(layout: Layout): Set<number> {
    const found = new Set<number>();
    if (!this.any()) return found;
    layout.instances.forEach((of) => this.names.has(of.name) && found.add(of.host));
    layout.hosts.forEach((of, at) => this.hostNames.has(of.name) && found.add(at));
    return found;
  }
}
