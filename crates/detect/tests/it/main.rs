//! The detector as its user sees it: frames in, incidents out.

mod fleet;
mod incidents;
mod input;
mod state;
