//! `simulate`: runs scripts of the simulator under overload controls, in virtual time, without a server.

use super::failure::Failure;
use super::output::{Output, Table};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use sim::scheme::catalog;
use sim::{Report, Script};
use std::path::PathBuf;

/// Most seeds of one call.
const SEEDS_MAX: u64 = 1_000;

/// Rehearse an overload in virtual time
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  springtide simulate scenarios/step10.yaml\n  springtide simulate --scheme springtide,dagor --seeds 5 scenarios/m4.yaml\n  springtide simulate --course scenarios/stall.yaml\n\nThe same script and seed give the same figures to the byte. docs/simulate.md says what a script may say.\nExit codes: 0 done, 2 a script cannot be read or is wrong, or no such scheme, 130 stopped by Ctrl-C."
)]
pub struct Args {
    /// Scripts (YAML)
    #[arg(required = true, value_name = "SCRIPT")]
    scripts: Vec<PathBuf>,
    /// Overload controls, separated by commas; `all` for every one
    #[arg(long, value_delimiter = ',', default_value = "springtide,none", value_name = "NAME")]
    scheme: Vec<String>,
    /// First seed; the script's own when absent
    #[arg(long)]
    seed: Option<u64>,
    /// Seeds, one run each
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Show each second too
    #[arg(long)]
    course: bool,
    #[command(flatten)]
    output: Output,
}

/// What is printed for programs.
#[derive(Serialize)]
struct Simulated {
    runs: Vec<Report>,
}

/// `springtide simulate`.
pub async fn simulate(args: Args) -> Result<(), Failure> {
    if !(1..=SEEDS_MAX).contains(&args.seeds) {
        return Err(Failure::Usage(format!("--seeds {}: between 1 and {SEEDS_MAX}", args.seeds)));
    }
    let scripts = args.scripts.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let names = names(&args.scheme)?;
    let total = scripts.len() as u64 * names.len() as u64 * args.seeds;
    let style = ProgressStyle::with_template("{msg} {bar:30} {pos}/{len} runs").expect("a template of its own names");
    // Hidden where stderr is no terminal.
    let bar = ProgressBar::new(total).with_style(style);
    let mut runs = Vec::new();
    for script in &scripts {
        for name in &names {
            let scheme = catalog::named(name, script).expect("the names were looked up");
            bar.set_message(format!("{}: {name}", script.name));
            let first = args.seed.unwrap_or(script.seed);
            for seed in first..first.saturating_add(args.seeds) {
                runs.push(sim::run(script, &*scheme, seed));
                bar.inc(1);
                // Ctrl-C is heard between runs.
                tokio::task::yield_now().await;
            }
        }
    }
    bar.finish_and_clear();
    let course = args.course;
    let simulated = Simulated { runs };
    args.output.show(&simulated, || shown(&simulated.runs, course))
}

fn read(path: &PathBuf) -> Result<Script, Failure> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| Failure::Usage(format!("cannot read {name}: {error}")))?;
    sim::script::parse(&name, &text).map_err(|faults| {
        let on_wire = |fault: sim::script::Fault| api::http::Fault {
            file: fault.file,
            line: fault.line,
            field: fault.field,
            message: fault.message,
        };
        Failure::Faults(faults.into_iter().map(on_wire).collect())
    })
}

fn names(wanted: &[String]) -> Result<Vec<&'static str>, Failure> {
    if wanted.iter().any(|name| name == "all") {
        return Ok(catalog::NAMES.to_vec());
    }
    let known = |name: &String| {
        catalog::NAMES.iter().find(|known| *known == name).copied().ok_or_else(|| {
            let near =
                model::nearest(name, catalog::NAMES).map_or_else(String::new, |near| format!("; did you mean {near}?"));
            Failure::Usage(format!("no scheme {name:?}{near} (schemes: {}, all)", catalog::NAMES.join(", ")))
        })
    };
    wanted.iter().map(known).collect()
}

fn shown(runs: &[Report], course: bool) -> String {
    let head =
        ["SCRIPT", "SCHEME", "SEED", "TASKS", "OK", "OF OPTIMUM", "WASTED", "P50", "P99", "ATTEMPTS", "SHED", "JAIN"];
    let mut table = Table::new(&head).numbers(&[2, 3, 4, 5, 6, 7, 8, 9, 10, 11]).spare(&[11, 9, 7, 2, 10]);
    for run in runs {
        table.row([
            run.script.clone(),
            run.scheme.clone(),
            run.seed.to_string(),
            run.all.arrived.to_string(),
            percent(run.all.success),
            percent(run.of_optimum),
            percent(run.wasted_work),
            format!("{:.0} ms", run.all.p50_ms),
            format!("{:.0} ms", run.all.p99_ms),
            format!("{:.3}", run.attempts_per_call),
            percent(run.shed_calls),
            format!("{:.3}", run.jain),
        ]);
    }
    let mut text = table.text();
    if runs.iter().any(|run| run.streams.len() > 1) {
        text.push_str(&format!("\n{}", streams(runs)));
    }
    for run in runs.iter().filter(|_| course) {
        text.push_str(&format!("\n{} under {}, seed {}\n{}", run.script, run.scheme, run.seed, seconds(run)));
    }
    text
}

fn streams(runs: &[Report]) -> String {
    let head = ["SCRIPT", "SCHEME", "SEED", "STREAM", "CLASS", "TASKS", "OK", "P99", "FAILED FOR"];
    let mut table = Table::new(&head).numbers(&[2, 4, 5, 6, 7]).spare(&[2, 8]);
    for run in runs {
        for stream in &run.streams {
            let why: Vec<String> =
                stream.failed.iter().map(|(why, count)| format!("{} {count}", reason(*why))).collect();
            table.row([
                run.script.clone(),
                run.scheme.clone(),
                run.seed.to_string(),
                stream.name.clone(),
                stream.class.to_string(),
                stream.arrived.to_string(),
                percent(stream.success),
                format!("{:.0} ms", stream.p99_ms),
                why.join(", "),
            ]);
        }
    }
    table.text()
}

fn seconds(run: &Report) -> String {
    let mut table = Table::new(&["SECOND", "ARRIVED", "DONE", "QUEUE DELAY", "LEVEL"]).numbers(&[0, 1, 2, 3, 4]);
    for second in &run.seconds {
        table.row([
            second.at_s.to_string(),
            second.arrived.to_string(),
            second.done.to_string(),
            format!("{:.1} ms", second.queue_delay_ms),
            second.level.map_or_else(|| "-".to_owned(), |level| level.to_string()),
        ]);
    }
    table.text()
}

fn percent(share: f64) -> String {
    // Rounding must not hide that something was lost.
    let percent = share * 100.0;
    if percent > 99.95 && percent < 100.0 || percent > 0.0 && percent < 0.05 {
        format!("{percent:.3}%")
    } else {
        format!("{percent:.1}%")
    }
}

fn reason(why: sim::scheme::Refusal) -> &'static str {
    use sim::scheme::Refusal;
    match why {
        Refusal::Shed => "kept back",
        Refusal::Rejected => "rejected",
        Refusal::Dropped => "dropped",
        Refusal::Expired => "expired",
        Refusal::Overflow => "queue full",
        Refusal::Timeout => "timeout",
        Refusal::Downstream => "a call of its own",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "name: two\nduration_s: 5\nservices:\n- {name: m, instances: 1, workers: 1, work: {shape: fixed, mean_ms: 10}}\n\
        streams:\n- {name: pay, calls: [{to: m}], load: [{at_s: 0, rps: 50}]}\n- {name: chat, class: 9, calls: [{to: m}], load: [{at_s: 0, rps: 100}]}\n";

    #[test]
    fn the_table_has_a_row_for_each_run_stream_and_second() {
        let script = sim::script::parse("two.yaml", SCRIPT).expect("a good script");
        let scheme = catalog::named("springtide", &script).expect("ours");
        let text = shown(&[sim::run(&script, &*scheme, 1)], true);
        let words = |line: &str| line.split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>();
        let rows = text.lines().filter(|line| words(line) == ["two", "springtide"]).count();
        assert_eq!(rows, 3, "{text}");
        assert!(text.contains("two under springtide, seed 1") && text.contains("pay"), "{text}");
    }

    #[test]
    fn an_unknown_scheme_is_answered_with_the_nearest() {
        let refused = names(&["dagr".to_owned()]).expect_err("no such scheme");
        assert!(matches!(&refused, Failure::Usage(text) if text.contains("did you mean dagor?")), "{refused:?}");
        assert_eq!(names(&["all".to_owned()]).expect("all").len(), catalog::NAMES.len());
    }

    #[test]
    fn a_share_is_never_rounded_to_all_or_nothing() {
        assert_eq!([1.0, 0.9999, 0.5, 0.0001, 0.0].map(percent), ["100.0%", "99.990%", "50.0%", "0.010%", "0.0%"]);
    }
}
