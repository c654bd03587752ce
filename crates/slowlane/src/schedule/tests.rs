//! The bucket never gives more than its rate, whatever the clock does; waits stay within their bounds.

use super::*;
use proptest::prelude::*;

proptest! {
    #[test]
    fn a_bucket_gives_its_rate_and_no_more(
        rate in 1_u64..5_000_000, steps in prop::collection::vec(0_u64..200_000, 1..200)
    ) {
        let mut bucket = Bucket::new(rate, 0);
        let (mut now, mut taken) = (0, 0_u64);
        for step in steps {
            now += step;
            while bucket.take(now) {
                taken += 1;
            }
        }
        let burst = (rate * BURST_MS / 1_000_000).max(1);
        prop_assert!(taken <= burst + rate * now / TOKEN + 1, "{taken} in {now} us at {rate}");
        prop_assert!(taken >= 1);
    }

    #[test]
    fn waiting_as_told_gives_a_token_and_exactly_the_rate(rate in 10_u64..1_000_000) {
        let mut bucket = Bucket::new(rate, 0);
        let (mut now, mut taken) = (0, 0_u64);
        while taken < 50 {
            now += bucket.next_us(now).expect("a rate");
            prop_assert!(bucket.take(now));
            taken += 1;
        }
        let wanted = 49 * TOKEN / rate;
        prop_assert!(now >= wanted && now <= wanted + 50, "{now} us, wanted {wanted}");
    }

    #[test]
    fn a_back_off_is_bounded_and_jittered(attempt in 1_u32..1_000, random: u64) {
        prop_assert!(back_off_ms(attempt, random) <= BACK_OFF_MS_MAX);
        prop_assert!(back_off_ms(1, random) <= BACK_OFF_MS);
    }
}

#[test]
fn a_clock_that_goes_back_gives_nothing_and_breaks_nothing() {
    let mut bucket = Bucket::new(1_000, 10_000_000);
    assert!(bucket.take(10_000_000));
    assert!(!bucket.take(0) && !bucket.take(10_900_000) && bucket.take(11_000_000));
    bucket.set_rate(0, 11_000_000);
    assert_eq!(bucket.next_us(u64::MAX), None);
    assert!(!bucket.take(u64::MAX));
}

#[test]
fn only_a_final_no_is_final() {
    for later in [408, 425, 429, 500, 502, 503, 504] {
        assert_eq!(judge(later, u32::MAX), Verdict::Retry, "{later}");
    }
    for never in [301, 400, 401, 403, 404, 410, 413, 422] {
        assert_eq!(judge(never, 1), Verdict::Dead, "{never}");
    }
    assert_eq!((judge(200, 1), judge(204, 9)), (Verdict::Done, Verdict::Done));
    assert_eq!((judge(409, 1), judge(409, CONFLICTS_MAX)), (Verdict::Retry, Verdict::Dead));
}

#[test]
fn only_a_final_no_of_grpc_is_final() {
    for later in [1, 2, 4, 8, 10, 13, 14, 15] {
        assert_eq!(judge_grpc(later, u32::MAX), Verdict::Retry, "{later}");
    }
    for never in [3, 5, 7, 9, 11, 12, 16, 99] {
        assert_eq!(judge_grpc(never, 1), Verdict::Dead, "{never}");
    }
    assert_eq!(
        (judge_grpc(0, 1), judge_grpc(6, 1), judge_grpc(6, CONFLICTS_MAX)),
        (Verdict::Done, Verdict::Retry, Verdict::Dead)
    );
}
