//! The agent against a real fleet listener, with real processes in real slices.

mod agent;
mod fleet;
mod life;
mod logs;
mod none;
mod policies;
mod refuse;
mod restart;
mod scrape;
