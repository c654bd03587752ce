//! Bodies in all framings, cut anywhere.

use super::*;
use http::Response;
use proptest::prelude::*;

fn of(method: Method, version: Version, status: u16, headers: &[(&str, &str)]) -> Result<Decoder, Malformed> {
    let mut builder = Response::builder().status(status).version(version);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    let mut parts = builder.body(()).expect("a response").into_parts().0;
    let marks = Marks::of(&parts.headers);
    Decoder::of(&method, &mut parts, marks)
}

/// What comes of a body that arrives in these pieces.
fn read(mut decoder: Decoder, pieces: &[&[u8]]) -> Result<(Vec<u8>, Option<HeaderMap>, bool, usize), Malformed> {
    let (mut buffer, mut body, mut trailers) = (BytesMut::new(), Vec::new(), None);
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut buffer)? {
                Piece::Data(data) => body.extend_from_slice(&data),
                Piece::Trailers(map) => trailers = Some(map),
                Piece::End => return Ok((body, trailers, true, buffer.len())),
                Piece::More => break,
            }
        }
    }
    Ok((body, trailers, false, buffer.len()))
}

#[test]
fn framing_is_as_the_rfc_has_it() {
    let get = |headers: &[(&str, &str)]| of(Method::GET, Version::HTTP_11, 200, headers);
    assert_eq!(get(&[("content-length", "5")]), Ok(Decoder::Length(5)));
    assert_eq!(get(&[("content-length", "5, 5")]), Ok(Decoder::Length(5)));
    assert_eq!(get(&[("content-length", "5"), ("content-length", "5")]), Ok(Decoder::Length(5)));
    for wrong in ["5, 6", "-1", "+5", "", "5a", "99999999999999999999999"] {
        assert!(get(&[("content-length", wrong)]).is_err(), "{wrong:?}");
    }
    assert_eq!(
        get(&[("transfer-encoding", "gzip, Chunked"), ("content-length", "5")]),
        Ok(Decoder::Chunked(Chunk::Size))
    );
    assert_eq!(get(&[("transfer-encoding", "gzip")]), Ok(Decoder::Close));
    assert_eq!(get(&[]), Ok(Decoder::Close));
    assert!(of(Method::GET, Version::HTTP_10, 200, &[("transfer-encoding", "chunked")]).is_err());
    for (method, status) in [(Method::HEAD, 200), (Method::GET, 204), (Method::GET, 304), (Method::GET, 103)] {
        assert_eq!(of(method, Version::HTTP_11, status, &[("content-length", "5")]), Ok(Decoder::Length(0)));
    }
}

#[test]
fn malformed_chunks_are_refused() {
    let cases: [&[u8]; 9] = [
        b"\r\n",
        b"x\r\n",
        b"-1\r\n",
        b"0x1\r\n",
        b"5\nhello\r\n",
        b"5\r\nhelloX\r\n",
        b"ffffffffffffffff\r\n",
        b" 5\r\nhello\r\n",
        b"0\r\nbad trailer\r\n\r\n",
    ];
    for case in cases {
        let text = String::from_utf8_lossy(case);
        assert!(read(Decoder::Chunked(Chunk::Size), &[case]).is_err(), "{text:?}");
    }
    let endless = vec![b'1'; SIZE_LINE_BYTES_MAX + 1];
    assert!(read(Decoder::Chunked(Chunk::Size), &[&endless]).is_err());
    let endless = [b"0\r\n".as_slice(), &b"a: b\r\n".repeat(TRAILERS_BYTES_MAX)].concat();
    assert!(read(Decoder::Chunked(Chunk::Size), &[&endless]).is_err());
}

#[test]
fn trailers_are_told() {
    let (body, trailers, ended, left) =
        read(Decoder::Chunked(Chunk::Size), &[b"3 ;ext=1\r\nabc\r\n0\r\ngrpc-status: 0\r\n\r\nnext"])
            .expect("well formed");
    assert_eq!((body.as_slice(), ended, left), (b"abc".as_slice(), true, 4), "what follows is left");
    assert_eq!(trailers.expect("trailers")["grpc-status"], "0");
}

proptest! {
    #[test]
    fn a_body_is_the_same_however_it_is_cut(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6),
                                            cuts in prop::collection::vec(0..400_usize, 0..6)) {
        let whole = chunks.concat();
        let mut wire = Vec::new();
        for chunk in &chunks {
            wire.extend_from_slice(format!("{:X}\r\n", chunk.len()).as_bytes());
            wire.extend_from_slice(chunk);
            wire.extend_from_slice(b"\r\n");
        }
        wire.extend_from_slice(b"0\r\n\r\nrest");
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(wire.len())).collect();
        cuts.extend([0, wire.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &wire[pair[0]..pair[1]]).collect();
        let (body, trailers, ended, _) = read(Decoder::Chunked(Chunk::Size), &pieces).expect("well formed");
        prop_assert!(ended && trailers.is_none());
        prop_assert_eq!(&body, &whole);
        let length = Decoder::Length(whole.len() as u64);
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(whole.len())).collect();
        cuts.dedup();
        let mut pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &whole[pair[0]..pair[1]]).collect();
        pieces.push(b"rest");
        let (body, _, ended, _) = read(length, &pieces).expect("well formed");
        prop_assert!(ended);
        prop_assert_eq!(body, whole);
    }

    #[test]
    fn nonsense_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(Decoder::Chunked(Chunk::Size), &[&bytes]);
    }
}
