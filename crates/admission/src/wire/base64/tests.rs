//! RFC 4648 §10, and what is not base64.

use super::*;

#[test]
fn the_vectors_of_the_rfc() {
    let vectors = [
        ("", ""),
        ("f", "Zg"),
        ("fo", "Zm8"),
        ("foo", "Zm9v"),
        ("foob", "Zm9vYg"),
        ("fooba", "Zm9vYmE"),
        ("foobar", "Zm9vYmFy"),
    ];
    for (plain, text) in vectors {
        assert_eq!(encode(plain.as_bytes()), text);
        assert_eq!(decode(text).as_deref(), Some(plain.as_bytes()));
    }
    assert_eq!(decode("Zg==").as_deref(), Some(&b"f"[..]));
}

#[test]
fn foreign_characters_and_lengths_are_refused() {
    assert_eq!(decode("Z"), None);
    assert_eq!(decode("Zm9v!"), None);
    assert_eq!(decode("Zm 9"), None);
}
