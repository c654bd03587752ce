//! What must hold for every manifest: what is written is read back, no text makes the reader panic, the page on manifests is true.

mod any;

use model::manifest::parse;
use model::plan::plan;
use model::{Resource, Snapshot};
use proptest::prelude::*;

fn read(text: &str) -> Result<Vec<model::Declared>, Vec<model::Fault>> {
    parse(&[("a.yaml".to_owned(), text.to_owned())])
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(resource in any::resource()) {
        let text = serde_saphyr::to_string(&resource).expect("a resource is YAML");
        let declared = read(&text);
        prop_assert!(declared.is_ok(), "{declared:?} in\n{text}");
        prop_assert_eq!(&declared.unwrap()[0].resource, &resource, "{}", text);
        let json = serde_json::to_string(&resource).expect("a resource is JSON");
        prop_assert_eq!(&serde_json::from_str::<Resource>(&json).expect("written is read"), &resource);
        prop_assert_eq!(&read(&json).expect("JSON is YAML")[0].resource, &resource);
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC{0,200}") {
        let _ = read(&text);
    }

    #[test]
    fn nothing_like_yaml_makes_the_reader_panic(pieces in prop::collection::vec(any::piece(), 0..60)) {
        if let Ok(declared) = read(&pieces.concat()) {
            let _ = plan(&Snapshot::default(), &declared, true);
        }
    }

    #[test]
    fn no_cut_of_a_manifest_makes_the_reader_panic(resource in any::resource(), at in 0.0..1.0, with in any::piece()) {
        let text = serde_saphyr::to_string(&resource).expect("a resource is YAML");
        let cut = text.floor_char_boundary((text.len() as f64 * at) as usize);
        let _ = read(&format!("{}{with}{}", &text[..cut], &text[cut..]));
        let _ = read(&text[..cut]);
    }
}

/// The YAML blocks of the page.
fn examples() -> String {
    let page = include_str!("../../../../docs/manifests.md");
    let blocks = page.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default());
    blocks.collect::<Vec<_>>().join("---\n")
}

#[test]
fn the_examples_of_the_page_are_one_right_fleet() {
    let declared = read(&examples()).expect("each example is right");
    let kinds: std::collections::BTreeSet<_> = declared.iter().map(|one| one.resource.kind()).collect();
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), model::Kind::ALL, "an example of each kind");
    if let Err(faults) = plan(&Snapshot::default(), &declared, false) {
        panic!("{}", faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
    }
}

#[test]
fn the_page_names_every_field() {
    let page = include_str!("../../../../docs/manifests.md");
    for kind in model::Kind::ALL {
        let section = page.split(&format!("\n## {}\n", kind.as_str())).nth(1).expect("a section of each kind");
        let section = section.split("\n## ").next().unwrap_or_default();
        for field in model::manifest::field_names(*kind) {
            assert!(section.contains(&format!("| `{field}` |")), "{} lacks {field}", kind.as_str());
        }
    }
}
