// The entry funnel, a row a layer, with the last minutes beside the numbers.
import { For, type JSX, Show } from "solid-js";
import { count, ms, percent } from "../format";
import { funnel, type Stage, stage } from "../funnel";
import { frame, past } from "../live";
import { Plot } from "./plot";

export function Funnel(): JSX.Element {
  const stages = () => funnel(frame()!.layout, frame()!.tick);
  const layers = () => stages().map((stage) => stage.layer).join();
  return (
    <section class="card funnel" aria-label="Entry funnel">
      <h2>Entry funnel</h2>
      {/* Rows are made anew only when a layer comes or goes; their numbers change in place. */}
      <For each={layers().split(",")}>
        {(layer) => {
          const now = () => stages().find((stage) => stage.layer === layer);
          return <Show when={now()}>{(stage) => <Row stage={stage()} />}</Show>;
        }}
      </For>
    </section>
  );
}

function Row(props: { stage: Stage }): JSX.Element {
  const layer = props.stage.layer;
  const share = (part: number) => (props.stage.offered > 0 ? (part / props.stage.offered) * 100 : 0);
  const data = () => {
    const { layout } = frame()!;
    const stages = past.map((moment) => (moment.services ? stage(layer, layout, moment.services) : null));
    const line = (of: "offered" | "admitted" | "rejected" | "failed") => stages.map((at) => at && at[of]);
    return [past.map((moment) => moment.at / 1000), line("offered"), line("admitted"), line("rejected"), line("failed")];
  };
  return (
    <div class="stage" data-layer={layer}>
      <h3>{layer} <small title={props.stage.services.join(", ")}>{named(props.stage.services)}</small></h3>
      <dl>
        <Number name="offered" value={`${count(props.stage.offered)}/s`} />
        <Number name="admitted" value={`${count(props.stage.admitted)}/s`} />
        <Number name="rejected" value={`${count(props.stage.rejected)}/s`} warn={share(props.stage.rejected) > 1} />
        <Number name="failed" value={`${count(props.stage.failed)}/s`} bad={share(props.stage.failed) > 1} />
        <Number name="p99" value={ms(props.stage.p99)} />
        <Number name="CPU, worst" value={percent(props.stage.cpu)} warn={(props.stage.cpu ?? 0) > 0.66} />
      </dl>
      <div class="bar" role="img" aria-label={`admitted ${share(props.stage.admitted).toFixed(0)}%, rejected ${share(props.stage.rejected).toFixed(0)}%, failed ${share(props.stage.failed).toFixed(0)}%`}>
        <i class="ok" style={{ width: `${Math.max(0, share(props.stage.admitted) - share(props.stage.failed))}%` }} />
        <i class="bad" style={{ width: `${share(props.stage.failed)}%` }} />
        <i class="warn" style={{ width: `${share(props.stage.rejected)}%` }} />
      </div>
      <Plot
        title={`${layer}: requests a second`}
        height={104}
        data={data}
        lines={[
          { label: "offered", colour: "--line-a", show: count },
          { label: "admitted", colour: "--line-b", fill: "#2f9e8f22", show: count },
          { label: "rejected", colour: "--line-c", show: count },
          { label: "failed", colour: "--line-d", show: count },
        ]}
      />
    </div>
  );
}

/** Services named in a head; more are counted. */
const NAMED_MAX = 4;

const named = (names: string[]) => names.slice(0, NAMED_MAX).join(", ") + (names.length > NAMED_MAX ? ` and ${names.length - NAMED_MAX} more` : "");

function Number(props: { name: string; value: string; warn?: boolean; bad?: boolean }): JSX.Element {
  return (
    <div classList={{ warn: props.warn, bad: props.bad }}>
      <dt>{props.name}</dt>
      <dd>{props.value}</dd>
    </div>
  );
}
