//! Bytes in, whole lines out. Absent: what is done with them.

/// Longest line held back for its end, in bytes; a longer one is given in pieces.
const LINE_BYTES_MAX: usize = 1 << 20;

/// Cuts a stream of bytes into lines.
#[derive(Debug, Default)]
pub struct Lines {
    held: Vec<u8>,
}

impl Lines {
    /// The lines that end within `bytes`, without their ends; what is not UTF-8 is replaced (U+FFFD).
    pub fn more(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.held.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.held.len() >= LINE_BYTES_MAX {
                lines.extend(self.rest());
            }
        }
        lines
    }

    /// What has no end yet.
    pub fn rest(&mut self) -> Option<String> {
        if self.held.is_empty() {
            return None;
        }
        let held = std::mem::take(&mut self.held);
        let text = String::from_utf8_lossy(&held);
        let line = text.strip_suffix('\n').unwrap_or(&text);
        Some(line.strip_suffix('\r').unwrap_or(line).to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_however_the_bytes_are_cut() {
        let text = "one\n\ntwo \u{7ea2}\u{5305}\r\nthree".as_bytes();
        for cut in 0..=text.len() {
            let mut lines = Lines::default();
            let mut found = lines.more(&text[..cut]);
            found.extend(lines.more(&text[cut..]));
            found.extend(lines.rest());
            assert_eq!(found, ["one", "", "two \u{7ea2}\u{5305}", "three"], "cut at {cut}");
            assert_eq!(lines.rest(), None);
        }
    }

    #[test]
    fn a_line_without_end_is_given_in_pieces() {
        let mut lines = Lines::default();
        let long = vec![b'x'; LINE_BYTES_MAX + 10];
        let given: usize = lines.more(&long).iter().map(String::len).sum();
        assert_eq!(given + lines.rest().map_or(0, |rest| rest.len()), long.len());
        assert_eq!(lines.more(b"\xff\n"), ["\u{fffd}"]);
    }
}
