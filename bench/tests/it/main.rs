//! The whole system, as a user meets it: `springtide dev`, the command line, real traffic, real deaths.

mod cli_json;
mod docs;
mod faults;
mod hello;
mod incidents;
mod life;
mod lost;
mod probe;
mod shares;
mod stress_deaths;
mod war_room;
