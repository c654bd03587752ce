//! Tests of `config`.

use super::*;
use crate::samples::{FLEET, stored};

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn renders_references_and_dollars() {
    let variables = map(&[("A", "1"), ("B_2", "${A}")]);
    assert_eq!(render("a=${A} b=${B_2} $$ $${A} $A $", &variables).unwrap(), "a=1 b=${A} $ ${A} $A $");
    assert_eq!(render("", &variables).unwrap(), "");
}

#[test]
fn a_missing_variable_is_named_with_its_line() {
    let missing = render("x\ny ${NO} z", &map(&[])).unwrap_err();
    assert_eq!(missing, MissingVariable { name: "NO".to_owned(), line: 2 });
    assert_eq!(
        missing.to_string(),
        "line 2 refers to `${NO}`, which is not a variable known here; write `$$` for a plain dollar"
    );
    assert_eq!(render("${open\nnext}", &map(&[])).unwrap_err().name, "open");
}

#[test]
fn resolves_for_each_datacenter() {
    let snapshot = stored(FLEET);
    let lottery = snapshot.service("lottery").unwrap();
    let at = |name| resolve(&snapshot, lottery, &DatacenterName::new(name).unwrap()).unwrap();
    let (east, west) = (at("east"), at("west"));
    assert_eq!(east.variables, map(&[("LEVEL", "info"), ("PEER", "w")]));
    assert_eq!(west.variables["PEER"], "e");
    assert_eq!(east.files, west.files);
    assert_ne!(east.digest, west.digest);
    assert_eq!(east, at("east"));
}

#[test]
fn the_digest_follows_what_makes_a_restart_due() {
    let digest = |text: &str| {
        let snapshot = stored(text);
        resolve(&snapshot, snapshot.service("lottery").unwrap(), &DatacenterName::new("east").unwrap()).unwrap().digest
    };
    let base = digest(FLEET);
    for (from, to) in [
        ("level = ", "lvl = "),
        ("LEVEL: info", "LEVEL: debug"),
        ("{PEER: w}", "{PEER: v}"),
        ("[bin/app, --port", "[bin/app, --listen"),
        ("dependencies: [{on: bank}]", "args: [-v]"),
        ("dependencies: [{on: bank}]", "health_check: {path: /}"),
    ] {
        assert_ne!(digest(&FLEET.replace(from, to)), base, "{from} → {to}");
    }
    for (from, to) in
        [("{PEER: e}", "{PEER: x}"), ("{east: 2, west: 2}", "{east: 9, west: 2}"), ("name: bank", "name: bank")]
    {
        assert_eq!(digest(&FLEET.replace(from, to)), base, "{from} → {to}");
    }
}

#[test]
fn a_dangling_config_is_refused() {
    let mut snapshot = stored(FLEET);
    let lottery = snapshot.service("lottery").unwrap().clone();
    snapshot.fold("/resources/Environment/night", None, 2).unwrap();
    let refused = resolve(&snapshot, &lottery, &DatacenterName::new("east").unwrap()).unwrap_err();
    assert_eq!(refused.to_string(), "service lottery names Environment night, which does not exist");
}
