// All operations as bars; one of them with its log and report.
import { createResource, For, type JSX, Show } from "solid-js";
import { blobUrl, get } from "../api";
import { clock } from "../format";
import { frame } from "../live";
import { Gantt } from "../parts/gantt";

interface Whole {
  id: string;
  who: string;
  phase: string;
  report: string | null;
  failures: string[];
  log: { at: number; text: string }[];
  verdicts: { gray_permille: number; outcome: string; requests_new: number; error_rate_new: number; error_rate_running: number; latency_p99_ms_new: number; latency_p99_ms_running: number }[];
}

const SHOWN_MAX = 100;

/** Opens the report in a tab of its own. */
async function report(event: MouseEvent, id: string) {
  event.preventDefault();
  open(await blobUrl(`/v1/operations/${id}/report`), "_blank");
}

export function OperationsPage(props: { id: string }): JSX.Element {
  const changed = () => {
    const of = frame()!.tick.operations.find((operation) => operation.id === props.id);
    return props.id ? `${props.id} ${of?.phase} ${of?.message} ${of?.gray_permille}` : null;
  };
  const [whole] = createResource(changed, () => get<Whole>(`/v1/operations/${props.id}`).catch(() => null));
  return (
    <div class="page">
      <Show when={whole.latest}>
        {(of) => (
          <section class="card operation">
            <h1>{of().id} <small>{of().phase.replace("_", " ")}, asked by {of().who}</small></h1>
            <For each={of().failures}>{(why) => <p class="bad">{why}</p>}</For>
            <Show when={of().verdicts.length > 0}>
              <table>
                <thead><tr><th>gray</th><th>judgement</th><th>requests to new</th><th>errors new / running</th><th>p99 new / running</th></tr></thead>
                <tbody>
                  <For each={of().verdicts}>
                    {(v) => <tr><td>{v.gray_permille / 10}%</td><td>{v.outcome.replaceAll("_", " ")}</td><td>{v.requests_new}</td><td>{(v.error_rate_new * 100).toFixed(2)}% / {(v.error_rate_running * 100).toFixed(2)}%</td><td>{v.latency_p99_ms_new.toFixed(1)} / {v.latency_p99_ms_running.toFixed(1)} ms</td></tr>}
                  </For>
                </tbody>
              </table>
            </Show>
            <ol class="log"><For each={of().log}>{(line) => <li><time>{clock(line.at)}</time> {line.text}</li>}</For></ol>
            <Show when={of().report}><p><a href="#/operations" onClick={(event) => report(event, of().id)}>Health report</a></p></Show>
          </section>
        )}
      </Show>
      <Gantt shownMax={SHOWN_MAX} />
    </div>
  );
}
