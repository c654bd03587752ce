//! Bits, bounds and buckets.

use super::*;

#[test]
fn business_comes_before_user() {
    let first = Priority::new(3, 1023).expect("in range");
    let second = Priority::new(4, 0).expect("in range");
    assert!(first < second);
    assert_eq!((first.business(), first.user_level()), (3, 1023));
    assert_eq!(Priority::new(64, 0), None);
    assert_eq!(Priority::new(0, 1024), None);
}

#[test]
fn levels_admit_from_none_to_all() {
    assert!(!Priority::FIRST.within(0));
    assert!(Priority::FIRST.within(1));
    assert!(!Priority::LAST.within(LEVEL_ALL - 1));
    assert!(Priority::LAST.within(LEVEL_ALL));
}

#[test]
fn each_priority_is_in_the_bucket_whose_levels_surround_it() {
    for value in 0..=u16::MAX {
        let bucket = Priority::from_u16(value).bucket();
        let (start, end) = (bucket.level_at(0.0), bucket.level_at(1.0));
        assert!(start <= u32::from(value) && u32::from(value) < end);
        assert_eq!(bucket.middle().bucket(), bucket);
    }
    assert_eq!(Bucket::new(BUCKETS as u16), None);
}
