// The entry funnel, a row a layer, with the last minutes beside the numbers.
import { For, type JSX, Show } from "solid-js";
import { count, ms, percent } from "../format";
import { funnel, type Stage, stage } from "../funnel";
import { frame, history } from "../live";
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
    const past = history.map((tick) => stage(layer, layout, tick));
    return [history.map((tick) => tick.at / 1000), past.map((s) => s.offered), past.map((s) => s.admitted), past.map((s) => s.rejected), past.map((s) => s.failed)];
  };
  return (
    <div class="stage" data-layer={layer}>
      <h3>{layer} <small>{props.stage.services.join(", ")}</small></h3>
      <dl>
        <Number name="offered" value={`${count(props.stage.offered)}/s`} />
        <Number name="admitted" value={`${count(props.stage.admitted)}/s`} />
        <Number name="rejected" value={`${count(props.stage.rejected)}/s`} warn={share(props.stage.rejected) > 1} />
        <Number name="failed" value={`${count(props.stage.failed)}/s`} bad={share(props.stage.failed) > 1} />
        <Number name="p99" value={ms(props.stage.p99)} />
        <Number name="hottest CPU" value={percent(props.stage.cpu)} warn={(props.stage.cpu ?? 0) > 0.66} />
      </dl>
      <div class="bar" role="img" aria-label={`admitted ${share(props.stage.admitted).toFixed(0)}%, rejected ${share(props.stage.rejected).toFixed(0)}%, failed ${share(props.stage.failed).toFixed(0)}%`}>
        <i class="ok" style={{ width: `${Math.max(0, share(props.stage.admitted) - share(props.stage.failed))}%` }} />
        <i class="bad" style={{ width: `${share(props.stage.failed)}%` }} />
        <i class="warn" style={{ width: `${share(props.stage.rejected)}%` }} />
      </div>
      <Plot
        title={`${layer}: requests a second`}
        height={92}
        data={data}
        lines={[
          { label: "offered", colour: "#8b9bb4", show: count },
          { label: "admitted", colour: "#2f9e8f", fill: "#2f9e8f22", show: count },
          { label: "rejected", colour: "#f2b134", show: count },
          { label: "failed", colour: "#e0335b", show: count },
        ]}
      />
    </div>
  );
}

function Number(props: { name: string; value: string; warn?: boolean; bad?: boolean }): JSX.Element {
  return (
    <div classList={{ warn: props.warn, bad: props.bad }}>
      <dt>{props.name}</dt>
      <dd>{props.value}</dd>
    </div>
  );
}
