//! What a scraper would read: checked by a strict parser of the Prometheus text format.

mod exposition;
mod kill;
mod parser;
