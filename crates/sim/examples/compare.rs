//! Runs scripts under overload controls side by side, a line each, the mean over seeds: the quick look while tuning.
//!
//! `cargo run --release -p sim --example compare -- [--seeds N] [--from SEED] [--schemes a,b] scenarios/m1.yaml …`

use sim::scheme::catalog;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (mut seeds, mut from, mut schemes, mut files) =
        (5u64, 100u64, "springtide,dagor,dagor-tuned".to_owned(), Vec::new());
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value"));
        match arg.as_str() {
            "--seeds" => seeds = value()?.parse()?,
            "--from" => from = value()?.parse()?,
            "--schemes" => schemes = value()?,
            _ => files.push(arg),
        }
    }
    println!(
        "{:<12} {:<14} {:>8} {:>7} {:>8} {:>8} {:>8} {:>9} {:>9} {:>7}",
        "script", "scheme", "%opt", "±", "wasted%", "p50 ms", "p99 ms", "attempts", "shed%", "jain"
    );
    for file in &files {
        let script =
            sim::script::parse(file, &std::fs::read_to_string(file)?).map_err(|faults| faults[0].to_string())?;
        for name in schemes.split(',') {
            let scheme =
                catalog::named(name, &script).ok_or(format!("no scheme {name}; one of {:?}", catalog::NAMES))?;
            let runs: Vec<sim::Report> = (from..from + seeds).map(|seed| sim::run(&script, &*scheme, seed)).collect();
            let mean = |f: &dyn Fn(&sim::Report) -> f64| runs.iter().map(f).sum::<f64>() / runs.len() as f64;
            let opt = mean(&|run| run.of_optimum * 100.0);
            let spread = (mean(&|run| (run.of_optimum * 100.0 - opt).powi(2))).sqrt();
            println!(
                "{:<12} {:<14} {opt:>8.2} {spread:>7.2} {:>8.2} {:>8.1} {:>8.1} {:>9.3} {:>9.4} {:>7.4}",
                script.name,
                name,
                mean(&|r| r.wasted_work * 100.0),
                mean(&|r| r.all.p50_ms),
                mean(&|r| r.all.p99_ms),
                mean(&|r| r.attempts_per_call),
                mean(&|r| r.shed_calls * 100.0),
                mean(&|r| r.jain),
            );
        }
    }
    Ok(())
}
