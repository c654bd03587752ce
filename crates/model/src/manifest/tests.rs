//! Tests of `manifest`.

use super::*;
use crate::fault::FAULTS_MAX;

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

#[test]
fn each_wrong_value_says_what_would_be_right() {
    let table: &[(&str, &str, &str)] = &[
        (
            "kind: Service",
            "kind: Servise",
            "a.yaml:2: kind: unknown kind `Servise`; did you mean `Service`? (kinds: Region, Datacenter, Rack, Circuit, HostType, Host, Business, External, Package, Environment, ConfigSet, Service, Event, Policy, Preset, AlertRule, Receiver)",
        ),
        (
            "kind: Service\n",
            "",
            "a.yaml:2: kind: missing field `kind`: one of Region, Datacenter, Rack, Circuit, HostType, Host, Business, External, Package, Environment, ConfigSet, Service, Event, Policy, Preset, AlertRule, Receiver",
        ),
        (
            "name: lottery",
            "name: Lottery!",
            "a.yaml:3: name: \"Lottery!\" is not a name: use 1 to 63 of a-z, 0-9, '-' and '.', starting and ending with a letter or digit",
        ),
        ("name: lottery\n", "name:\n", "a.yaml:3: name: has no value; give a name, or leave the field out"),
        (
            "cpu: 0.5",
            "cpu: fast",
            "a.yaml:7: shape.cpu: \"fast\" is not an amount of CPU (0.5, 2 or 500m; at least 0.1 core, in steps of 0.001)",
        ),
        (
            "shape: {cpu: 0.5, memory: 256MiB}",
            "shape: big",
            "a.yaml:7: shape: \"big\" is not a shape (1C2G, or {cpu: 0.5, memory: 256MiB})",
        ),
        (
            "memory: 256MiB",
            "memroy: 256MiB, memory: 1",
            "a.yaml:7: shape.memroy: unknown field `memroy`; did you mean `memory`?",
        ),
        ("ports: [http]", "ports: http", "a.yaml:8: ports: expected a list, each item a port name, found `http`"),
        (
            "ports: [http]",
            "ports: [HTTP]",
            "a.yaml:8: ports[0]: \"HTTP\" is not a port name: use 1 to 32 of a-z, 0-9 and '_', such as `http`",
        ),
        ("east: 2", "east: \"2\"", "a.yaml:9: instances.east: expected a whole number from 0 to 1000000, found `2`"),
        ("east: 2", "east: -1", "a.yaml:9: instances.east: expected a whole number from 0 to 1000000, found `-1`"),
        ("east: 2", "east: 2, east: 3", "a.yaml:9: instances.east: `east` stands twice; keep one"),
        ("ports: [http]", "name: again", "a.yaml:8: name: field `name` stands twice; keep one"),
        (
            "command: [check, fast]",
            "webhook: x",
            "a.yaml:11: hooks[0].webhook: \"x\" is not a URL; write http://host:port/path or https://…",
        ),
        (", command: [check, fast]", "", "a.yaml:11: hooks[0]: needs exactly one of command, webhook"),
        ("ports: [http]", "ports: [http", "a.yaml:9: not YAML: illegal placement of ':' indicator"),
        ("ports: [http]", "<<: {a: b}", "a.yaml:8: <<: merge keys (`<<`) are not supported; write the fields out"),
        (
            "ports: [http]",
            "ports: !!seq [http]",
            "a.yaml:8: tags such as `!!str` are not supported; leave the tag out, and quote a text if need be",
        ),
    ];
    let mut wrong = Vec::new();
    for (from, to, wanted) in table {
        assert_eq!(SERVICE.matches(from).count(), 1, "{from:?} stands once");
        let found = faults(&SERVICE.replace(from, to));
        if found != [*wanted] {
            wrong.push(format!("{from} → {to}:\n  {}", found.join("\n  ")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

const POLICY: &str = "\
kind: Policy
name: fewer-draws
service: lottery
route: /draw
when: request.method == \"POST\"
action: {throttle: {users_percent: 20}}
expires_at: 2027-02-05T20:30:00+08:00
";

#[test]
fn a_policy_is_read_and_each_wrong_part_of_it_named() {
    let Resource::Policy(policy) = &one(POLICY).unwrap()[0].resource else { panic!("a policy") };
    assert_eq!(policy.action, crate::PolicyAction::Throttle(crate::Throttle::UsersPercent(20.0)));
    assert_eq!((policy.order, policy.expires_at.unix_ms()), (100, 1_801_830_600_000));
    let table: &[(&str, &str, &str)] = &[
        (
            "expires_at: 2027-02-05T20:30:00+08:00\n",
            "",
            "a.yaml:1: expires_at: missing field `expires_at`: a time, such as 2027-02-05T20:30:00+08:00",
        ),
        (
            "2027-02-05T20:30:00+08:00",
            "tomorrow",
            "a.yaml:7: expires_at: \"tomorrow\" is not a time; write RFC 3339, such as 2027-02-05T20:00:00+08:00",
        ),
        (
            "throttle: {users_percent: 20}",
            "throtle: {users_percent: 20}",
            "a.yaml:6: action.throtle: unknown field `throtle`; did you mean `throttle`?",
        ),
        (
            "{throttle: {users_percent: 20}}",
            "{throttle: {users_percent: 20}, suppress: {}}",
            "a.yaml:6: action: needs exactly one of throttle, suppress, degrade, slow",
        ),
        (
            "users_percent: 20",
            "users_percent: 20, requests_per_second: 5",
            "a.yaml:6: action.throttle: needs exactly one of users_percent, requests_per_second, business_levels_from",
        ),
        (
            "users_percent: 20",
            "users_percent: many",
            "a.yaml:6: action.throttle.users_percent: expected a number, found `many`",
        ),
        (
            "users_percent: 20",
            "business_levels_from: 64",
            "a.yaml:6: action.throttle.business_levels_from: expected a whole number from 0 to 63, found `64`",
        ),
        (
            "route: /draw",
            "route: draw",
            "a.yaml:4: route: \"draw\" is not a path; begin with `/` and leave out blanks, `?` and `#`",
        ),
        ("request.method == \"POST\"", "\"  \"", "a.yaml:5: when: must not be empty"),
        (
            "throttle: {users_percent: 20}",
            "suppress: {headers: {Content-Type: a}}",
            "a.yaml:6: action.suppress.headers.Content-Type: \"Content-Type\" is not a header's name in lower case, such as `content-type`",
        ),
        (
            "name: fewer-draws",
            "name: fewer-draws\norder: -1",
            "a.yaml:3: order: expected a whole number from 0 to 4294967295, found `-1`",
        ),
    ];
    let mut wrong = Vec::new();
    for (from, to, wanted) in table {
        assert_eq!(POLICY.matches(from).count(), 1, "{from:?} stands once");
        let found = faults(&POLICY.replace(from, to));
        if !found.contains(&(*wanted).to_owned()) {
            wrong.push(format!("{from} → {to}:\n  {}", found.join("\n  ")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let long = format!("request.path == \"{}\"", "x".repeat(crate::policy::WHEN_BYTES_MAX));
    assert!(faults(&POLICY.replace("request.method == \"POST\"", &format!("'{long}'")))[0].contains("at most 2048"));
}

#[test]
fn an_end_given_beside_the_manifest_stands_for_all_policies() {
    let end = crate::Expiry::at(1_801_830_600_000);
    for text in [POLICY.to_owned(), POLICY.replace("expires_at: 2027-02-05T20:30:00+08:00\n", "")] {
        let read =
            parse_ending(&[("a.yaml".to_owned(), format!("{text}---\nkind: Region\nname: cn\n"))], Some(end)).unwrap();
        let Resource::Policy(policy) = &read[0].resource else { panic!("a policy") };
        assert_eq!(policy.expires_at, end);
    }
}

#[test]
fn a_broken_document_hides_no_other() {
    let found = faults("kind: Region\nname: [\n---\nkind: Region\nname: UP\n---\n- a\n");
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found[0].contains("not YAML"), "{found:?}");
    assert!(found[1].starts_with("a.yaml:5: name: \"UP\""), "{found:?}");
    assert_eq!(found[2], "a.yaml:7: found a list where a resource was expected; begin with `kind:` and `name:`");
}

#[test]
fn a_second_declaration_names_both_places() {
    let files = [("a.yaml", "kind: Region\nname: cn\n"), ("b.yaml", "\nkind: Region\nname: cn\n")];
    let files: Vec<_> = files.map(|(path, text)| (path.to_owned(), text.to_owned())).into();
    let found = parse(&files).unwrap_err();
    assert_eq!(found[0].to_string(), "b.yaml:3: name: Region cn is declared twice; first at a.yaml:2; keep one");
}

#[test]
fn texts_are_kept_as_written() {
    let text = "kind: Package\nname: p\nversion: 1.10\ncommand: [run, 007, yes, 'it''s']\n";
    let Resource::Package(package) = &one(text).unwrap()[0].resource else { panic!("a package") };
    assert_eq!(package.version, "1.10");
    assert_eq!(package.command, ["run", "007", "yes", "it's"]);
}

#[test]
fn aliases_are_expanded_within_bounds() {
    let text = "kind: Environment\nname: e\nvariables: &v {A: x}\ndatacenters: {east: *v}\n";
    let Resource::Environment(read) = &one(text).unwrap()[0].resource else { panic!("an environment") };
    assert_eq!(read.datacenters["east"]["A"], "x");
    let mut bomb = "a: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..10 {
        let items = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb.push_str(&format!("b{level}: &a{level} [{items}]\n"));
    }
    assert!(faults(&bomb)[0].contains("aliases expand to more than"));
    assert!(faults("a: &a [*a]\n")[0].contains("an alias inside the very value it names"));
    assert!(faults(&format!("a: {}\n", "[".repeat(5_000)))[0].contains("not YAML"));
    assert!(faults(&"#".repeat(FILE_BYTES_MAX + 1))[0].contains("split it into files"));
}

#[test]
fn faults_are_bounded() {
    let found = faults(&"kind: Nothing\n---\n".repeat(FAULTS_MAX + 50));
    assert_eq!(found.len(), FAULTS_MAX + 1);
    assert!(found[FAULTS_MAX].ends_with("and 50 more faults"), "{}", found[FAULTS_MAX]);
}
