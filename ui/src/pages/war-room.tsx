// The page that stays open all night.
import type { JSX } from "solid-js";
import { Funnel } from "../parts/funnel";
import { Gantt } from "../parts/gantt";
import { HeatMap } from "../parts/heat-map";
import { HotList } from "../parts/hot-list";
import { Incidents } from "../parts/incidents";

export function WarRoom(): JSX.Element {
  return (
    <div class="room">
      <Funnel />
      <div class="middle">
        <HeatMap />
        <Gantt shownMax={8} />
      </div>
      <div class="side">
        <Incidents />
        <HotList />
      </div>
    </div>
  );
}
