//! What is printed: the machine's parts, raw runs, the table, simulator beside reality, floors.

use super::schemes::Row;
use super::stack::Slices;
use super::{APART_GOAL, APART_MAX, Args, Cell, DEADLINE_MS, GOODPUT_MIN, LOADS, P99_MS_MAX};
use springtide_bench::{stats, table};

/// Width of a row's name.
const NAME: usize = 14;

/// What runs where.
pub fn head(args: &Args, slices: &Slices, nominal_rps: f64) {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split_whitespace().next().unwrap_or("?").to_owned();
    println!("generator on core {}, open loop (Poisson), timed from the intended send", args.generator_core);
    println!(
        "service on core {}, quota {} of a core ({}), {} us of CPU a call: {nominal_rps:.1} calls/s by arithmetic",
        args.service_core,
        f64::from(args.quota_millis) / 1e3,
        slices.layout(),
        args.cpu_us
    );
    println!("proxy on core {}, one thread, no quota, no server in reach", args.proxy_core);
    println!("deadline {DEADLINE_MS} ms; load average before: {load}\n");
    args.rows.iter().for_each(|row| println!("  {:<NAME$} {}", row.name(), row.about()));
    println!();
}

/// Head of the raw runs.
pub fn raw_head() {
    println!("raw runs (rates a second; p99 in ms of calls let in, those given up at the deadline included)");
    println!(
        "{:>2} {:<NAME$} {:>3} {:>7} {:>7} {:>6} {:>5} {:>6} {:>6} {:>4} {:>5} {:>5} {:>5} {:>6} {:>5}",
        "",
        "",
        "x",
        "offered",
        "goodput",
        "% cap",
        "p99",
        "reject",
        "gave up",
        "fail",
        "lag",
        "svc",
        "prx",
        "sim",
        "p99"
    );
}

/// One raw run.
pub fn raw(round: usize, cell: &Cell, capacity_rps: f64) {
    println!(
        "{round:>2} {:<NAME$} {:>3} {:>7.1} {:>7.1} {:>6.1} {:>5.0} {:>6} {:>7} {:>4} {:>5.2} {:>5.2} {:>5.2} {:>6.1} {:>5.0}",
        cell.row.name(),
        cell.load,
        cell.offered_rps,
        cell.goodput_rps,
        100.0 * cell.goodput_rps / capacity_rps,
        cell.p99_ms,
        cell.rejected,
        cell.given_up,
        cell.failed,
        cell.lag_p99_ms,
        cell.service_cores,
        cell.proxy_cores,
        cell.expected.goodput_rps,
        cell.expected.p99_ms,
    );
}

/// Medians of a row's cells at a load.
struct Middle {
    goodput: f64,
    p99_ms: f64,
    simulated: f64,
    simulated_p99_ms: f64,
}

impl Middle {
    fn of(cells: &[Cell], row: Row, load: f64, capacity_rps: f64) -> Self {
        let median = |value: fn(&Cell) -> f64| {
            let same = cells.iter().filter(|cell| cell.row == row && cell.load == load);
            stats::median(&same.map(value).collect::<Vec<_>>())
        };
        Self {
            goodput: median(|cell| cell.goodput_rps) / capacity_rps,
            p99_ms: median(|cell| cell.p99_ms),
            simulated: median(|cell| cell.expected.goodput_rps) / capacity_rps,
            simulated_p99_ms: median(|cell| cell.expected.p99_ms),
        }
    }

    /// Reality less simulator, as a share of the capacity.
    fn apart(&self) -> f64 {
        self.goodput - self.simulated
    }
}

/// The tables.
pub fn summary(rows: &[Row], cells: &[Cell], capacity_rps: f64) {
    let line = |row: &Row, cell: &dyn Fn(&Middle) -> String| {
        let texts = LOADS.iter().map(|load| cell(&Middle::of(cells, *row, *load, capacity_rps)));
        println!("{:<NAME$}{}", row.name(), texts.collect::<String>());
    };
    let head = |what: &str| {
        let loads = LOADS.iter().map(|load| format!("{:>16}", format!("{load}x")));
        println!("\n{what}\n{:<NAME$}{}", "", loads.collect::<String>());
    };
    head("goodput, % of measured capacity (p99 of calls let in, ms)");
    for row in rows {
        line(row, &|m| format!("{:>16}", format!("{:.1} ({:.0})", 100.0 * m.goodput, m.p99_ms)));
    }
    head("the simulator on the same load");
    for row in rows {
        line(row, &|m| format!("{:>16}", format!("{:.1} ({:.0})", 100.0 * m.simulated, m.simulated_p99_ms)));
    }
    head("reality less simulator, in points of capacity");
    for row in rows {
        line(row, &|m| format!("{:>16}", format!("{:+.1}", 100.0 * m.apart())));
    }
    losses(rows, cells, capacity_rps);
}

/// Where another row is better than what a user gets.
fn losses(rows: &[Row], cells: &[Cell], capacity_rps: f64) {
    println!("\nlosses: where another row has more goodput than springtide, by over 1 point");
    let mut none = true;
    for load in LOADS {
        let ours = Middle::of(cells, Row::Springtide, load, capacity_rps);
        for row in rows.iter().filter(|row| **row != Row::Springtide) {
            let other = Middle::of(cells, *row, load, capacity_rps);
            if other.goodput > ours.goodput + 0.01 {
                none = false;
                let (other_p99, our_p99) = (other.p99_ms, ours.p99_ms);
                let (other, ours) = (100.0 * other.goodput, 100.0 * ours.goodput);
                println!("  {load}x: {} {other:.1} (p99 {other_p99:.0}) against {ours:.1} ({our_p99:.0})", row.name());
            }
        }
    }
    if none {
        println!("  none");
    }
}

/// Floors and the last line; false when one is missed.
pub fn judge(args: &Args, cells: &[Cell], (first_rps, last_rps): (f64, f64), voids: u32) -> bool {
    println!();
    let most = LOADS[LOADS.len() - 1];
    let at = |row: Row| Middle::of(cells, row, most, first_rps);
    let (mut rows, mut told) = (Vec::new(), String::new());
    for (row, goodput, p99) in [
        (Row::Springtide, "springtide: goodput at 10x, % of capacity", "springtide: p99 let in at 10x, ms"),
        (Row::SpringtideSdk, "springtide+sdk: goodput at 10x, % of capacity", "springtide+sdk: p99 let in at 10x, ms"),
    ] {
        if !args.rows.contains(&row) {
            continue;
        }
        let found = at(row);
        let floor = format!("{:.0}", 100.0 * GOODPUT_MIN);
        rows.push(table::Row::new(
            goodput,
            format!("{:.1}", 100.0 * found.goodput),
            floor,
            found.goodput >= GOODPUT_MIN,
        ));
        rows.push(table::Row::new(p99, format!("{:.0}", found.p99_ms), P99_MS_MAX, found.p99_ms <= P99_MS_MAX));
        told += &format!("{0}_pct={1:.1} {0}_p99_ms={2:.0} ", row.name(), 100.0 * found.goodput, found.p99_ms);
    }
    let worst = |ours: bool| {
        let compared = args.rows.iter().filter(|row| row.is_ours() == ours);
        let apart = compared.flat_map(|row| LOADS.map(|load| Middle::of(cells, *row, load, first_rps).apart().abs()));
        apart.fold(0.0, f64::max)
    };
    let (ours, others) = (worst(true), worst(false));
    let points = |share: f64| format!("{:.1}", 100.0 * share);
    let what = "simulator and reality apart, ours, points";
    rows.push(table::Row::new(what, points(ours), points(APART_MAX), ours <= APART_MAX).goal(points(APART_GOAL)));
    // No floor: an unprotected queue at its capacity is a coin toss, and what a rejection costs is not simulated.
    rows.push(table::Row::new("the same, others, points", points(others), "-", true));
    let passed = table::print(&rows);
    println!(
        "bench admission-real: {told}apart_ours={} apart_others={} capacity_rps={first_rps:.1} capacity_again_rps={last_rps:.1} generator_core={} proxy_core={} service_core={} voids={voids} seed={} passed={passed}",
        points(ours),
        points(others),
        args.generator_core,
        args.proxy_core,
        args.service_core,
        args.seed
    );
    passed
}
