//! Curves, the stress controller, sizing and gray gates. Pure: samples and `now` in, decisions out.

pub mod stress;
