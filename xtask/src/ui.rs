//! The war room's page: its packages, its tests, its build. The server embeds what lies in `ui/dist`.

use crate::run::{run, workspace_root};
use crate::tools;
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

/// Files beside `src` that the page is made of.
const SOURCES: [&str; 6] =
    ["index.html", "package.json", "package-lock.json", "pack.mjs", "tsconfig.json", "vite.config.ts"];

fn folder() -> PathBuf {
    workspace_root().join("ui")
}

fn npm(args: &[&str]) -> Command {
    let mut command = Command::new("npm");
    command.args(args).current_dir(folder());
    command
}

/// Builds the page unless it is newer than all that it is made of.
pub fn build() -> Result<()> {
    let ui = folder();
    let mut newest = newest_in(&ui.join("src"));
    newest = SOURCES.iter().filter_map(|name| changed(&ui.join(name))).chain(newest).max();
    if changed(&ui.join("dist/index.html.br")) > newest {
        return Ok(());
    }
    packages()?;
    run(&mut npm(&["run", "--silent", "build"]))
}

/// Runs the tests that need no browser.
pub fn test() -> Result<()> {
    packages()?;
    run(&mut npm(&["run", "--silent", "test"]))
}

/// Installs the page's packages as locked, unless they are there.
fn packages() -> Result<()> {
    tools::node()?;
    let ui = folder();
    if changed(&ui.join("node_modules/.package-lock.json")) > changed(&ui.join("package-lock.json")) {
        return Ok(());
    }
    println!("installing the war room's packages, as ui/package-lock.json has them");
    run(&mut npm(&["ci", "--silent", "--no-audit", "--no-fund", "--fetch-retries=5"]))
}

fn changed(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|found| found.modified()).ok()
}

fn newest_in(folder: &Path) -> Option<SystemTime> {
    let entries = std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    entries.filter_map(|path| if path.is_dir() { newest_in(&path) } else { changed(&path) }).max()
}
