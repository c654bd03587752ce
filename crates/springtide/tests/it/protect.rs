//! `protect` against a real server: put in force, seen, tried out, rolled back, lifted; a kill loses nothing.

use crate::served::{FLEET, Server};

const PRESET: &str = "\
kind: Preset
name: midnight-surge
policies:
  - {name: users, service: web, action: {throttle: {users_percent: 30}}, for: 10m}
  - {name: gifts, service: web, route: /gift, action: {suppress: {}}, for: 5m}
";

fn served() -> Server {
    let server = Server::start();
    server.write_app();
    server.write("fleet.yaml", FLEET);
    server.write("preset.yaml", PRESET);
    server.told(&["apply", "-f", "fleet.yaml"]);
    server
}

#[test]
fn one_command_each_from_the_click_to_the_lift() {
    let mut server = served();
    assert!(server.told(&["protect", "list"]).contains("no policy is in force"));
    let put = server.told(&["protect", "throttle", "--service", "web", "--users", "20", "--for", "30m"]);
    assert!(put.starts_with("in force: Policy throttle-web\n"), "{put}");
    assert!(put.contains("no proxy and no agent is connected"), "{put}");
    let more = server.told(&["protect", "throttle", "--service", "web", "--users", "40"]);
    assert!(more.contains("changed: Policy throttle-web") && more.contains("20.0 → 40.0"), "{more}");
    server.told(&["protect", "apply", "-f", "preset.yaml"]);
    let fired = server.told(&["protect", "fire", "midnight-surge"]);
    assert!(fired.contains("in force: Policy midnight-surge.gifts"), "{fired}");
    assert!(fired.contains("overlap: midnight-surge.gifts is asked before midnight-surge.users"), "{fired}");
    assert!(fired.contains("throttle-web never acts: midnight-surge.users governs every request"), "{fired}");
    let list = server.told(&["protect", "list"]);
    let lines: Vec<&str> = list.lines().map(|line| line.split(' ').next().unwrap_or("")).take(4).collect();
    assert_eq!(lines, ["NAME", "midnight-surge.gifts", "midnight-surge.users", "throttle-web"], "{list}");
    assert!(list.contains("presets ready to fire: midnight-surge (2 policies)"), "{list}");
    server.kill_and_restart();
    let json: serde_json::Value = serde_json::from_str(&server.told(&["protect", "list", "-o", "json"])).unwrap();
    assert_eq!(json["policies"].as_array().map(Vec::len), Some(3), "a kill loses none");
    server.told(&["protect", "rollback"]);
    let back = server.told(&["protect", "rollback", "throttle-web"]);
    assert!(back.contains("40.0 → 20.0"), "{back}");
    let shown = server.told(&["protect", "show", "throttle-web"]);
    assert!(shown.contains("version   3, by unix:root") && shown.contains("throttle 40% of users, web"), "{shown}");
    assert!(server.told(&["protect", "lift", "--all"]).contains("lifted: Policy throttle-web"));
    let audit = server.told(&["audit", "-o", "json"]);
    assert_eq!(audit.matches("\"Policy throttle-web\"").count(), 4, "each change is audited");
}

#[test]
fn what_is_wrong_is_told_with_its_place_and_what_was_not_measured_is_said() {
    let server = served();
    let all = ["protect", "throttle", "--service", "web", "--users", "100"];
    let said = server.refused(&all, 2);
    assert!(said.starts_with("action: would reject every user; narrow it, or put it in force with --force"), "{said}");
    server.told(&[&all[..], &["--force"]].concat());
    let said = server.refused(&["protect", "suppress", "--service", "web", "--when", "request.pth == '/'"], 2);
    assert!(said.contains("when: unknown field of request `pth`; did you mean `path`?"), "{said}");
    let said = server.refused(&["protect", "fire", "midnight-sruge"], 1);
    assert!(said.contains("there is no preset \"midnight-sruge\""), "{said}");
    let said = server.refused(&["protect", "throttle", "--service", "web", "--users", "5", "--for", "3d"], 2);
    assert!(said.contains("a life from 1s to 24h"), "{said}");
    let said = server.refused(&["protect", "degrade", "--service", "web", "--cached", "60", "--dry-run"], 1);
    assert!(said.contains("nothing was measured, so nothing can be said: no proxy is connected"), "{said}");
    assert!(
        server
            .refused(&["protect", "lift", "nothing"], 1)
            .contains("no policy nothing is in force (`springtide protect list` shows")
    );
    server.write("bad.yaml", "kind: Policy\nname: p\naction: {throttle: {users_percent: many}}\n");
    let said = server.refused(&["protect", "apply", "-f", "bad.yaml", "--for", "5m"], 2);
    assert!(said.contains("bad.yaml:3: action.throttle.users_percent: expected a number, found `many`"), "{said}");
    let said = server.refused(&["protect", "apply", "-f", "fleet.yaml"], 2);
    assert!(said.contains("fleet.yaml:1: kind: a Region is applied with `springtide apply`"), "{said}");
}
