//! The agent's whole test suite on a true cgroup v2 hierarchy: inside user-mode-linux, which boots this machine's own
//! files in two seconds.
//!
//! The root is the host's, read-only; what tests write goes to memory of the guest. Deliberately absent: other suites,
//! and a virtual machine with PSI and several cores.

use crate::run::cargo;
use crate::uml::Uml;
use anyhow::{Context, Result, bail, ensure};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

/// Memory of the guest, in MiB: what the tests write lives in it.
const GUEST_MEMORY_MIB: u32 = 3_072;
/// Longest life of the guest, in seconds.
const GUEST_SECONDS_MAX: u32 = 600;
/// What a test binary's status is told by.
const VERDICT: &str = "cgroup-v2-verdict";

/// Runs it all; a failed test fails the task.
pub fn main(filter: &[String]) -> Result<()> {
    let uml = Uml::install()?;
    let binaries = build()?;
    let folder = Folder::new()?;
    let init = folder.0.join("init");
    std::fs::write(&init, script(&binaries, filter)).context("cannot write the guest's init")?;
    std::fs::set_permissions(&init, std::fs::Permissions::from_mode(0o755))?;
    println!("$ linux.uml: the agent's tests on cgroup v2");
    let passed = watch(boot(&uml, &folder.0, &init)?)?;
    ensure!(passed == binaries.len(), "{passed} of {} test binaries passed on cgroup v2", binaries.len());
    println!("cgroup v2: {passed} test binaries passed");
    Ok(())
}

/// A folder of our own that goes with us.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        // Short: the guest's control socket lives below it, and such paths end at 108 bytes; its loader's even at 27.
        let path = std::env::temp_dir().join(format!("st-v2-{}", std::process::id()));
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

fn boot(uml: &Uml, folder: &Path, init: &Path) -> Result<Child> {
    let mut command = uml.command(folder, GUEST_SECONDS_MAX)?;
    command.args([&format!("mem={GUEST_MEMORY_MIB}M"), "rootfstype=hostfs", "rootflags=/", "ro", "quiet"]);
    command.arg(format!("init={}", init.display())).args(["con=null", "con0=null,fd:1"]);
    command.arg(format!("uml_dir={}", folder.display())).arg("umid=guest").env("TMPDIR", folder);
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    command.spawn().context("cannot start linux.uml")
}

/// Passes the guest's words on; gives how many test binaries passed.
fn watch(mut guest: Child) -> Result<usize> {
    let words = BufReader::new(guest.stdout.take().context("the guest's output is piped")?);
    let mut passed = 0;
    for line in words.split(b'\n') {
        let line = line.context("cannot read the guest's output")?;
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end();
        match line.strip_prefix(VERDICT) {
            Some(status) => passed += usize::from(status == " 0"),
            None => writeln!(std::io::stdout(), "  v2| {line}")?,
        }
    }
    let status = guest.wait().context("cannot wait for the guest")?;
    if status.code() == Some(124) {
        bail!("the guest was ended after {GUEST_SECONDS_MAX} s");
    }
    Ok(passed)
}
