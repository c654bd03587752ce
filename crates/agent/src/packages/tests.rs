//! The store against a real HTTP server lives in `tests/it`; here: what stays cached.

use super::*;

#[test]
fn only_unused_packages_beyond_the_limit_go_oldest_first() {
    let dir = tempfile::tempdir().expect("temp");
    let store = Packages::open(dir.path(), "http://127.0.0.1:1", "token").expect("opened");
    let digests: Vec<Digest> = (0..UNUSED_MAX + 3).map(|n| Digest::of(&[n as u8])).collect();
    for (age, digest) in digests.iter().enumerate() {
        let folder = store.folder_of(digest);
        fs::create_dir(&folder).expect("temp");
        let time = std::time::UNIX_EPOCH + Duration::from_secs(1_000 + age as u64);
        File::open(&folder).and_then(|file| file.set_modified(time)).expect("ours");
    }
    let used: BTreeSet<Digest> = [digests[0].clone()].into();
    store.evict(&used);
    let kept: Vec<bool> = digests.iter().map(|digest| store.folder_of(digest).exists()).collect();
    let wanted: Vec<bool> = (0..UNUSED_MAX + 3).map(|n| n == 0 || n > 2).collect();
    assert_eq!(kept, wanted);
}

#[test]
fn half_made_folders_are_cleaned_at_start() {
    let dir = tempfile::tempdir().expect("temp");
    fs::create_dir_all(dir.path().join("packages/.new-abc/deep")).expect("temp");
    Packages::open(dir.path(), "http://127.0.0.1:1", "token").expect("opened");
    assert!(!dir.path().join("packages/.new-abc").exists());
}
