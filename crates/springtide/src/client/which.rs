//! Arguments of commands about one thing that has an id.

use super::connect::Connect;
use super::output::Output;

/// Which one, at which server, and in which form it is told.
#[derive(clap::Args)]
pub struct Which {
    /// Its id
    pub id: String,
    #[command(flatten)]
    pub output: Output,
    #[command(flatten)]
    pub connect: Connect,
}
