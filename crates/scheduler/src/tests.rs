//! The planner against its checker and against brute force; the checker against plans made wrong on purpose.

mod checker;
mod fleet;
mod planner;
mod properties;
