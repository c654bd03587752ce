//! Protobuf written by hand, for the messages that leave each second: no message type in between, no allocation once the
//! buffer has grown (encoding: https://protobuf.dev/programming-guides/encoding).
//!
//! Field numbers are those of `proto/springtide/v1/fleet.proto`; tests decode what is written here with the generated
//! types. Deliberately absent: everything that is sent seldom.

/// Wire types.
const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const DELIMITED: u32 = 2;
/// Longest varint.
const VARINT_BYTES_MAX: usize = 10;

/// Writes a bare number.
pub fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn key(out: &mut Vec<u8>, field: u32, kind: u32) {
    varint(out, u64::from(field << 3 | kind));
}

/// A number; 0 is what an absent one means.
pub fn uint(out: &mut Vec<u8>, field: u32, value: u64) {
    if value != 0 {
        some(out, field, Some(value));
    }
}

/// A number that may be absent, and is told even when it is 0.
pub fn some(out: &mut Vec<u8>, field: u32, value: Option<u64>) {
    if let Some(value) = value {
        key(out, field, VARINT);
        varint(out, value);
    }
}

/// A number with a fraction; 0 is what an absent one means.
pub fn double(out: &mut Vec<u8>, field: u32, value: f64) {
    if value.to_bits() != 0 {
        key(out, field, FIXED64);
        out.extend_from_slice(&value.to_le_bytes());
    }
}

/// What stands before so many bytes of a message, text or list.
pub fn begin(out: &mut Vec<u8>, field: u32, length: usize) {
    key(out, field, DELIMITED);
    varint(out, length as u64);
}

/// A text, or numbers already written; an empty one is what an absent one means.
pub fn bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    if !bytes.is_empty() {
        begin(out, field, bytes.len());
        out.extend_from_slice(bytes);
    }
}

/// A message within the message. Its length is put before it once it is known.
pub fn nested<R>(out: &mut Vec<u8>, field: u32, body: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    key(out, field, DELIMITED);
    let begin = out.len();
    let given = body(out);
    let end = out.len();
    let mut length = (end - begin) as u64;
    let mut prefix = [0_u8; VARINT_BYTES_MAX];
    let mut used = 0;
    while length >= 0x80 {
        prefix[used] = length as u8 | 0x80;
        length >>= 7;
        used += 1;
    }
    prefix[used] = length as u8;
    used += 1;
    out.resize(end + used, 0);
    out.copy_within(begin..end, begin + used);
    out[begin..begin + used].copy_from_slice(&prefix[..used]);
    given
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::fleet::{AgentUp, Trip, agent_up};
    use prost::Message;

    #[test]
    fn generated_types_read_what_is_written() {
        let subject = "a".repeat(300);
        let mut out = Vec::new();
        nested(&mut out, 3, |out| {
            uint(out, 1, u64::MAX);
            nested(out, 4, |out| {
                uint(out, 1, 2);
                bytes(out, 2, subject.as_bytes());
                double(out, 4, 0.5);
                double(out, 5, 0.0);
            });
            nested(out, 2, |out| {
                some(out, 6, Some(0));
                some(out, 7, None);
            });
        });
        let Some(agent_up::Message::Samples(read)) = AgentUp::decode(&out[..]).expect("a message").message else {
            panic!("samples");
        };
        assert_eq!(read.time_unix_ms, u64::MAX);
        assert_eq!(read.trips, [Trip { kind: 2, subject, value: 0.5, ..Trip::default() }]);
        let host = read.host.expect("given");
        assert_eq!((host.cpu_pressure_us, host.memory_pressure_us), (Some(0), None));
    }
}
