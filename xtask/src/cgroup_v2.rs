//! The agent's whole test suite on a true cgroup v2 hierarchy: inside user-mode-linux, which boots this machine's own
//! files in two seconds.
//!
//! The root is the host's, read-only; what tests write goes to memory of the guest. Deliberately absent: other suites,
//! and a virtual machine with PSI and several cores.

use crate::run::cargo;
use crate::tools;
use anyhow::{Context, Result, bail, ensure};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Memory of the guest, in MiB: what the tests write lives in it.
const GUEST_MEMORY_MIB: u32 = 3_072;
/// Longest life of the guest, in seconds.
const GUEST_SECONDS_MAX: u32 = 600;
/// What a test binary's status is told by.
const VERDICT: &str = "cgroup-v2-verdict";
/// What the guest's kernel says before it gives up on a processor with AMX: the host's kernel takes a thread's extended state
/// whole or not at all, and user-mode-linux's buffer for it is smaller than such a processor's.
const STATE_TOO_LARGE: &str = "ptrace set fp regs failed, errno = 14";

/// Runs it all; a failed test fails the task.
pub fn main(filter: &[String]) -> Result<()> {
    tools::user_mode_linux()?;
    let binaries = build()?;
    let folder = Folder::new()?;
    let init = folder.0.join("init");
    std::fs::write(&init, script(&binaries, filter)).context("cannot write the guest's init")?;
    std::fs::set_permissions(&init, std::fs::Permissions::from_mode(0o755))?;
    println!("$ linux.uml: the agent's tests on cgroup v2");
    let seen = watch(boot(&folder.0, &init)?)?;
    if seen.cannot_run_here() {
        println!(
            "NOT RUN on cgroup v2: this processor has more state (AMX) than user-mode-linux can carry, so no process starts in it. \
             The agent's tests on a folder tree of cgroup v2 run with the others; for the true one take another machine."
        );
        return Ok(());
    }
    ensure!(seen.passed == binaries.len(), "{} of {} test binaries passed on cgroup v2", seen.passed, binaries.len());
    println!("cgroup v2: {} test binaries passed", seen.passed);
    Ok(())
}

/// What came out of the guest.
#[derive(Debug, Default)]
struct Seen {
    /// Test binaries that passed.
    passed: usize,
    /// Test binaries that ended.
    ended: usize,
    /// Its kernel could not set a thread's state.
    state_too_large: bool,
}

impl Seen {
    fn line(&mut self, line: &str) {
        match line.strip_prefix(VERDICT) {
            Some(" 0") => (self.passed, self.ended) = (self.passed + 1, self.ended + 1),
            Some(_) => self.ended += 1,
            None => self.state_too_large |= line.contains(STATE_TOO_LARGE),
        }
    }

    /// The guest came to no test, for a reason that lies in this machine.
    fn cannot_run_here(&self) -> bool {
        self.ended == 0 && self.state_too_large
    }
}

/// A folder of our own that goes with us.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        // Short: the guest's control socket lives below it, and such paths end at 108 bytes.
        let path = std::env::temp_dir().join(format!("springtide-v2-{}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left in a temporary folder does no harm.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Builds the agent's tests; returns their executables.
fn build() -> Result<Vec<PathBuf>> {
    // Of the whole workspace, as the test runner will want it: the agent alone would be built with other features, anew.
    let mut command = cargo(&["test", "--workspace", "--no-run", "--quiet", "--message-format=json"]);
    let output = command.stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    ensure!(output.status.success(), "the agent's tests do not build");
    let text = String::from_utf8(output.stdout).context("cargo's messages are text")?;
    let binaries: Vec<PathBuf> = text.lines().filter_map(test_executable).collect();
    ensure!(!binaries.is_empty(), "cargo named no test of the agent");
    Ok(binaries)
}

/// The executable of a test's build message. Paths with quotes are not expected in a target folder.
fn test_executable(message: &str) -> Option<PathBuf> {
    let (profile, _) = message.split_once(r#""profile":{"#)?.1.split_once('}')?;
    if !profile.contains(r#""test":true"#) || !message.contains("/crates/agent#") {
        return None;
    }
    let (_, rest) = message.split_once(r#""executable":""#)?;
    rest.split('"').next().map(PathBuf::from)
}

/// What the guest runs as its first process.
fn script(binaries: &[PathBuf], filter: &[String]) -> String {
    let filter: Vec<String> = filter.iter().map(|word| format!("'{}'", word.replace('\'', ""))).collect();
    let mut lines = vec![
        "#!/bin/sh".to_owned(),
        "mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t cgroup2 none /sys/fs/cgroup".to_owned(),
        // Not over /tmp: this checkout may lie there.
        "mount -t tmpfs run /run; mkdir -m 1777 /run/tmp; ip link set lo up".to_owned(),
        "export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/run TMPDIR=/run/tmp".to_owned(),
    ];
    for binary in binaries {
        let package = "crates/agent";
        lines.push(format!("cd {}", crate::run::workspace_root().join(package).display()));
        // One at a time: the guest has one slow core, and the tests' waits are bounded.
        lines.push(format!("{} --test-threads=1 --color=never {}", binary.display(), filter.join(" ")));
        lines.push(format!("echo {VERDICT} $?"));
    }
    lines.push("poweroff -f".to_owned());
    lines.join("\n") + "\n"
}

fn boot(folder: &Path, init: &Path) -> Result<Child> {
    let mut command = Command::new("timeout");
    command.arg(GUEST_SECONDS_MAX.to_string()).arg("linux.uml");
    command.args([&format!("mem={GUEST_MEMORY_MIB}M"), "rootfstype=hostfs", "rootflags=/", "ro", "quiet"]);
    command.arg(format!("init={}", init.display())).args(["con=null", "con0=null,fd:1"]);
    command.arg(format!("uml_dir={}", folder.display())).arg("umid=guest").env("TMPDIR", folder);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    command.spawn().context("cannot start linux.uml")
}

/// Passes the guest's words on.
fn watch(mut guest: Child) -> Result<Seen> {
    let words = BufReader::new(guest.stdout.take().context("the guest's output is piped")?);
    let mut seen = Seen::default();
    for line in words.split(b'\n') {
        let line = line.context("cannot read the guest's output")?;
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end();
        seen.line(line);
        if !line.starts_with(VERDICT) {
            writeln!(std::io::stdout(), "  v2| {line}")?;
        }
    }
    let status = guest.wait().context("cannot wait for the guest")?;
    if status.code() == Some(124) {
        bail!("the guest was ended after {GUEST_SECONDS_MAX} s");
    }
    Ok(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(lines: &[&str]) -> Seen {
        let mut seen = Seen::default();
        lines.iter().for_each(|line| seen.line(line));
        seen
    }

    #[test]
    fn only_a_guest_that_came_to_no_test_for_want_of_state_is_excused() {
        let said = "userspace - ptrace set fp regs failed, errno = 14";
        assert!(seen(&[said, "Kernel panic - not syncing: Attempted to kill init!"]).cannot_run_here());
        assert!(!seen(&[said, "cgroup-v2-verdict 101"]).cannot_run_here(), "a test failed");
        assert!(!seen(&["Kernel panic - not syncing: no init found"]).cannot_run_here(), "another fault");
        assert_eq!(seen(&["cgroup-v2-verdict 0", "cgroup-v2-verdict 1"]).passed, 1);
    }
}
