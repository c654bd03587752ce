//! What cannot be: each gives one clear message, and leaves nothing half-done.

use crate::agent::{Agent, assignment, bring_up, package};
use crate::fleet::Listener;
use api::fleet::{Assignment, Phase};
use std::process::Output;

#[tokio::test]
async fn a_wrong_digest_fails_and_leaves_nothing() {
    let listener = Listener::start().await;
    let agent = Agent::started(&listener).await;
    let lie = model::Digest::of(b"something else").to_string();
    listener.fleet.seen().packages.insert(lie.clone(), package());
    let one = Assignment { package_digest: lie.clone(), ..assignment(&listener, "fixture-1") };
    listener.fleet.set(1, vec![one], &[]).await;
    let failed = listener.fleet.phase("fixture-1", Phase::Failed).await;
    assert!(failed.message.contains(&lie) && failed.message.contains("wrong digest"), "{}", failed.message);
    // The report comes after the clean-up, and soon the next try.
    let packages = agent.data().join("packages");
    let is_empty = || std::fs::read_dir(&packages).expect("there").next().is_none();
    listener.fleet.until("an empty folder between two tries", |_| is_empty().then_some(())).await;
    agent.end();
}

#[tokio::test]
async fn a_missing_package_and_a_bad_archive_say_so() {
    let listener = Listener::start().await;
    let agent = Agent::started(&listener).await;
    let absent = model::Digest::of(b"absent").to_string();
    let zip = b"PK no tar.zst".to_vec();
    let bad = model::Digest::of(&zip).to_string();
    listener.fleet.seen().packages.insert(bad.clone(), zip);
    let one = Assignment { package_digest: absent, ..assignment(&listener, "fixture-1") };
    let two = Assignment { package_digest: bad, ..assignment(&listener, "fixture-2") };
    listener.fleet.set(1, vec![one, two], &[]).await;
    let failed = listener.fleet.phase("fixture-1", Phase::Failed).await;
    assert!(failed.message.contains("the server does not have it"), "{}", failed.message);
    let failed = listener.fleet.phase("fixture-2", Phase::Failed).await;
    assert!(failed.message.contains("must be a tar.zst"), "{}", failed.message);
    agent.end();
}

#[tokio::test]
async fn a_missing_variable_and_a_missing_program_are_named() {
    let listener = Listener::start().await;
    let agent = Agent::started(&listener).await;
    let mut one = assignment(&listener, "fixture-1");
    one.config_files.insert("app.conf".into(), "a\nb ${NO_SUCH}\n".into());
    let two = Assignment { command: vec!["bin/no-such".into()], ..assignment(&listener, "fixture-2") };
    listener.fleet.set(1, vec![one, two], &[]).await;
    let failed = listener.fleet.phase("fixture-1", Phase::Failed).await;
    assert!(failed.message.starts_with("config file app.conf: line 2 refers to `${NO_SUCH}`"), "{}", failed.message);
    let failed = listener.fleet.phase("fixture-2", Phase::Failed).await;
    assert!(failed.message.contains("\"bin/no-such\" is neither in the package"), "{}", failed.message);
    agent.end();
}

#[tokio::test]
async fn a_port_in_use_names_its_owner_and_is_tried_again() {
    let listener = Listener::start().await;
    let agent = Agent::started(&listener).await;
    let one = assignment(&listener, "fixture-1");
    let address = format!("{}:{}", one.address, one.ports["http"]);
    let holder = std::net::TcpListener::bind(&address).expect("free");
    listener.fleet.set(1, vec![one], &[]).await;
    let failed = listener.fleet.phase("fixture-1", Phase::Failed).await;
    let wanted = format!("port {address} is in use by pid {}", std::process::id());
    assert!(failed.message.starts_with(&wanted), "{}", failed.message);
    drop(holder);
    assert_eq!(listener.fleet.phase("fixture-1", Phase::Healthy).await.restarts, 0);
    agent.end();
}

#[tokio::test]
async fn a_bad_assignment_fails_alone() {
    let listener = Listener::start().await;
    let agent = Agent::started(&listener).await;
    let bad = Assignment { address: "nowhere".into(), ..assignment(&listener, "fixture-1") };
    listener.fleet.set(1, vec![bad, assignment(&listener, "fixture-2")], &[]).await;
    let failed = listener.fleet.phase("fixture-1", Phase::Failed).await;
    assert!(failed.message.contains("address is \"nowhere\""), "{}", failed.message);
    listener.fleet.phase("fixture-2", Phase::Healthy).await;
    agent.end();
}

fn refusal(mut command: std::process::Command) -> String {
    let Output { status, stderr, .. } =
        command.stderr(std::process::Stdio::piped()).spawn().and_then(|child| child.wait_with_output()).expect("runs");
    assert_eq!(status.code(), Some(1));
    String::from_utf8_lossy(&stderr).lines().last().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_second_agent_on_the_same_folder_names_the_first() {
    let listener = Listener::start().await;
    let agent = Agent::started(&listener).await;
    bring_up(&listener, &assignment(&listener, "fixture-1"), 1).await;
    let message = refusal(agent.command("agent"));
    assert!(message.contains(&format!("another agent (pid {}) runs on the data folder", agent.pid())), "{message}");
    agent.end();
}

#[tokio::test]
async fn a_data_folder_that_instances_cannot_reach_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let listener = Listener::start().await;
    let agent = Agent::new(&listener, "auto");
    std::fs::set_permissions(agent.dir.path(), std::fs::Permissions::from_mode(0o700)).expect("ours");
    let message = refusal(agent.command("agent"));
    assert!(message.contains("user 65534 cannot enter") && message.contains("/var/lib/springtide"), "{message}");
}

#[tokio::test]
async fn without_permission_for_cgroups_it_says_what_to_grant() {
    use std::os::unix::process::CommandExt;
    let listener = Listener::start().await;
    let agent = Agent::new(&listener, "auto");
    std::os::unix::fs::chown(agent.dir.path(), Some(65_534), Some(65_534)).expect("we are root");
    let log = std::fs::File::create(agent.dir.path().join("agent.log")).expect("ours");
    std::os::unix::fs::fchown(&log, Some(65_534), Some(65_534)).expect("we are root");
    // The build folder may be closed to nobody: a copy is not.
    let program = agent.dir.path().join("springtide-agent");
    std::fs::copy(env!("CARGO_BIN_EXE_springtide-agent"), &program).expect("built");
    let template = agent.command("agent");
    let mut command = std::process::Command::new(program);
    command.args(template.get_args()).env("SPRINGTIDE_TOKEN", "secret").uid(65_534).gid(65_534);
    let message = refusal(command);
    assert!(message.contains("may not make the cgroup") && message.contains("Delegate=yes"), "{message}");
    assert!(message.contains("--isolation none"), "{message}");
}

/// The agent below `wrap`, a shell script in a mount namespace of its own, with another cgroup root.
fn in_namespace(agent: &Agent, wrap: &str, root: &str) -> std::process::Command {
    let template = agent.command("agent");
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "sh", "-ec", &format!("{wrap}; exec \"$@\""), "sh"]);
    command.arg(template.get_program()).args(template.get_args()).args(["--cgroup-root", root]);
    command.env("SPRINGTIDE_TOKEN", "secret").stdin(std::process::Stdio::null());
    command
}

#[tokio::test]
async fn an_unusable_cgroup_tree_is_named_with_what_to_do() {
    let listener = Listener::start().await;
    let agent = Agent::new(&listener, "auto");
    let read_only = "awk '$0 ~ / - cgroup2? / {print $5}' /proc/self/mountinfo | while read at; do mount -o remount,bind,ro \"$at\"; done";
    let over = "mount -t tmpfs none /sys/fs/cgroup";
    let cases: [(&str, &str, &[&str]); 3] = [
        // A file stands where the folder is to be made.
        ("true", "cgroup.procs/x", &["cannot make the cgroup /sys/fs/cgroup/", "cgroup.procs/x", "--cgroup-root"]),
        (read_only, "springtide-it/ro", &["may not make the cgroup /sys/fs/cgroup/", "Read-only", "Delegate=yes"]),
        // Hidden, it would take folders and limit nothing.
        (over, "springtide-it/hidden", &["/sys/fs/cgroup", "is no cgroup hierarchy", "umount"]),
    ];
    for (wrap, root, wanted) in cases {
        let message = refusal(in_namespace(&agent, wrap, root));
        for part in wanted.iter().chain(&["--isolation none"]) {
            assert!(message.contains(part), "{part:?} is not in: {message}");
        }
    }
    let left: Vec<_> =
        std::fs::read_dir("/sys/fs/cgroup").expect("there").flatten().map(|entry| entry.path()).collect();
    for hierarchy in left {
        for root in ["springtide-it/ro", "springtide-it/hidden"] {
            assert!(!hierarchy.join(root).exists(), "{} was left behind", hierarchy.join(root).display());
        }
    }
}
