//! What `/proc` says of a process. Deliberately absent: signals, and walking trees of processes.

use std::fs;
use std::io;
use std::path::Path;

/// What `/proc/<pid>/stat` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// `R`, `S`, `Z`, …
    pub state: char,
    /// Own CPU time, user and system, in ticks.
    pub cpu_ticks: u64,
    /// CPU time of children it has waited for, in ticks.
    pub waited_cpu_ticks: u64,
    /// Start, in ticks after boot.
    pub start_ticks: u64,
    /// Resident memory, in pages.
    pub resident_pages: u64,
}

/// The id of this boot of the machine.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Reads `/proc/<pid>/stat`; `None` when there is no such process.
pub fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(text: &str) -> Option<Stat> {
    // The name in parentheses may hold anything, spaces and parentheses too: count from its end.
    let fields: Vec<&str> = text.get(text.rfind(')')? + 1..)?.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index - 3)?.parse::<u64>().ok();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        cpu_ticks: number(14)? + number(15)?,
        waited_cpu_ticks: number(16)? + number(17)?,
        start_ticks: number(22)?,
        resident_pages: number(24)?,
    })
}

/// The inode of a cgroup folder: it changes when the cgroup is removed and made again.
pub fn inode(folder: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(folder).ok().map(|meta| meta.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_survives_hostile_names() {
        let text = "42 (a) b) (c) S 1 42 42 0 -1 4194560 100 0 0 0 7 8 9 10 20 0 1 0 5555 1000 77 18446744073709551615";
        let stat = parse_stat(text).expect("well formed");
        assert_eq!(
            stat,
            Stat { state: 'S', cpu_ticks: 15, waited_cpu_ticks: 19, start_ticks: 5555, resident_pages: 77 }
        );
        assert_eq!(parse_stat("42 (a"), None);
    }
}
