//! user-mode-linux, a kernel as a process: the distribution's, or a newer one where the processor asks for it.
//!
//! A processor with AMX has more state than 6.1 and 6.12 carry for their processes: they start none there. 7.2, of Debian's
//! testing release, does. It wants a newer C library than this system's may be, so that lies beside it, in
//! `target/tools`, and nothing of it is installed.

use crate::run::run;
use crate::tools;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The release with a kernel that knows AMX.
const NEWER_RELEASE: &str = "forky";
/// Where it is put, below the workspace.
const NEWER_FOLDER: &str = "target/tools/uml";
/// Debian's keys: the packages are checked as if they were installed.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Where a program names its loader.
const LOADER: &[u8] = b"/lib64/ld-linux-x86-64.so.2\0";
/// The C library's folder in its package.
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// A user-mode-linux that runs here.
pub enum Uml {
    /// The distribution's.
    Installed,
    /// Unpacked in this folder, with its C library.
    Unpacked(PathBuf),
}

impl Uml {
    /// Installs or unpacks it when it is not here yet.
    pub fn install() -> Result<Self> {
        let processor = fs::read_to_string("/proc/cpuinfo").context("cannot read /proc/cpuinfo")?;
        if !has_amx(&processor) {
            tools::user_mode_linux()?;
            return Ok(Self::Installed);
        }
        let folder = crate::run::workspace_root().join(NEWER_FOLDER);
        if !folder.join("usr/bin/linux.uml").exists() {
            unpack(&folder).with_context(|| format!("no user-mode-linux of Debian {NEWER_RELEASE} to be had"))?;
        }
        Ok(Self::Unpacked(folder))
    }

    /// A command that boots it and ends it after so long. `folder` is for its files, and has a short path.
    pub fn command(&self, folder: &Path, seconds_max: u32) -> Result<Command> {
        let mut command = Command::new("timeout");
        command.arg(seconds_max.to_string()).stdin(Stdio::null());
        match self {
            Self::Installed => command.arg("linux.uml"),
            Self::Unpacked(from) => {
                // The kernel reads where its memory ends from the process's own: it must be the program that is executed, not
                // its loader, so the loader's name in it is changed.
                let (loader, program) = (folder.join("ld.so"), folder.join("linux.uml"));
                symlink(from.join(LIBRARIES).join("ld-linux-x86-64.so.2"), &loader)?;
                fs::write(&program, with_loader(fs::read(from.join("usr/bin/linux.uml"))?, &loader)?)?;
                fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
                let libraries = format!("LD_LIBRARY_PATH={}", from.join(LIBRARIES).display());
                command.arg("env").arg(libraries).arg(program)
            }
        };
        Ok(command)
    }
}

fn has_amx(cpuinfo: &str) -> bool {
    let flags = cpuinfo.lines().find_map(|line| line.strip_prefix("flags"));
    flags.is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "amx_tile"))
}

/// A program whose loader is another one.
fn with_loader(mut program: Vec<u8>, loader: &Path) -> Result<Vec<u8>> {
    let name = loader.as_os_str().as_encoded_bytes();
    ensure!(name.len() < LOADER.len(), "{}: a loader's path has {} bytes at most", loader.display(), LOADER.len() - 1);
    let mut places = program.windows(LOADER.len()).enumerate().filter(|(_, bytes)| *bytes == LOADER);
    let at = places.next().map(|(at, _)| at).context("linux.uml names no loader")?;
    ensure!(places.next().is_none(), "linux.uml names its loader twice");
    program[at..at + LOADER.len()].fill(0);
    program[at..at + name.len()].copy_from_slice(name);
    Ok(program)
}

/// Has apt fetch the packages with lists of its own, and unpacks them.
fn unpack(folder: &Path) -> Result<()> {
    println!("fetching user-mode-linux of Debian {NEWER_RELEASE}, since this processor has AMX");
    let apt = folder.join("apt");
    for part in ["lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(apt.join(part))?;
    }
    let source = format!("deb [signed-by={KEYRING}] http://deb.debian.org/debian {NEWER_RELEASE} main\n");
    fs::write(apt.join("sources.list"), source)?;
    let options = [
        format!("Dir::Etc::SourceList={}", apt.join("sources.list").display()),
        "Dir::Etc::SourceParts=-".to_owned(),
        format!("Dir::State::Lists={}", apt.join("lists").display()),
        format!("Dir::Cache={}", apt.join("cache").display()),
        // Its own user could not write below a home folder.
        "APT::Sandbox::User=root".to_owned(),
        "Acquire::Retries=5".to_owned(),
    ];
    let apt_get = |words: &[&str]| {
        let mut command = Command::new("apt-get");
        for option in &options {
            command.args(["-o", option]);
        }
        run(command.args(words).current_dir(&apt).stdout(Stdio::null()))
    };
    apt_get(&["-qq", "update"])?;
    apt_get(&["-qq", "download", "user-mode-linux", "libc6"])?;
    let packages = fs::read_dir(&apt)?.collect::<std::io::Result<Vec<_>>>()?;
    // The program comes last: where it is, all is.
    let mut packages: Vec<PathBuf> = packages.iter().map(fs::DirEntry::path).collect();
    packages.sort();
    for package in packages.iter().filter(|path| path.extension().is_some_and(|end| end == "deb")) {
        run(Command::new("dpkg-deb").arg("-x").arg(package).arg(folder))?;
    }
    Ok(fs::remove_dir_all(&apt)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_with_amx_is_told_by_its_flags() {
        assert!(has_amx("model name\t: x\nflags\t\t: fpu sse amx_tile amx_int8\n"));
        assert!(!has_amx("model name\t: amx_tile\nflags\t\t: fpu sse\n"));
        assert!(!has_amx(""));
    }

    #[test]
    fn the_loader_is_named_in_place() {
        let program = [b"before".as_slice(), LOADER, b"after"].concat();
        let changed = with_loader(program.clone(), Path::new("/tmp/x/ld.so")).expect("it is short enough");
        assert_eq!(changed.len(), program.len());
        assert!(changed.windows(14).any(|bytes| bytes == b"/tmp/x/ld.so\0\0"));
        assert!(changed.ends_with(b"after"));
        assert!(with_loader(program, Path::new("/a/path/that/is/much/too/long/ld.so")).is_err());
        assert!(with_loader(b"nothing".to_vec(), Path::new("/ld.so")).is_err());
        assert!(with_loader([LOADER, LOADER].concat(), Path::new("/ld.so")).is_err());
    }
}
