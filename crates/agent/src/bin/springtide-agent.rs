//! The agent alone: `springtide-agent agent …` and `… shim FOLDER`. `springtide agent` becomes it where it lies beside.
//!
//! Small in memory, since one runs on every host: no code of the other parts, one thread beside the sampler's, and the
//! system's allocator, told to give back. Deliberately absent: everything the `springtide` program has beside it.

use agent::{Config, Isolation};
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

/// How glibc is to allocate (mallopt(3)): one arena for all threads, and free memory goes back to the kernel.
const ALLOCATOR: [(&str, &str); 3] =
    [("MALLOC_ARENA_MAX", "1"), ("MALLOC_TRIM_THRESHOLD_", "131072"), ("MALLOC_MMAP_THRESHOLD_", "131072")];
/// Threads for what blocks: starts and stops of instances. More of them wait.
const BLOCKING_THREADS_MAX: usize = 16;
/// Stack of such a thread.
const STACK_BYTES: usize = 512 << 10;
/// Time after which such a thread ends when there is nothing to do.
const BLOCKING_IDLE: Duration = Duration::from_secs(1);

const USAGE: &str = "usage:
  springtide-agent agent --host NAME --data FOLDER --server URL [--token-file FILE]
                         [--isolation auto|none] [--cgroup-root springtide/NAME] [--user UID:GID]
                         [--shim FILE (the program under each instance; this one itself if not given)]
  springtide-agent stop-all (the same options; stops every instance of a host whose agent does not run)
  springtide-agent shim INSTANCE_FOLDER (the agent runs this)
  springtide-agent build (prints of which sources it is built)

The token of the fleet listener is read from FILE, or from the variable SPRINGTIDE_TOKEN.";

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let command = args.next().unwrap_or_default();
    match command.to_str() {
        // First of all and before any runtime: a shim stays small.
        Some("shim") => shim::main(args),
        Some("agent") => run(args, |config| Box::pin(agent::run(config))),
        Some("stop-all") => run(args, |config| Box::pin(agent::stop_all(config))),
        Some("build") => {
            println!("{}", agent::BUILD);
            ExitCode::SUCCESS
        }
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
    become_frugal();
    let filter = tracing_subscriber::EnvFilter::try_from_env("SPRINGTIDE_LOG").unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().max_blocking_threads(BLOCKING_THREADS_MAX).thread_keep_alive(BLOCKING_IDLE);
    let runtime = runtime.thread_stack_size(STACK_BYTES).build();
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

/// Starts this program anew with the allocator's settings, which are read from the environment at the start only. An
/// operator's own settings are kept.
fn become_frugal() {
    if std::env::var_os(ALLOCATOR[0].0).is_some() {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let error = Command::new(program).args(std::env::args_os().skip(1)).envs(ALLOCATOR).exec();
    eprintln!("springtide-agent: goes on with the allocator's usual settings: {error}");
}

fn parse(mut args: impl Iterator<Item = OsString>) -> Result<Config, String> {
    let (mut host, mut data, mut server, mut token_file) = (None, None, None, None);
    let (mut isolation, mut cgroup_root, mut user, mut shim) = (Isolation::Auto, None, None, None);
    while let Some(option) = args.next() {
        let option = option.to_string_lossy().into_owned();
        let value = args.next().ok_or_else(|| format!("{option} needs a value"))?;
        let text = value.to_string_lossy().into_owned();
        match option.as_str() {
            "--host" => host = Some(text),
            "--data" => data = Some(PathBuf::from(value)),
            "--server" => server = Some(text),
            "--token-file" => token_file = Some(PathBuf::from(value)),
            "--shim" => shim = Some(value),
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
    let shim = shim.map_or_else(|| vec![program.into(), "shim".into()], |given| vec![given]);
    Ok(Config {
        cgroup_root: cgroup_root.unwrap_or_else(|| format!("springtide/{host}")),
        host,
        data: data.ok_or("--data is missing")?,
        server: server.ok_or("--server is missing")?,
        token: token.trim().to_owned(),
        isolation,
        shim,
        user,
    })
}

fn parse_user(text: &str) -> Option<(u32, u32)> {
    let (uid, gid) = text.split_once(':')?;
    Some((uid.parse().ok()?, gid.parse().ok()?))
}
