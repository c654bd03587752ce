//! Shares, crowds of tenants, unknown capacity.

use super::*;

#[test]
fn a_tenant_gets_its_share_and_others_theirs() {
    let cap = TenantCap::new(0.25, 64);
    let admitted = |tenant: u64| (0..1_000).filter(|&at| cap.admits(tenant, 400.0, 1_000_000 + at)).count();
    assert_eq!(admitted(7), 100);
    assert_eq!(admitted(8), 100);
}

#[test]
fn a_crowd_of_tenants_never_exceeds_a_cap_nor_grows_the_table() {
    let cap = TenantCap::new(0.1, 8);
    let mut admitted = std::collections::BTreeMap::new();
    for at in 0..20_000_u64 {
        let tenant = 1 + at % 100;
        if cap.admits(tenant, 1_000.0, 1_000_000 + at) {
            *admitted.entry(tenant).or_insert(0) += 1;
        }
    }
    assert!(admitted.values().all(|&count| count <= 100), "{admitted:?}");
    assert_eq!(cap.places.len(), 8);
}

#[test]
fn an_unknown_capacity_caps_nobody() {
    let cap = TenantCap::new(0.1, 8);
    assert!((0..1_000).all(|at| cap.admits(1, 0.0, at)));
    assert!((0..1_000).all(|at| cap.admits(2, f64::NAN, at)));
}

#[test]
fn a_place_is_given_to_another_once_its_tenant_is_gone() {
    let cap = TenantCap::new(0.5, 8);
    for tenant in 1..=8 {
        cap.admits(tenant, 10.0, 0);
    }
    let later_us = 3_600_000_000;
    let taken: Vec<u64> = cap.places.iter().map(|place| place.tenant.load(Relaxed)).collect();
    assert!(taken.iter().all(|&tenant| tenant != 0), "{taken:?}");
    cap.admits(99, 10.0, later_us);
    assert!(cap.places.iter().any(|place| place.tenant.load(Relaxed) == 99));
}
