//! Who takes part, and the grids from which the baselines' best parameters are chosen.

use super::scenarios;
use anyhow::Result;
use sim::Script;
use sim::scheme::Scheme;
use sim::scheme::breakwater::Breakwater;
use sim::scheme::catalog;
use sim::scheme::codel::Codel;
use sim::scheme::dagor::Dagor;
use sim::scheme::gradient2::Gradient2;
use sim::scheme::random::Random;

/// Makes a control for a script.
type Make = Box<dyn Fn(&Script) -> Box<dyn Scheme>>;

/// One overload control with its parameters.
pub struct Contestant {
    /// Its name in tables.
    pub name: String,
    /// Its parameters, for readers.
    pub parameters: String,
    /// Makes it for a script.
    pub make: Make,
}

/// A family of parameters of one control.
pub struct Grid {
    name: &'static str,
    candidates: Vec<Contestant>,
    /// What an earlier search found.
    pub kept: Contestant,
}

fn rotation_us(script: &Script) -> u64 {
    (script.rotation_s * 1e6).round() as u64
}

fn named(name: &'static str, shown: &str, parameters: &str) -> Contestant {
    let make = move |script: &Script| catalog::named(name, script).expect("a name of the catalog");
    Contestant { name: shown.to_owned(), parameters: parameters.to_owned(), make: Box::new(make) }
}

/// Ours as shipped, and the baselines as their papers have them.
pub fn as_published() -> Vec<Contestant> {
    vec![
        named("springtide", "springtide", "as shipped, exact queue delay from the service"),
        named("springtide-inferred", "springtide, inferred", "as shipped, before a service that tells nothing"),
        named("dagor", "DAGOR, paper", "window 1 s or 2000 calls, 20 ms, alpha 5%, beta 1% (SoCC'18)"),
        named("codel", "CoDel, RFC", "target 5 ms, interval 100 ms (RFC 8289)"),
        named("gradient2", "Gradient2, default", "limit 20 to 200, queue 4, tolerance 1.5 (concurrency-limits)"),
        named("breakwater", "credits, paper", "target 20 ms, alpha 0.1%, beta 2% (Breakwater, OSDI'20)"),
    ]
}

/// No control at all.
pub fn nothing() -> Contestant {
    named("none", "none", "first come, first served")
}

/// The grids: as many candidates as each family has use for, at most [`CANDIDATES_MAX`].
pub fn all() -> Vec<Grid> {
    let best = |name| named(name, "", "found by an earlier search");
    let grid = |name, kept: Contestant, candidates: Vec<Contestant>| {
        assert!(candidates.len() <= CANDIDATES_MAX, "every family has the same budget");
        Grid { name, kept: Contestant { name: format!("{name}, best"), ..kept }, candidates }
    };
    vec![
        grid("DAGOR", best("dagor-tuned"), dagor()),
        grid("CoDel", best("codel-tuned"), codel()),
        grid("random", best("random"), random()),
        grid("Gradient2", best("gradient2-tuned"), gradient2()),
        grid("credits", best("breakwater-tuned"), breakwater()),
    ]
}

/// The budget of each family.
const CANDIDATES_MAX: usize = 96;
/// How many of a family are run on all tuning seeds.
const FINALISTS: usize = 8;

fn candidate<S, F>(parameters: String, make: F) -> Contestant
where
    S: Scheme + 'static,
    F: Fn(&Script) -> S + 'static,
{
    Contestant { name: String::new(), parameters, make: Box::new(move |script| Box::new(make(script))) }
}

/// DAGOR with deadlines respected and, where the script retries, a 10% retry budget: more than its paper gives it.
fn dagor() -> Vec<Contestant> {
    let mut all = Vec::new();
    for window_us in [100_000, 500_000, 1_000_000] {
        for delay_us in [10_000, 20_000, 40_000, 80_000] {
            for alpha in [0.005, 0.01, 0.02, 0.05] {
                for beta in [0.005, 0.01] {
                    let parameters = format!(
                        "window {} ms, {} ms, alpha {}%, beta {}%, expired calls dropped, 10% retry budget",
                        window_us / 1000,
                        delay_us / 1000,
                        round(alpha * 100.0),
                        round(beta * 100.0)
                    );
                    all.push(candidate(parameters, move |script| Dagor {
                        label: "dagor-best",
                        window_us,
                        window_calls: 2_000,
                        delay_us,
                        alpha,
                        beta,
                        drop_expired: true,
                        keep_back: false,
                        retry_share: Some(0.1),
                        rotation_us: rotation_us(script),
                    }));
                }
            }
        }
    }
    all
}

/// To a thousandth, for print.
fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

fn codel() -> Vec<Contestant> {
    let mut all = Vec::new();
    for target_us in [2_000, 5_000, 10_000, 20_000, 40_000, 60_000, 80_000, 120_000] {
        for interval_us in [1_000, 2_000, 5_000, 10_000, 20_000, 100_000] {
            for drop_expired in [true, false] {
                let parameters = format!(
                    "target {} ms, interval {} ms{}",
                    target_us / 1000,
                    interval_us / 1000,
                    if drop_expired { ", expired calls dropped" } else { "" }
                );
                let codel = Codel { label: "codel-best", target_us, interval_us, drop_expired };
                all.push(candidate(parameters, move |_| codel.clone()));
            }
        }
    }
    all
}

fn random() -> Vec<Contestant> {
    let mut all = Vec::new();
    for percent in (76..=106).step_by(2) {
        for window_us in [50_000, 100_000, 200_000, 500_000, 1_000_000, 2_000_000] {
            let parameters =
                format!("{percent}% of the true capacity, window {} ms, expired calls dropped", window_us / 1000);
            let headroom = f64::from(percent) / 100.0;
            let random = Random { label: "random-best", headroom, window_us, fixed: None, drop_expired: true };
            all.push(candidate(parameters, move |_| random.clone()));
        }
    }
    all
}

fn gradient2() -> Vec<Contestant> {
    let mut all = Vec::new();
    for limit_min in [4.0, 8.0, 12.0] {
        for limit_max in [8.0, 12.0, 16.0, 24.0, 50.0] {
            for queue in [1.0, 4.0] {
                for tolerance in [1.0, 1.5, 2.0] {
                    if limit_min > limit_max {
                        continue;
                    }
                    let parameters = format!(
                        "limit {limit_min} to {limit_max}, queue {queue}, tolerance {tolerance}, expired calls dropped"
                    );
                    let gradient = Gradient2 {
                        label: "gradient2-best",
                        limit_min,
                        limit_max,
                        queue,
                        tolerance,
                        drop_expired: true,
                        ..Gradient2::paper()
                    };
                    all.push(candidate(parameters, move |_| gradient.clone()));
                }
            }
        }
    }
    all
}

fn breakwater() -> Vec<Contestant> {
    let mut all = Vec::new();
    for target_us in [10_000, 20_000, 40_000, 80_000] {
        for alpha in [0.001, 0.01] {
            for beta in [0.02, 0.1, 0.3] {
                for round_us in [5_000, 20_000, 50_000, 100_000] {
                    let parameters = format!(
                        "target {} ms, alpha {}%, beta {}%, round {} ms, expired calls dropped",
                        target_us / 1000,
                        round(alpha * 100.0),
                        round(beta * 100.0),
                        round_us / 1000
                    );
                    let label = "breakwater-best";
                    let scheme = Breakwater { label, target_us, alpha, beta, round_us, drop_expired: true };
                    all.push(candidate(parameters, move |_| scheme.clone()));
                }
            }
        }
    }
    all
}

/// The candidate with the best mean share of the optimum over M¹ to M⁴: all are run on the first seed, the best few on the others too.
pub async fn search(grid: &Grid, seeds: std::ops::Range<u64>) -> Result<Contestant> {
    let scripts = scenarios::tuning().map(scenarios::Measure::script).collect::<Result<Vec<_>>>()?;
    let count = grid.candidates.len();
    let mut ranked = Vec::new();
    for (at, candidate) in grid.candidates.iter().enumerate() {
        eprint!("\r{:<70}", format!("choosing parameters of {}: {}/{count}", grid.name, at + 1));
        ranked.push((share_of_optimum(candidate, &scripts, seeds.start..seeds.start + 1).await, at));
    }
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    ranked.truncate(FINALISTS);
    for (share, at) in &mut ranked {
        eprint!("\r{:<70}", format!("choosing parameters of {}: the best {FINALISTS} again", grid.name));
        *share = share_of_optimum(&grid.candidates[*at], &scripts, seeds.clone()).await;
    }
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    eprintln!("\r{:<70}", "");
    let (share, at) = ranked[0];
    let parameters = &grid.candidates[at].parameters;
    let percent = share * 100.0;
    println!("best of {count} for {}: {parameters} ({percent:.1}% of the optimum over M1 to M4)", grid.name);
    // The grid outlives the search, so its candidate is made anew under its own name.
    let mut again = all().into_iter().find(|other| other.name == grid.name).expect("the same grid").candidates;
    let chosen = again.swap_remove(at);
    Ok(Contestant { name: format!("{}, best", grid.name), ..chosen })
}

/// Mean over scripts and seeds.
async fn share_of_optimum(candidate: &Contestant, scripts: &[Script], seeds: std::ops::Range<u64>) -> f64 {
    let runs = scripts.len() as f64 * (seeds.end - seeds.start) as f64;
    let mut sum = 0.0;
    for script in scripts {
        let scheme = (candidate.make)(script);
        for seed in seeds.clone() {
            sum += sim::run(script, &*scheme, seed).of_optimum;
            // A stop is heard between runs.
            tokio::task::yield_now().await;
        }
    }
    sum / runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_has_candidates_within_the_budget() {
        for grid in all() {
            assert!((40..=CANDIDATES_MAX).contains(&grid.candidates.len()), "{}: {}", grid.name, grid.candidates.len());
        }
    }
}
