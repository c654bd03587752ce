//! Kernel files that stay open and are read again and again: one `pread` each, into a buffer that is lent.
//!
//! Nothing here allocates, so that what reads every second costs what the kernel's answer costs. Deliberately absent:
//! what the texts mean, but for the few shapes that most of them share.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Length of the buffer that is lent: enough for every file read each second. Longer lists are cut at a whole line.
pub const BUFFER_BYTES: usize = 16 << 10;
/// Reads of one file at most: lists come page by page.
const READS_MAX: usize = 16;

/// Where texts are read into.
pub type Buffer = [u8; BUFFER_BYTES];

/// A buffer, on the heap.
pub fn buffer() -> Box<Buffer> {
    Box::new([0; BUFFER_BYTES])
}

/// An open file of the kernel's.
#[derive(Debug)]
pub struct Held(File);

impl Held {
    /// Opens it.
    ///
    /// # Errors
    /// When it is not there.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        File::open(path).map(Self)
    }

    /// Reads a text that the kernel gives in one piece.
    ///
    /// # Errors
    /// When what it told of is gone.
    pub fn read<'b>(&self, buffer: &'b mut Buffer) -> io::Result<&'b [u8]> {
        let read = self.0.read_at(buffer, 0)?;
        Ok(&buffer[..read])
    }

    /// Reads only the beginning.
    ///
    /// # Errors
    /// When what it told of is gone.
    pub fn read_head<'b>(&self, buffer: &'b mut Buffer, bytes: usize) -> io::Result<&'b [u8]> {
        let read = self.0.read_at(&mut buffer[..bytes.min(BUFFER_BYTES)], 0)?;
        Ok(&buffer[..read])
    }

    /// Reads a list, which the kernel gives a page at a time; what does not fit is left out.
    ///
    /// # Errors
    /// When what it told of is gone.
    pub fn read_list<'b>(&self, buffer: &'b mut Buffer) -> io::Result<&'b [u8]> {
        let mut length = 0;
        for _ in 0..READS_MAX {
            let read = self.0.read_at(&mut buffer[length..], length as u64)?;
            length += read;
            if length == BUFFER_BYTES {
                break;
            }
            if read == 0 {
                return Ok(&buffer[..length]);
            }
        }
        let whole = buffer[..length].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        Ok(&buffer[..whole])
    }
}

/// The lines of a text.
pub fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

/// The words of a line.
pub fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty())
}

/// A number without a sign, up to the first other character; 0 where there is none.
pub fn number(text: &[u8]) -> u64 {
    let digits = text.iter().skip_while(|byte| **byte == b' ').take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |sum: u64, digit| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0')))
}

/// The number on the line that begins with `name` and a space.
pub fn field(text: &[u8], name: &str) -> Option<u64> {
    let rest = |line: &&[u8]| line.len() > name.len() && line.starts_with(name.as_bytes()) && line[name.len()] == b' ';
    lines(text).find(rest).map(|line| number(&line[name.len() + 1..]))
}

/// `some` and `full` totals, in microseconds (Documentation/accounting/psi.rst).
pub fn pressure(text: &[u8]) -> (Option<u64>, Option<u64>) {
    let total = |kind: &[u8]| {
        let line = lines(text).find(|line| line.starts_with(kind))?;
        let at = line.windows(6).position(|six| six == b"total=")?;
        Some(number(&line[at + 6..]))
    };
    (total(b"some "), total(b"full "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_shapes_are_read() {
        let text = b"usage_usec 77\nuser_usec 1\nnr_throttled 3\nnr_throttled_more 4\n";
        assert_eq!(
            (field(text, "usage_usec"), field(text, "nr_throttled"), field(text, "usec")),
            (Some(77), Some(3), None)
        );
        assert_eq!((number(b" 12kB"), number(b""), number(b"99999999999999999999999")), (12, 0, u64::MAX));
        let psi = b"some avg10=0.00 avg60=0.00 avg300=0.00 total=123\nfull avg10=0 total=9\n";
        assert_eq!(pressure(psi), (Some(123), Some(9)));
        assert_eq!(pressure(b""), (None, None));
        assert_eq!(words(b"  a  b\tc ").collect::<Vec<_>>(), [b"a", b"b", b"c"]);
    }

    #[test]
    fn lists_longer_than_the_buffer_end_with_a_whole_line() {
        let dir = tempfile::tempdir().expect("temp");
        let path = dir.path().join("list");
        std::fs::write(&path, "a line\n".repeat(BUFFER_BYTES)).expect("temp");
        let held = Held::open(&path).expect("just written");
        let mut buffer = buffer();
        let text = held.read_list(&mut buffer).expect("there");
        assert!(text.ends_with(b"a line\n") && text.len() > BUFFER_BYTES - 8);
        assert_eq!(held.read_head(&mut buffer, 3).expect("there"), b"a l");
    }
}
