// Hosts and instances as tables: the server filters, sorts and cuts; the page holds the rows in sight.
import { createEffect, type JSX } from "solid-js";
import { count, ms, percent } from "../format";
import type { Description, HostRow, InstanceRow } from "../types";
import { type ColumnOf, remote, Rows } from "./rows";

export const link = (kind: string, name: string) => `#/${kind}/${encodeURIComponent(name)}`;
export const CPU_HIGH = 0.66;
const BAD = ["unhealthy", "backoff", "failed"];

type Filter = () => Record<string, string | undefined>;

const INSTANCE: ColumnOf<InstanceRow>[] = [
  { head: "instance", text: (of) => of.name, key: "name", link: (of) => link("instances", of.name) },
  { head: "service", text: (of) => of.service, key: "service", link: (of) => link("services", of.service) },
  { head: "host", text: (of) => of.host, key: "host", link: (of) => link("hosts", of.host) },
  { head: "datacenter", text: (of) => of.datacenter },
  { head: "state", text: (of) => of.state, key: "state", warn: (of) => BAD.includes(of.state) },
  { head: "req/s", text: (of) => count(of.rps), key: "rps", number: true },
  { head: "p99", text: (of) => ms(of.p99_ms), key: "p99_ms", number: true },
  { head: "errors", text: (of) => percent(of.errors), key: "errors", number: true, warn: (of) => (of.errors ?? 0) > 0.01 },
  { head: "CPU", text: (of) => percent(of.cpu), key: "cpu", number: true, warn: (of) => (of.cpu ?? 0) > CPU_HIGH },
  { head: "memory", text: (of) => percent(of.memory), key: "memory", number: true, warn: (of) => (of.memory ?? 0) > 0.9 },
];

const HOST: ColumnOf<HostRow>[] = [
  { head: "host", text: (of) => of.name, key: "name", link: (of) => link("hosts", of.name) },
  { head: "datacenter", text: (of) => of.datacenter, key: "datacenter" },
  { head: "rack", text: (of) => of.rack, key: "rack" },
  { head: "state", text: (of) => of.state, key: "state", warn: (of) => of.state !== "connected" },
  { head: "instances", text: (of) => String(of.instances), key: "instances", number: true },
  { head: "CPU", text: (of) => percent(of.cpu), key: "cpu", number: true, warn: (of) => (of.cpu ?? 0) > CPU_HIGH },
  { head: "memory", text: (of) => percent(of.memory), key: "memory", number: true, warn: (of) => (of.memory ?? 0) > 0.9 },
  { head: "given", text: (of) => percent(of.given), key: "given", number: true },
];

/** Instances that fit a filter; without those columns that the filter makes the same for all. */
export function Instances(props: { filter: Filter; short?: boolean; total?: (count: number) => void; more?: ColumnOf<InstanceRow>[] }): JSX.Element {
  const columns = [...INSTANCE, ...(props.more ?? [])].filter((of) => !(of.key && props.filter()[of.key] !== undefined && ["service", "host"].includes(of.key)) && !(of.head === "datacenter" && props.filter()["host"] !== undefined));
  const by = columns.findIndex((of) => of.key === "cpu");
  const source = remote<InstanceRow>("/v1/rows/instances", props.filter, ["cpu", true]);
  createEffect(() => props.total?.(source.total()));
  return <Rows label="Instances" source={source} columns={columns} sortBy={[by, true]} short={props.short} />;
}

/** Further columns, from the section of a description that lists the same instances. */
export function told(of: () => Description | undefined): ColumnOf<InstanceRow>[] {
  const section = () => of()?.sections.find((section) => section.title === "instances");
  const cell = (name: string, head: string) => {
    const found = section();
    return found?.rows.find((row) => row[0] === name)?.[found.head.indexOf(head)] ?? "";
  };
  return ["wanted", "for", "restarts", "weight", "message"].map((head) => ({ head, text: (row) => cell(row.name, head), number: head === "restarts" || head === "weight" }));
}

export function Hosts(props: { filter: Filter; total?: (count: number) => void }): JSX.Element {
  const by = HOST.findIndex((of) => of.key === "cpu");
  const source = remote<HostRow>("/v1/rows/hosts", props.filter, ["cpu", true]);
  createEffect(() => props.total?.(source.total()));
  return <Rows label="Hosts" source={source} columns={HOST} sortBy={[by, true]} />;
}
