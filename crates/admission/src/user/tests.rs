//! Fairness over rotations, and shares that never rotate.

use super::*;

fn users(count: u32) -> Vec<UserHash> {
    let key = UserKey::from_bytes(*b"sixteen secret b");
    (0..count).map(|number| key.hash(&number.to_le_bytes())).collect()
}

/// Jain's index of what each got: 1 is equal.
fn jain(shares: &[f64]) -> f64 {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    sum * sum / (shares.len() as f64 * squares)
}

#[test]
fn a_day_of_rotations_serves_every_user_alike() {
    let served = |user: &UserHash, level_of: &dyn Fn(UserHash, u64) -> u16| {
        (500_000..500_024).filter(|&hour| level_of(*user, hour) < 512).count() as f64
    };
    let users = users(20_000);
    let ours: Vec<f64> = users.iter().map(|user| served(user, &|user, hour| user.level(hour))).collect();
    assert!(jain(&ours) >= 0.99, "{}", jain(&ours));
    // What a fresh hash each hour would give, as a measure that the test can fail.
    let fresh = |user: UserHash, hour: u64| (siphash24(hour, 1, &user.as_u64().to_le_bytes()) >> 54) as u16;
    let hashed: Vec<f64> = users.iter().map(|user| served(user, &fresh)).collect();
    assert!(jain(&hashed) < 0.97, "{}", jain(&hashed));
}

#[test]
fn levels_are_evenly_used() {
    let mut counts = [0_u32; 16];
    for user in users(16_000) {
        counts[usize::from(user.level(7) / 64)] += 1;
    }
    assert!(counts.iter().all(|&count| (800..1_200).contains(&count)), "{counts:?}");
}

#[test]
fn a_share_never_rotates_and_does_not_follow_the_level() {
    let users = users(10_000);
    let within = users.iter().filter(|user| user.share(0) < 0.3).count();
    assert!((2_800..3_200).contains(&within), "{within}");
    let among_first = users.iter().filter(|user| user.level(0) < 512 && user.share(0) < 0.3).count();
    assert!((1_300..1_700).contains(&among_first), "{among_first}");
    let both = users.iter().filter(|user| user.share(0) < 0.3 && user.share(9) < 0.3).count();
    assert!((750..1_050).contains(&both), "another salt hits other users: {both}");
}

#[test]
fn a_key_is_not_printed_and_matters() {
    let key = UserKey::from_bytes([1; 16]);
    assert_eq!(format!("{key:?}"), "UserKey(secret)");
    assert_ne!(key.hash(b"a"), UserKey::from_bytes([2; 16]).hash(b"a"));
}
