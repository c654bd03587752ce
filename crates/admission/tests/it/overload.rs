//! Steady overload, steps, stalls and pauses. Floors here are below those of `bench admission-sim`: few seeds, one run.

use crate::model::{Model, Scene};

#[test]
fn at_twice_the_load_most_of_the_optimum_is_served() {
    for calls in 1..=4 {
        let tally = Model::new(Scene::steady(calls, 2.0, 7)).run();
        let share = tally.served as f64 / (tally.tasks as f64 / 2.0);
        assert!(share > 0.85, "M{calls}: {share:.3}");
        assert!(tally.wasted_us as f64 <= 0.02 * tally.work_us as f64, "M{calls}: {tally:?}");
    }
}
