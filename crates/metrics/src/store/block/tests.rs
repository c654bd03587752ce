//! What is written is read; what is cut or changed is told with its place, and costs no more than it must.

use super::super::chunk::Coder;
use super::super::matcher::{Condition, Matcher, Op};
use super::super::pack::{self, Point, tests::points};
use super::*;
use proptest::prelude::*;

fn labels(pairs: &[(&str, &str)]) -> Vec<(Arc<str>, Arc<str>)> {
    pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
}

fn packs(points: &[Point]) -> Chunk {
    let mut bytes = Vec::new();
    points.chunks(24).for_each(|some| pack::write(&mut bytes, some));
    let (first_ms, last_ms) = (points[0].0, points[points.len() - 1].0);
    Chunk { first_ms, last_ms, points: points.len() as u16, block: 0, data: Data::Packs(bytes.as_slice().into()) }
}

/// A file of 50 series, each with a coded chunk and one of packs.
fn sample(folder: &Path) -> PathBuf {
    let (mut draft, mut coder) = (Draft::default(), Coder::default());
    for n in 0..50_u64 {
        let values = |from: u64| (0..100).map(move |at| (1_700_000_000_000 + (from + at) * 6_000, (at * n) as f64));
        let (early, late): (Vec<Point>, Vec<Point>) = (values(0).collect(), values(100).collect());
        let instance = format!("host-{n}");
        let name = ["up", "down"][n as usize % 2];
        draft.add(
            "a",
            &labels(&[("__name__", name), ("instance", &instance)]),
            vec![Chunk::code(&early, &mut coder), packs(&late)],
        );
    }
    let path = folder.join("a.blk");
    let header = draft.write(&path).expect("writes");
    assert_eq!((header.series, header.points), (50, 10_000));
    path
}

/// Points of all chunks that can be read, and faults met.
fn read_all(path: &Path) -> Result<(usize, Vec<Fault>), Fault> {
    let block = Block::open(path, false)?;
    let index = block.read_index()?;
    let (mut count, mut faults) = (0, Vec::new());
    for at in 0..index.len() {
        for place in index.series(at).2 {
            let mut points = Vec::new();
            let read = block.chunk(&index, place);
            let read = read.and_then(|chunk| chunk.read(&mut points).map_err(|error| block.damaged_at(place, error)));
            match read {
                Ok(()) => count += points.len(),
                Err(fault) => faults.push(fault),
            }
        }
    }
    Ok((count, faults))
}

#[test]
fn what_is_written_is_found_by_labels_and_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = sample(folder.path());
    assert!(read_all(&path).expect("whole").1.is_empty());
    assert_eq!(read_all(&path).expect("whole").0, 10_000);
    let block = Block::open(&path, false).expect("whole");
    let index = block.read_index().expect("whole");
    let found = |matchers: &[Matcher]| {
        let conditions: Vec<_> = matchers.iter().map(|m| Condition::compile(m).expect("compiles")).collect();
        index.select(&conditions).len()
    };
    assert_eq!(found(&[Matcher::name("up")]), 25);
    assert_eq!(found(&[Matcher::name("up"), Matcher::new("instance", Op::Regex, "host-1.")]), 5);
    assert_eq!(found(&[Matcher::new("none", Op::Equal, "")]), 50);
    assert_eq!(found(&[Matcher::new("none", Op::NotEqual, "")]), 0);
    let left: Vec<_> = std::fs::read_dir(folder.path()).expect("lists").collect();
    assert_eq!(left.len(), 1, "nothing unfinished is left");
}

#[test]
fn a_file_cut_anywhere_gives_what_lies_before_the_cut() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = sample(folder.path());
    let whole = std::fs::read(&path).expect("reads");
    let chunks_at = Block::open(&path, false).expect("whole").chunks_at as usize;
    let mut before = usize::MAX;
    for length in (0..whole.len()).rev().step_by(97) {
        std::fs::write(&path, &whole[..length]).expect("writes");
        match read_all(&path) {
            Ok((count, faults)) => {
                assert!(length >= chunks_at && count <= before && !faults.is_empty(), "{length}");
                before = count;
            }
            Err(fault) => assert!(length < chunks_at && fault.path == path, "{fault}"),
        }
    }
    assert!(before <= 200, "cut at its first chunk it has no more than that: {before}");
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = sample(folder.path());
    let mut bytes = std::fs::read(&path).expect("reads");
    bytes[8] = 9;
    std::fs::write(&path, bytes).expect("writes");
    let fault = Block::open(&path, false).expect_err("newer");
    assert!(fault.to_string().ends_with("a.blk, byte 8: its format has version 9, this binary knows 1"), "{fault}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn a_changed_byte_costs_one_chunk_or_is_refused(at in any::<prop::sample::Index>(), byte in 1..=255_u8) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = sample(folder.path());
        let mut bytes = std::fs::read(&path).expect("reads");
        let at = at.index(bytes.len());
        bytes[at] ^= byte;
        std::fs::write(&path, bytes).expect("writes");
        if let Ok((count, faults)) = read_all(&path) {
            prop_assert_eq!((count, faults.len()), (9_900, 1));
        }
    }

    #[test]
    fn no_bytes_panic(noise in prop::collection::vec(any::<u8>(), 0..400), front in 0..3_usize) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("noise.blk");
        // Behind a good beginning noise goes further.
        let fronts: [&[u8]; 3] = [b"", b"sprtide\0\x01\0\0\0", b"sprtide\0\x01\0\0\0\x07\0\0\0"];
        std::fs::write(&path, [fronts[front], &noise].concat()).expect("writes");
        let _ = read_all(&path);
        let _ = BlockIndex::read(&noise);
    }

    #[test]
    fn chunks_of_any_points_come_back(runs in prop::collection::vec(points(60), 1..10)) {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut draft, mut coder) = (Draft::default(), Coder::default());
        for (n, run) in runs.iter().enumerate() {
            let chunk = if n % 2 == 0 { Chunk::code(run, &mut coder) } else { packs(run) };
            draft.add("a", &labels(&[("__name__", "up"), ("n", &n.to_string())]), vec![chunk]);
        }
        let path = folder.path().join("a.blk");
        draft.write(&path).expect("writes");
        let block = Block::open(&path, false).expect("whole");
        let index = block.read_index().expect("whole");
        for (n, run) in runs.iter().enumerate() {
            let (_, _, places) = index.series(n);
            let mut got = Vec::new();
            block.chunk(&index, &places[0]).expect("whole").read(&mut got).expect("whole");
            prop_assert!(pack::tests::same(&got, run));
        }
    }
}
