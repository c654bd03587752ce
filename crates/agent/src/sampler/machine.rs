//! The whole machine, from `/proc` (proc(5), Documentation/admin-guide/iostats.rst) and the data folder's file system.
//!
//! Files stay open; names of devices are looked up once each. Deliberately absent: partitions, loop and RAM disks, device
//! mappings and virtual interfaces, which would count the same bytes twice.

use crate::held::{Buffer, Held, buffer, field, lines, number, pressure, words};
use crate::wire::{bytes, nested, some, uint};
use std::fs::{self, File};
use std::path::Path;

/// Length of a clock tick in `/proc` (USER_HZ is 100 on every Linux we run on).
pub const TICK_US: u64 = 10_000;
/// Disks told of one host, first come first.
pub const DISKS_MAX: usize = 16;
/// Interfaces told of one host, first come first.
pub const NICS_MAX: usize = 16;
/// Names of devices remembered; more of them are left out.
const NAMES_MAX: usize = 256;
/// A sector of `/proc/diskstats`, whatever the disk's own is.
const SECTOR_BYTES: u64 = 512;
/// The first line of `/proc/stat` fits in it.
const STAT_BYTES: usize = 256;

/// What is read each second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Golden {
    /// CPU busy, all cores.
    pub cpu_busy_us: u64,
    /// CPU that the hypervisor took.
    pub cpu_steal_us: u64,
    /// Cores.
    pub cores: u32,
    /// Memory that is not available.
    pub memory_used_bytes: u64,
    /// Memory.
    pub memory_total_bytes: u64,
    /// `some` and `full` of CPU, memory and I/O.
    pub pressure: [(Option<u64>, Option<u64>); 3],
}

/// The file system of the data folder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Space {
    /// Bytes.
    pub total_bytes: u64,
    /// Bytes left for users without privileges.
    pub free_bytes: u64,
    /// Inodes.
    pub inodes: u64,
    /// Inodes left.
    pub inodes_free: u64,
}

impl Space {
    /// What is left, from 0 to 1, of bytes or of inodes, whichever is less; 1 where the file system does not say.
    pub fn free_share(&self) -> f64 {
        let share = |free: u64, all: u64| if all == 0 { 1.0 } else { free as f64 / all as f64 };
        share(self.free_bytes, self.total_bytes).min(share(self.inodes_free, self.inodes))
    }
}

/// Names of devices, and whether they are hardware.
#[derive(Debug)]
struct Names {
    folder: &'static str,
    known: Vec<(Box<[u8]>, bool)>,
}

impl Names {
    fn is_hardware(&mut self, name: &[u8]) -> bool {
        if let Some((_, is)) = self.known.iter().find(|(known, _)| **known == *name) {
            return *is;
        }
        if self.known.len() == NAMES_MAX {
            return false;
        }
        let path = Path::new(self.folder).join(String::from_utf8_lossy(name).as_ref()).join("device");
        let is = path.exists();
        self.known.push((name.into(), is));
        is
    }
}

/// The open files.
#[derive(Debug)]
pub struct Machine {
    stat: Held,
    meminfo: Held,
    pressure: [Option<Held>; 3],
    disks: Option<(Held, Names)>,
    nics: Option<(Held, Names)>,
    data: Option<File>,
    cores: u32,
}

impl Machine {
    /// Opens them; `None` where `/proc` does not tell the least.
    pub fn open(data: Option<&Path>) -> Option<Self> {
        let pressure = |name: &str| Held::open(Path::new("/proc/pressure").join(name)).ok();
        let list = |path: &str, folder| Some((Held::open(path).ok()?, Names { folder, known: Vec::new() }));
        let stat = fs::read_to_string("/proc/stat").ok()?;
        let is_core = |line: &&str| line.starts_with("cpu") && !line.starts_with("cpu ");
        let machine = Self {
            stat: Held::open("/proc/stat").ok()?,
            meminfo: Held::open("/proc/meminfo").ok()?,
            pressure: [pressure("cpu"), pressure("memory"), pressure("io")],
            disks: list("/proc/diskstats", "/sys/block"),
            nics: list("/proc/net/dev", "/sys/class/net"),
            data: data.and_then(|path| File::open(path).ok()),
            cores: u32::try_from(stat.lines().filter(is_core).count()).ok()?,
        };
        machine.golden(&mut buffer()).is_some().then_some(machine)
    }

    /// What is read each second.
    pub fn golden(&self, buffer: &mut Buffer) -> Option<Golden> {
        let (cpu_busy_us, cpu_steal_us) = parse_stat(self.stat.read_head(buffer, STAT_BYTES).ok()?)?;
        let memory = self.meminfo.read(buffer).ok()?;
        let total = meminfo(memory, "MemTotal:")?;
        let available = meminfo(memory, "MemAvailable:")?;
        let mut golden = Golden {
            cpu_busy_us,
            cpu_steal_us,
            cores: self.cores,
            memory_used_bytes: total.saturating_sub(available),
            memory_total_bytes: total,
            pressure: Default::default(),
        };
        for (held, at) in self.pressure.iter().zip(&mut golden.pressure) {
            // Kernels booted with psi=0 have the files and refuse to read them.
            *at = held.as_ref().and_then(|held| held.read(buffer).ok()).map_or((None, None), pressure);
        }
        Some(golden)
    }

    /// How full the data folder's file system is.
    pub fn space(&self) -> Option<Space> {
        let stat = rustix::fs::fstatvfs(self.data.as_ref()?).ok()?;
        Some(Space {
            total_bytes: stat.f_blocks * stat.f_frsize,
            free_bytes: stat.f_bavail * stat.f_frsize,
            inodes: stat.f_files,
            inodes_free: stat.f_favail,
        })
    }

    /// Writes a `HostRest`.
    pub fn write_rest(&mut self, space: Option<Space>, buffer: &mut Buffer, out: &mut Vec<u8>) {
        if let Some((held, names)) = &mut self.disks
            && let Ok(text) = held.read_list(buffer)
        {
            let disks = lines(text).filter_map(Disk::parse).filter(|disk| names.is_hardware(disk.name));
            disks.take(DISKS_MAX).for_each(|disk| nested(out, 1, |out| disk.write(out)));
        }
        if let Some((held, names)) = &mut self.nics
            && let Ok(text) = held.read_list(buffer)
        {
            let nics = || lines(text).filter_map(Nic::parse).filter(|nic| nic.name != b"lo");
            let any = nics().any(|nic| names.is_hardware(nic.name));
            let chosen = nics().filter(|nic| !any || names.is_hardware(nic.name));
            chosen.take(NICS_MAX).for_each(|nic| nested(out, 2, |out| nic.write(out)));
        }
        if let Some(space) = space {
            uint(out, 3, space.total_bytes);
            uint(out, 4, space.free_bytes);
            uint(out, 5, space.inodes);
            uint(out, 6, space.inodes_free);
        }
    }
}

impl Golden {
    /// Writes the fields of a `HostSample` but for its rest.
    pub fn write(&self, out: &mut Vec<u8>) {
        uint(out, 1, self.cpu_busy_us);
        uint(out, 2, self.cpu_steal_us);
        uint(out, 3, self.cores.into());
        uint(out, 4, self.memory_used_bytes);
        uint(out, 5, self.memory_total_bytes);
        for (at, (of_some, of_full)) in (0..).zip(self.pressure) {
            some(out, 6 + at, of_some);
            some(out, 9 + at, of_full);
        }
    }
}

struct Disk<'a> {
    name: &'a [u8],
    /// From the fourth word of a line on: reads, merged, sectors, ms; the same of writes; under way, busy ms.
    of: [u64; 10],
}

impl<'a> Disk<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut words = words(line).skip(2);
        let name = words.next()?;
        let mut of = [0; 10];
        for at in &mut of {
            *at = number(words.next()?);
        }
        Some(Self { name, of })
    }

    fn write(&self, out: &mut Vec<u8>) {
        let [reads, _, sectors_read, _, writes, _, sectors_written, _, _, busy_ms] = self.of;
        bytes(out, 1, self.name);
        uint(out, 2, sectors_read * SECTOR_BYTES);
        uint(out, 3, sectors_written * SECTOR_BYTES);
        uint(out, 4, reads);
        uint(out, 5, writes);
        uint(out, 6, busy_ms);
    }
}

struct Nic<'a> {
    name: &'a [u8],
    /// Bytes, packets, errs, drop, fifo, frame, compressed, multicast received; the first four again, sent.
    of: [u64; 12],
}

impl<'a> Nic<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let at = line.iter().position(|byte| *byte == b':')?;
        let name = words(&line[..at]).next()?;
        let mut words = words(&line[at + 1..]);
        let mut of = [0; 12];
        for at in &mut of {
            *at = number(words.next()?);
        }
        Some(Self { name, of })
    }

    fn write(&self, out: &mut Vec<u8>) {
        bytes(out, 1, self.name);
        let [received @ .., b, p, e, d] = self.of;
        for (field, value) in (2..).zip(received[..4].iter().copied().chain([b, p, e, d])) {
            uint(out, field, value);
        }
    }
}

/// Cores, in thousandths, and memory of this machine, for the hello.
pub fn machine() -> (u32, u64) {
    let golden = Machine::open(None).and_then(|machine| machine.golden(&mut buffer()));
    golden.map_or((0, 0), |golden| (golden.cores * 1_000, golden.memory_total_bytes))
}

/// user, nice, system, idle, iowait, irq, softirq, steal; guests are within user.
fn parse_stat(text: &[u8]) -> Option<(u64, u64)> {
    let mut ticks = words(lines(text).next()?.strip_prefix(b"cpu ")?).map(number);
    let mut next = || ticks.next();
    let (user, nice, system) = (next()?, next()?, next()?);
    let (_idle, _iowait) = (next()?, next()?);
    let (irq, softirq, steal) = (next()?, next()?, next()?);
    Some(((user + nice + system + irq + softirq) * TICK_US, steal * TICK_US))
}

fn meminfo(text: &[u8], name: &str) -> Option<u64> {
    field(text, name).map(|kib| kib * 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::fleet::HostRest;
    use prost::Message;

    #[test]
    fn the_machine_is_read() {
        let dir = tempfile::tempdir().expect("temp");
        let mut at = Machine::open(Some(dir.path())).expect("this is Linux");
        let mut buffer = buffer();
        let golden = at.golden(&mut buffer).expect("this is Linux");
        assert!(golden.cores > 0 && golden.cpu_busy_us > 0);
        assert!(golden.memory_used_bytes > 0 && golden.memory_used_bytes < golden.memory_total_bytes);
        assert_eq!(machine(), (golden.cores * 1_000, golden.memory_total_bytes));
        let space = at.space().expect("a folder of ours");
        assert!(
            space.total_bytes > 0 && space.free_bytes <= space.total_bytes && space.free_share() <= 1.0,
            "{space:?}"
        );
        let mut out = Vec::new();
        at.write_rest(Some(space), &mut buffer, &mut out);
        let rest = HostRest::decode(&out[..]).expect("a message");
        assert_eq!((rest.space_total_bytes, rest.space_free_bytes), (space.total_bytes, space.free_bytes));
        assert!(rest.nics.iter().all(|nic| nic.device != "lo") && rest.nics.len() <= NICS_MAX);
        assert!(rest.disks.iter().all(|disk| !disk.device.starts_with("loop")), "{rest:?}");
    }

    #[test]
    fn steal_and_idle_are_not_busy() {
        let text = b"cpu  1 2 3 1000 1000 4 5 7 0 0\ncpu0 1 2 3 4\n";
        assert_eq!(parse_stat(text), Some((15 * TICK_US, 7 * TICK_US)));
        assert_eq!(parse_stat(b"cpu  1 2"), None);
    }

    #[test]
    fn disks_and_interfaces_are_read_by_their_columns() {
        let line =
            b" 254       0 vda 5272 2775 1711522 5700 3815 49881 3275528 30531 0 3540 36594 4468 12 329424 362 38 1";
        let disk = Disk::parse(line).expect("a line of the kernel's");
        let mut out = Vec::new();
        disk.write(&mut out);
        let read = api::fleet::DiskSample::decode(&out[..]).expect("a message");
        let wanted = (1_711_522 * 512, 3_275_528 * 512, 5_272, 3_815, 3_540);
        assert_eq!((read.read_bytes, read.written_bytes, read.reads, read.writes, read.busy_ms), wanted);
        assert_eq!(read.device, "vda");
        let line = b"  eth0: 210401771   11504    1    2    0     0          0         0   886234    8718    3    4    0     0       0          0";
        let mut out = Vec::new();
        Nic::parse(line).expect("a line of the kernel's").write(&mut out);
        let read = api::fleet::NicSample::decode(&out[..]).expect("a message");
        assert_eq!((read.received_bytes, read.received_packets, read.received_errors), (210_401_771, 11_504, 1));
        assert_eq!((read.received_drops, read.sent_bytes, read.sent_packets), (2, 886_234, 8_718));
        assert_eq!((read.sent_errors, read.sent_drops, read.device.as_str()), (3, 4, "eth0"));
        assert!(Nic::parse(b"Inter-|   Receive").is_none() && Disk::parse(b"").is_none());
    }

    #[test]
    fn the_scarcer_of_bytes_and_inodes_counts() {
        let space = Space { total_bytes: 100, free_bytes: 50, inodes: 100, inodes_free: 1 };
        assert!((space.free_share() - 0.01).abs() < 1e-9);
        assert!((Space::default().free_share() - 1.0).abs() < 1e-9, "btrfs tells no inodes");
    }
}
