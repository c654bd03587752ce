//! Tests of `manifests`.

use super::*;
use std::fs;

const PACKAGE: &str =
    "# the app\nkind: Package\nname: app\nversion: 1.0\nsource: ../app # built by cargo\ncommand: [app]\n";

/// A folder with `app` and `manifests/`, the latter holding these files.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("app"), "bytes").unwrap();
    for (name, text) in files {
        let path = folder.path().join("manifests").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

fn gather(folder: &tempfile::TempDir) -> Result<Gathered, Failure> {
    Files { files: vec![folder.path().join("manifests")] }.gather(false)
}

fn fault(folder: &tempfile::TempDir) -> String {
    match gather(folder) {
        Err(Failure::Faults(faults)) => format!("{}: {}: {}", faults[0].line, faults[0].field, faults[0].message),
        Err(Failure::Usage(text)) => text,
        other => panic!("expected a fault, got {other:?}"),
    }
}

#[test]
fn folders_are_walked_in_order() {
    let region = |name: &str| format!("kind: Region\nname: {name}\n");
    let files = [
        ("b.yaml", region("b")),
        ("a/z.yml", region("z")),
        ("notes.txt", "no".to_owned()),
        (".git/x.yaml", "no".to_owned()),
    ];
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let gathered = gather(&folder(&files)).unwrap();
    let names: Vec<&str> =
        gathered.request.files.iter().map(|file| file.path.rsplit("manifests/").next().unwrap()).collect();
    assert_eq!(names, ["a/z.yml", "b.yaml"]);
}

#[test]
fn the_digest_takes_the_line_of_the_source() {
    let gathered = gather(&folder(&[("p.yaml", PACKAGE)])).unwrap();
    let digest = &gathered.packages[0].digest;
    assert_eq!(*digest, Digest::of(&gathered.packages[0].bytes));
    let wanted = PACKAGE.replace("source: ../app # built by cargo", &format!("digest: {digest}"));
    assert_eq!(gathered.request.files[0].text, wanted);
}

#[test]
fn two_packages_of_one_file_keep_their_lines() {
    let second = PACKAGE.replace("name: app", "name: other").replace("../app #", "../manifests/other #");
    let folder = folder(&[("p.yaml", &format!("{PACKAGE}---\n{second}")), ("other", "more")]);
    let gathered = gather(&folder).unwrap();
    assert_eq!(gathered.packages.len(), 2);
    let text = &gathered.request.files[0].text;
    assert_eq!(text.matches("\ndigest: sha256:").count(), 2, "{text}");
    assert!(!text.contains("source:"), "{text}");
}

#[test]
fn a_declared_digest_must_be_that_of_the_bytes() {
    let wrong = PACKAGE.replace("version: 1.0", &format!("version: 1.0\ndigest: {}", Digest::of(b"other")));
    let text = fault(&folder(&[("p.yaml", &wrong)]));
    assert!(text.starts_with("5: digest: sha256:") && text.contains("is not the digest of `source: ../app`"), "{text}");
    let right = gather(&folder(&[("p.yaml", PACKAGE)])).unwrap().packages[0].digest.clone();
    let right = PACKAGE.replace("version: 1.0", &format!("version: 1.0\ndigest: {right}"));
    let gathered = gather(&folder(&[("p.yaml", &right)])).unwrap();
    assert!(gathered.request.files[0].text.contains("\n\ncommand"), "{}", gathered.request.files[0].text);
}

#[test]
fn what_cannot_be_gathered_says_why() {
    assert_eq!(fault(&folder(&[("p.yaml", &PACKAGE.replace("../app", "../no"))])).split(": ").nth(1), Some("source"));
    let flow = "{kind: Package, name: app, version: '1', source: ../app, command: [app]}\n";
    assert_eq!(
        fault(&folder(&[("p.yaml", flow)])),
        "1: source: cannot be replaced by the digest; write `source: PATH` on a line of its own"
    );
    assert!(fault(&folder(&[("notes.txt", "")])).ends_with("has no *.yaml or *.yml file"));
    assert!(fault(&folder(&[("a.yaml", "kind: Region\nnmae: a\n")])).contains("missing field `name`"));
}
