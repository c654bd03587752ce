//! The sample business: every service of it in one program, `red-packet ROLE`, one thread each, as a user would write it.
//!
//! It knows springtide by its environment variables; `lottery` and `pay` also use its SDK, the others go without. TLS, real lotteries and real money are deliberately absent.

mod call;
mod config;
mod records;
mod roles;
mod server;
mod work;

use anyhow::{Context, Result};
use config::{Config, Place, Role};
use std::process::ExitCode;

/// Polls of tasks between two looks at the sockets.
const EVENT_INTERVAL: u32 = 4;

const USAGE: &str = "usage: red-packet sso|lottery|gift|message|pay|records|bank|probe

Listens on $SPRINGTIDE_ADDRESS:$PORT_HTTP, reads $SPRINGTIDE_CONFIG/ROLE.json, calls others through $SPRINGTIDE_MESH;
records keeps its file in $SPRINGTIDE_DATA. The bank alone also runs without any of them, on 127.0.0.1:9100.
GET /healthz says that it is well, GET /stats what it has done.";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    match (args.next().as_deref().map(str::parse::<Role>), args.next()) {
        (Some(Ok(role)), None) => match run(role) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("red-packet {role}: {error:#}");
                ExitCode::FAILURE
            }
        },
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn run(role: Role) -> Result<()> {
    let place = Place::from_environment(role)?;
    let config = Config::load(role)?;
    let runtime =
        // Work burns CPU in place: looking for arrivals often lets them queue where the protection sees them.
        tokio::runtime::Builder::new_current_thread().event_interval(EVENT_INTERVAL).enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(async {
        let address = place.address;
        let app = roles::App::new(role, place, config)?;
        server::serve(app, address).await
    })
}
