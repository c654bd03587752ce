// All incidents.
import type { JSX } from "solid-js";
import { Incidents } from "../parts/incidents";

export function IncidentsPage(): JSX.Element {
  return <div class="page"><Incidents all /></div>;
}
