//! The health report of an operation: one self-contained page that a person wants to read.

use crate::control_loop::world::World;
use model::{Operation, UnixMs};

/// What a page shows.
pub struct Page {
    operation: Operation,
    written_at: UnixMs,
}

/// Gathers what the page shows.
pub fn gather(_world: &World, operation: &Operation, now: UnixMs) -> Page {
    Page { operation: operation.clone(), written_at: now }
}

/// Draws the page.
pub fn html(page: &Page) -> String {
    format!("<!doctype html><title>{}</title>{}", page.operation.id, page.written_at)
}
