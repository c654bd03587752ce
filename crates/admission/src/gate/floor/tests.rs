//! Calm, overload met cold, a service that became slower.

use super::*;

/// A window of 100 ms with 25 answers of a mean latency.
fn window(mean_us: f64, waiting: f64) -> Latencies {
    Latencies { sum_us: mean_us * 25.0, least_us: mean_us / 4.0, answers: 25.0, given_up: 0.0, waiting, seconds: 0.1 }
}

#[test]
fn the_lowest_calm_mean_is_the_floor_and_is_forgotten_after_a_minute() {
    let mut floor = Floor::new();
    assert_eq!(floor.us(500e3), None);
    for mean_us in [20e3, 10e3, 30e3] {
        for _ in 0..30 {
            floor.fold(window(mean_us, 5.0), 500e3);
        }
    }
    assert_eq!(floor.us(500e3), Some(10e3));
    for _ in 0..700 {
        floor.fold(window(30e3, 5.0), 500e3);
    }
    assert_eq!(floor.us(500e3), Some(30e3));
}

#[test]
fn a_queue_that_grows_or_is_given_up_is_no_floor() {
    let mut floor = Floor::new();
    for at in 0..20 {
        floor.fold(window(80e3, f64::from(at) * 25.0), 500e3);
    }
    assert_eq!(floor.us(500e3), Some(40e3), "twice the least, for want of better");
    for _ in 0..20 {
        floor.fold(Latencies { given_up: 5.0, ..window(80e3, 500.0) }, 500e3);
    }
    assert_eq!(floor.us(500e3), Some(40e3));
    for _ in 0..20 {
        floor.fold(window(80e3, 500.0), 500e3);
    }
    assert_eq!(floor.us(500e3), Some(80e3));
    assert_eq!(floor.us(125e3), Some(40e3), "with four calls a task that mean must be a queue");
}

#[test]
fn a_service_that_became_slower_in_overload_is_believed_and_a_queue_is_not() {
    let (mut slower, mut queued) = (Floor::new(), Floor::new());
    for floor in [&mut slower, &mut queued] {
        for _ in 0..30 {
            floor.fold(window(10e3, 5.0), 500e3);
        }
    }
    for _ in 0..40 {
        // Of 320 calls a second that were believed possible 250 are completed: the queue must have drained.
        slower.fold_overload(window(90e3, 20.0), Some(320.0));
        queued.fold_overload(window(90e3, 20.0), Some(250.0));
    }
    assert_eq!(slower.us(500e3), Some(90e3));
    assert_eq!(queued.us(500e3), Some(10e3));
    for _ in 0..40 {
        slower.fold_overload(window(200e3, 20.0), None);
    }
    assert_eq!(slower.us(500e3), Some(90e3), "overload alone moves nothing");
    for _ in 0..10 {
        slower.fold(window(12e3, 5.0), 500e3);
    }
    assert_eq!(slower.us(500e3), Some(10e3), "calm is believed again");
}
