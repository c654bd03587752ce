//! From YAML to a script, or to faults with their places.

use super::lines::Lines;
use super::{Script, check};

/// Largest script file, in bytes.
pub const FILE_BYTES_MAX: usize = 1 << 20;

/// What is wrong in a script, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The file, as the caller named it.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The field, such as `streams[0].load`; empty when the whole file is at fault.
    pub field: String,
    /// What was wrong, and what would be right.
    pub message: String,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: ", self.file, self.line)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

/// Reads a script and checks it.
///
/// # Errors
/// The first fault of its YAML or of a field's type, or all faults of what the fields say.
pub fn parse(file: &str, text: &str) -> Result<Script, Vec<Fault>> {
    let fault = |line, field, message| Fault { file: file.to_owned(), line, field, message };
    if text.len() > FILE_BYTES_MAX {
        let message = format!("the file has {} bytes; a script has at most {FILE_BYTES_MAX}", text.len());
        return Err(vec![fault(1, String::new(), message)]);
    }
    let lines = Lines::of(text);
    let script: Script = serde_saphyr::from_str(text).map_err(|refused| {
        let line = refused.location().map_or(1, |at| u32::try_from(at.line()).unwrap_or(u32::MAX).max(1));
        let whole = refused.without_snippet().to_string();
        let message = whole.lines().next().unwrap_or_default();
        let message = message.find(" at line ").map_or(message, |cut| &message[..cut]).trim_end_matches([',', ' ']);
        let unknown = message.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next());
        vec![fault(line, lines.field(line, unknown), message.to_owned())]
    })?;
    let faults = check::check(&script);
    if faults.is_empty() {
        return Ok(script);
    }
    Err(faults.into_iter().map(|found| fault(lines.line(&found.field), found.field, found.message)).collect())
}
