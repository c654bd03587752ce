//! What rules and receivers may say; what a rule's expression means is checked by the server.

use super::World;
use crate::alert::{ALERT_RULES_MAX, RECEIVERS_MAX};
use crate::fault::Fault;
use crate::resource::{Kind, Resource};

/// Every rule and receiver.
pub(super) fn check(world: &World<'_>) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (key, resource) in &world.resources {
        let Resource::Receiver(receiver) = resource else { continue };
        let command = receiver.command.first();
        let (field, message) = match (&receiver.webhook, command) {
            (Some(_), Some(_)) => {
                ("command", "stands beside `webhook`; keep one, and declare a second receiver for the other")
            }
            (None, None) => {
                ("webhook", "neither `webhook` (a URL) nor `command` (a program and its arguments) is given; give one")
            }
            (None, Some(program)) if program.is_empty() => ("command", "its first item is empty; it names the program"),
            _ => continue,
        };
        faults.push(world.fault(key, field, message));
    }
    for (kind, max) in [(Kind::AlertRule, ALERT_RULES_MAX), (Kind::Receiver, RECEIVERS_MAX)] {
        let mut all = world.resources.keys().filter(|key| key.kind == kind);
        if let Some(key) = all.nth(max) {
            faults.push(world.fault(key, "name", format!("more than {max} of kind {}; delete some", kind.as_str())));
        }
    }
    faults
}
