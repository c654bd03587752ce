//! The agent alone, for hosts that need nothing else of Springtide: `springtide-agent agent …` and `… shim FOLDER`.
//!
//! Deliberately absent: everything the `springtide` program has beside it.

use agent::{Config, Isolation};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "usage:
  springtide-agent agent --host NAME --data FOLDER --server URL [--token-file FILE]
                         [--isolation auto|none] [--cgroup-root springtide/NAME] [--user UID:GID]
  springtide-agent stop-all (the same options; stops every instance of a host whose agent does not run)
  springtide-agent shim INSTANCE_FOLDER (the agent runs this)

The token of the fleet listener is read from FILE, or from the variable SPRINGTIDE_TOKEN.";

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let command = args.next().unwrap_or_default();
    match command.to_str() {
        // First of all and before any runtime: a shim stays small.
        Some("shim") => shim::main(args),
        Some("agent") => run(args, |config| Box::pin(agent::run(config))),
        Some("stop-all") => run(args, |config| Box::pin(agent::stop_all(config))),
        Some("--help" | "-h") => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

type Outcome = std::pin::Pin<Box<dyn Future<Output = Result<(), agent::Error>>>>;

fn run(args: impl Iterator<Item = OsString>, entry: impl FnOnce(Config) -> Outcome) -> ExitCode {
    let config = match parse(args) {
        Ok(config) => config,
        Err(message) => {
            eprintln!("{message}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(tracing::Level::INFO).init();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(entry(config)).map_err(|error| error.to_string()),
        Err(error) => Err(format!("cannot start the runtime: {error}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("springtide-agent: {message}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut args: impl Iterator<Item = OsString>) -> Result<Config, String> {
    let (mut host, mut data, mut server, mut token_file) = (None, None, None, None);
    let (mut isolation, mut cgroup_root, mut user) = (Isolation::Auto, None, None);
    while let Some(option) = args.next() {
        let option = option.to_string_lossy().into_owned();
        let value = args.next().ok_or_else(|| format!("{option} needs a value"))?;
        let text = value.to_string_lossy().into_owned();
        match option.as_str() {
            "--host" => host = Some(text),
            "--data" => data = Some(PathBuf::from(value)),
            "--server" => server = Some(text),
            "--token-file" => token_file = Some(PathBuf::from(value)),
            "--cgroup-root" => cgroup_root = Some(text),
            "--isolation" => {
                isolation = match text.as_str() {
                    "auto" => Isolation::Auto,
                    "none" => Isolation::None,
                    _ => return Err(format!("--isolation {text} is not auto or none")),
                }
            }
            "--user" => user = Some(parse_user(&text).ok_or_else(|| format!("--user {text} is not UID:GID"))?),
            _ => return Err(format!("{option} is not an option")),
        }
    }
    let token = match token_file {
        Some(path) => {
            std::fs::read_to_string(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))
        }
        None => std::env::var("SPRINGTIDE_TOKEN").map_err(|_| "no token: give --token-file or SPRINGTIDE_TOKEN".into()),
    }?;
    let host = host.ok_or("--host is missing")?;
    let program = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    Ok(Config {
        cgroup_root: cgroup_root.unwrap_or_else(|| format!("springtide/{host}")),
        host,
        data: data.ok_or("--data is missing")?,
        server: server.ok_or("--server is missing")?,
        token: token.trim().to_owned(),
        isolation,
        shim: vec![program.into(), "shim".into()],
        user,
    })
}

fn parse_user(text: &str) -> Option<(u32, u32)> {
    let (uid, gid) = text.split_once(':')?;
    Some((uid.parse().ok()?, gid.parse().ok()?))
}
