//! `cargo xtask tidy`: the house rules that no compiler checks.
//!
//! Each rule is a function from the text of a file (or manifest) to complaints, tested on small texts.

mod arrows;
mod source;

use anyhow::{Result, bail};
use std::path::{Path, PathBuf};

/// A broken rule.
pub struct Complaint {
    /// `file:line`, or a file.
    pub at: String,
    /// What is wrong and what would be right.
    pub what: String,
}

/// Checks the whole workspace; prints every complaint; fails when there is one.
pub fn main() -> Result<()> {
    let mut complaints = arrows::check(Path::new("crates"))?;
    let mut files = Vec::new();
    for folder in ["crates", "examples", "bench", "xtask"] {
        rust_files(Path::new(folder), &mut files)?;
    }
    files.sort();
    for file in &files {
        complaints.extend(source::check(file, &std::fs::read_to_string(file)?));
    }
    for complaint in &complaints {
        println!("{}: {}", complaint.at, complaint.what);
    }
    if !complaints.is_empty() {
        bail!("tidy: {} complaints in {} files", complaints.len(), files.len());
    }
    println!("tidy: {} files keep the house rules", files.len());
    Ok(())
}

fn rust_files(folder: &Path, into: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            rust_files(&path, into)?;
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            into.push(path);
        }
    }
    Ok(())
}
