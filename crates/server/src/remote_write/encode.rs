//! The body of a remote write 1.0 request: a protobuf `WriteRequest`, compressed with snappy's block format.
//!
//! Written by hand: three messages of two fields each. <https://prometheus.io/docs/specs/prw/remote_write_spec/>

use promql::{Labels, Sample};

fn varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

/// A field with a length: its number, then its bytes.
fn field(to: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    to.push(number << 3 | 2);
    varint(to, bytes.len() as u64);
    to.extend_from_slice(bytes);
}

fn time_series(labels: &Labels, samples: &[Sample]) -> Vec<u8> {
    let mut series = Vec::with_capacity(64 + samples.len() * 16);
    let mut inner = Vec::with_capacity(64);
    for (name, value) in labels.iter() {
        inner.clear();
        field(&mut inner, 1, name.as_bytes());
        field(&mut inner, 2, value.as_bytes());
        field(&mut series, 1, &inner);
    }
    for (at, value) in samples {
        inner.clear();
        inner.push(1 << 3 | 1);
        inner.extend_from_slice(&value.to_le_bytes());
        inner.push(2 << 3);
        varint(&mut inner, *at as u64);
        field(&mut series, 2, &inner);
    }
    series
}

/// The body of a request with these series.
pub fn request(series: &[(Labels, Vec<Sample>)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (labels, samples) in series {
        field(&mut body, 1, &time_series(labels, samples));
    }
    let compressed = snap::raw::Encoder::new().compress_vec(&body);
    compressed.expect("a request is far below snappy's 4 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes as protoc's own runtime writes them for the same message.
    #[test]
    fn the_bytes_are_those_of_protobuf() {
        let labels = Labels::new([("__name__".into(), "up".into())]);
        let body = request(&[(labels, vec![(1_000, 1.5)])]);
        let plain = snap::raw::Decoder::new().decompress_vec(&body).expect("snappy");
        let expected = [
            &[0x0a, 30][..],
            &[0x0a, 14, 0x0a, 8],
            b"__name__",
            &[0x12, 2],
            b"up",
            &[0x12, 12, 0x09, 0, 0, 0, 0, 0, 0, 0xf8, 0x3f, 0x10, 0xe8, 0x07],
        ];
        assert_eq!(plain, expected.concat());
    }
}
