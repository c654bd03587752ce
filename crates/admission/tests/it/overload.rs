//! Steady overload, steps, stalls and pauses. Floors here are below those of `bench admission-sim`: few seeds, one run.

use crate::model::{Model, Scene, Tally};
use admission::{Config, Signal};

/// What was served of what could have been.
fn share_of_optimum(tally: &Tally, load: f64) -> f64 {
    tally.served as f64 / (tally.tasks as f64 / load)
}

/// Tasks served per second from one moment to another.
fn served_per_s(tally: &Tally, from_ms: usize, to_ms: usize) -> f64 {
    let served: u64 = tally.timeline[from_ms / 100..to_ms / 100].iter().sum();
    served as f64 / ((to_ms - from_ms) as f64 / 1_000.0)
}

#[test]
fn at_twice_the_load_most_of_the_optimum_is_served() {
    for (calls, floor) in [(1, 0.95), (2, 0.95), (3, 0.94), (4, 0.92)] {
        let tally = Model::new(Scene::steady(calls, 2.0, 7)).run();
        let share = share_of_optimum(&tally, 2.0);
        assert!(share > floor, "M{calls}: {share:.3}");
        let mut latencies_us = tally.latencies_us.clone();
        latencies_us.sort_unstable();
        assert!(latencies_us[latencies_us.len() * 99 / 100] < 490_000, "M{calls}");
        assert!(tally.wasted_us as f64 <= 0.02 * tally.work_us as f64, "M{calls}: {} late", tally.late);
    }
}

#[test]
fn a_service_that_tells_nothing_is_protected_nearly_as_well() {
    for calls in [1, 4] {
        let mut scene = Scene::steady(calls, 4.0, 3);
        scene.config = Config { signal: Signal::Inferred, ..Config::default() };
        let tally = Model::new(scene).run();
        let share = share_of_optimum(&tally, 4.0);
        assert!(share > 0.9, "M{calls}: {share:.3}");
    }
}

#[test]
fn tasks_of_many_calls_fare_like_tasks_of_one() {
    let mut scene = Scene::steady(1, 2.0, 5);
    scene.calls = vec![1, 2, 3, 4];
    scene.rates = vec![(0, 2.0 * 750.0 / 2.5)];
    let tally = Model::new(scene).run();
    let shares: Vec<f64> = tally.by_calls.iter().map(|(served, all)| *served as f64 / *all as f64).collect();
    let most = shares.iter().copied().fold(0.0, f64::max);
    let least = shares.iter().copied().fold(1.0, f64::min);
    assert!(most - least < 0.06, "{shares:?}");
}

#[test]
fn three_seconds_after_a_tenfold_step_the_optimum_is_served() {
    let mut scene = Scene::steady(1, 0.8, 11);
    scene.rates = vec![(0, 600.0), (10_000_000, 7_500.0)];
    scene.end_us = 20_000_000;
    let tally = Model::new(scene).run();
    let after = served_per_s(&tally, 10_500, 13_000);
    assert!(after > 0.9 * 750.0, "{after}");
}

#[test]
fn after_a_stall_the_load_is_served_again_without_a_storm_of_retries() {
    let mut scene = Scene::steady(1, 0.9, 13);
    scene.attempts_max = 3;
    scene.pauses = vec![(10_000_000, 20_000_000)];
    scene.end_us = 40_000_000;
    let tally = Model::new(scene).run();
    let after = served_per_s(&tally, 21_000, 38_000);
    assert!(after > 0.95 * 675.0, "{after}");
    let attempts = tally.attempts as f64 / tally.tasks as f64;
    assert!(attempts <= 1.1, "{attempts}");
}

#[test]
fn the_top_class_is_served_whole_at_ten_times_the_load() {
    let mut scene = Scene::steady(1, 10.0, 17);
    scene.classes = vec![(0.07, 2), (0.5, 10), (0.43, 20)];
    let tally = Model::new(scene).run();
    let (served, all) = tally.classes[0];
    assert!(served as f64 >= 0.999 * all as f64, "{served} of {all}");
}

#[test]
fn short_pauses_below_capacity_shed_nothing() {
    for exponential in [false, true] {
        let mut scene = Scene::steady(1, 0.9, 19);
        scene.exponential = exponential;
        scene.least_loaded = true;
        scene.end_us = 60_000_000;
        scene.pauses = (1..60).map(|second| (second * 1_000_000, second * 1_000_000 + 50_000)).collect();
        let tally = Model::new(scene).run();
        assert_eq!(tally.rejected, 0, "of {}", tally.tasks);
    }
}

#[test]
fn tasks_of_one_and_the_same_priority_are_admitted_by_share() {
    for load in [2.0, 10.0] {
        let mut scene = Scene::steady(1, load, 23);
        scene.one_user = true;
        let tally = Model::new(scene).run();
        let share = share_of_optimum(&tally, load);
        assert!(share > 0.95, "{load}: {share:.3}");
    }
}
