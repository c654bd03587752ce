//! `logs`: what an instance wrote.

mod lines;

use super::connect::Connect;
use super::failure::Failure;
use super::output::{Format, Output, print, yaml};
use api::client::{Client, Error};
use lines::Lines;
use serde::Serialize;
use std::io::{ErrorKind, Write};

/// Instances named where a service's name stood in the place of one.
const NAMED_MAX: usize = 6;

/// Show what an instance wrote
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  springtide logs lottery-3 --tail 20\n  springtide logs -f lottery-3\n  springtide logs lottery-3 -o json    # an object a line: {\"instance\", \"line\"}"
)]
pub struct Args {
    /// The instance
    instance: String,
    /// Go on as it writes
    #[arg(short, long)]
    follow: bool,
    /// Lines from the end to begin with
    #[arg(long, default_value_t = 200)]
    tail: u32,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connect: Connect,
}

/// `springtide logs`.
pub async fn logs(args: Args) -> Result<(), Failure> {
    let client = args.connect.client()?;
    let mut stream = match client.logs(&args.instance, args.tail, args.follow).await {
        Ok(stream) => stream,
        Err(refused) => return Err(hint(&client, &args.instance, refused).await),
    };
    let mut out = Form { instance: &args.instance, format: args.output.format, lines: Lines::default() };
    loop {
        match stream.chunk().await {
            Ok(Some(bytes)) => out.more(&bytes)?,
            Ok(None) => return out.end(),
            Err(error) => {
                out.end()?;
                if args.output.format == Format::Table {
                    print("\n")?;
                }
                return Err(Failure::Refused(format!("the log of {} broke off: {error}", args.instance)));
            }
        }
    }
}

/// A line, for programs.
#[derive(Serialize)]
struct Line<'a> {
    instance: &'a str,
    line: String,
}

/// The form in which a log is printed: the bytes themselves, or an object for each line.
struct Form<'a> {
    instance: &'a str,
    format: Format,
    lines: Lines,
}

impl Form<'_> {
    fn more(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if self.format == Format::Table {
            return write(bytes);
        }
        let lines = self.lines.more(bytes);
        lines.into_iter().try_for_each(|line| self.print(line))
    }

    /// What the instance wrote last may lack its line's end.
    fn end(&mut self) -> Result<(), Failure> {
        self.lines.rest().map_or(Ok(()), |line| self.print(line))
    }

    fn print(&self, line: String) -> Result<(), Failure> {
        let line = Line { instance: self.instance, line };
        let text = match self.format {
            Format::Yaml => format!("---\n{}", yaml(&line)?),
            // One line each, so that a program can read them as they come.
            _ => serde_json::to_string(&line).expect("two texts are plain data") + "\n",
        };
        print(&text)
    }
}

/// A service's name in the place of an instance's is answered with its instances.
async fn hint(client: &Client, name: &str, refused: Error) -> Failure {
    let instances = match &refused {
        Error::Refused(..) => client.instances(Some(name), None).await.unwrap_or_default(),
        _ => Vec::new(),
    };
    if instances.is_empty() {
        return refused.into();
    }
    let names: Vec<&str> = instances.iter().take(NAMED_MAX).map(|one| one.instance.as_str()).collect();
    let more = if instances.len() > NAMED_MAX { ", …" } else { "" };
    Failure::Refused(format!("{name} is a service; name one of its instances: {}{more}", names.join(", ")))
}

/// Logs are bytes, not always text.
fn write(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Failure::OutputClosed),
        Err(error) => Err(Failure::Local(format!("cannot write to stdout: {error}"))),
    }
}
