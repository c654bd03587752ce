//! The journal of an operation over a large service.

use super::*;
use crate::open::new_operation;
use model::{Digest, InstanceId};

/// Bytes that a transaction of the store takes.
const TXN_BYTES_MAX: usize = 1_572_864;
/// Instances replaced in one batch.
const SIZE: u32 = 48;

fn planned(number: u32, batch: u32) -> PlannedInstance {
    PlannedInstance {
        instance: InstanceId::new(format!("lottery-of-the-night-{number}")).unwrap(),
        host: HostName::new(format!("shenzhen-1-rack-{}-host-{number}", number / 40)).unwrap(),
        datacenter: model::DatacenterName::new("shenzhen-1").unwrap(),
        batch,
    }
}

#[test]
fn the_journal_of_a_rollout_fits_a_transaction_however_large_the_service() {
    let digest = Digest::of(b"v2");
    let service = ServiceName::new("lottery-of-the-night").unwrap();
    let spec = OperationSpec::Rollout { service, package_digest: digest.clone(), config_digest: digest };
    let mut op = new_operation(1, spec, &journal::step_names(true, true), "test", 1);
    for batch in 0..400 {
        for n in 0..SIZE {
            op.adds.push(planned(batch * SIZE + n, batch));
            op.removes.push(planned(100_000 + batch * SIZE + n, batch));
        }
        let bytes = journal::json(&op).len();
        assert!(bytes < TXN_BYTES_MAX / 2, "{bytes} bytes in batch {batch}");
        let current = op.adds.iter().filter(|add| add.batch == batch).count();
        assert_eq!(current as u32, SIZE, "what a rollback needs is there");
        begin_batch(&mut op);
    }
}

#[test]
fn a_scale_keeps_all_that_it_added_since_a_rollback_takes_all_of_it_away() {
    let spec = OperationSpec::Scale { service: ServiceName::new("lottery").unwrap(), instances: Default::default() };
    let mut op = new_operation(1, spec, &journal::step_names(true, false), "test", 1);
    op.adds = (0..5_000).map(|n| planned(n, 0)).collect();
    begin_batch(&mut op);
    assert_eq!((op.adds.len(), op.batch), (5_000, 1));
}
