//! Tests of `manifest`.

use super::*;

fn one(text: &str) -> Result<Vec<Declared>, Vec<Fault>> {
    parse(&[("a.yaml".to_owned(), text.to_owned())])
}

fn faults(text: &str) -> Vec<String> {
    one(text).expect_err("the manifest is wrong").iter().map(ToString::to_string).collect()
}

const SERVICE: &str = "\
# a comment
kind: Service
name: lottery
business: red-packet
layer: logic
package: lottery
shape: {cpu: 0.5, memory: 256MiB}
ports: [http]
instances: {east: 2}
hooks:
  - {when: before, step: start, command: [check, fast]}
";

#[test]
fn reads_documents_with_lines() {
    let text = format!("kind: Region\nname: cn\n---\n{SERVICE}---\n# nothing here\n");
    let declared = one(&text).unwrap();
    assert_eq!(declared.len(), 2);
    assert_eq!(declared[1].line, 5);
    assert_eq!(declared[1].line_of("shape.cpu"), 10);
    assert_eq!(declared[1].line_of("hooks[0].command[1]"), 14);
    assert_eq!(declared[1].line_of("criticality"), 5);
    let Resource::Service(service) = &declared[1].resource else { panic!("a service") };
    assert_eq!(service.hooks[0].timeout_ms, 10_000);
    assert_eq!(service.shape.cpu.0, 500);
}

#[test]
fn tells_every_fault() {
    let text = SERVICE.replace("instances:", "instnaces:").replace("logic", "lgoic").replace("256MiB", "256Mb");
    assert_eq!(
        faults(&text),
        [
            "a.yaml:2: instances: missing field `instances`: a mapping of names, each to a whole number from 0 to 1000000",
            "a.yaml:5: layer: expected one of access, logic, storage, found `lgoic`; did you mean `logic`?",
            "a.yaml:7: shape.memory: \"256Mb\" is not an amount of memory (256MiB, 2GiB or a number of bytes)",
            "a.yaml:9: instnaces: unknown field `instnaces`; did you mean `instances`?",
        ]
    );
}
