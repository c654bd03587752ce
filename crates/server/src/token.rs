//! Bearer tokens: made at the first start, kept in files that only their owner can read.

use crate::config::Error;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Random bytes in a token.
const TOKEN_BYTES: usize = 32;

/// Reads the token at `path`, or makes one.
pub fn load_or_make(path: &Path) -> Result<String, Error> {
    let failed = |what: &'static str| move |source| Error::File { what, path: path.to_owned(), source };
    match std::fs::read_to_string(path) {
        Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed("cannot read the token")(error)),
    }
    let mut bytes = [0_u8; TOKEN_BYTES];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .map_err(failed("cannot draw random bytes for the token"))?;
    let token: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let made = path.with_extension("new");
    let write = || {
        // A file left by a crash is replaced: only a whole one is ever renamed into place.
        let _ = std::fs::remove_file(&made);
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&made)?;
        file.write_all(token.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&made, path)
    };
    write().map_err(failed("cannot write the token"))?;
    Ok(token)
}

/// Compares in a time that does not tell how much of a guess was right.
pub fn same(given: &str, token: &str) -> bool {
    let (given, token) = (given.as_bytes(), token.as_bytes());
    given.len() == token.len() && given.iter().zip(token).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

/// The token of an `authorization` header, if it is a bearer's.
pub fn bearer(headers: &http::HeaderMap) -> Option<&str> {
    let value = headers.get(http::header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_token_is_made_once_and_only_its_owner_reads_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("fleet-token");
        let first = load_or_make(&path).expect("made");
        assert_eq!(first.len(), 2 * TOKEN_BYTES);
        assert_eq!(load_or_make(&path).expect("read"), first);
        let mode = std::fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn only_the_same_token_is_the_same() {
        assert!(same("abc", "abc"));
        assert!(!same("abd", "abc"));
        assert!(!same("", "abc"));
        assert!(!same("abcd", "abc"));
    }
}
