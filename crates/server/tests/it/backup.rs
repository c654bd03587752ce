//! From a running server to a file and back: a restored control plane meets the fleet that went on meanwhile.

use crate::agent::Agent;
use crate::harness::{Server, apply_pay, config, settled, socket, until};
use api::client::{Address, Client};
use api::http::{OperationRequest, StepRequest};
use model::OperationPhase;
use server::restore::{Error, restore, verify};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Names what a child is to restore, and where.
const CHILD: &str = "SPRINGTIDE_TEST_RESTORE";

async fn save(client: &Client, path: &Path) {
    save_with(client, path, false).await;
}

async fn save_with(client: &Client, path: &Path, metrics: bool) {
    let mut answer = client.backup(metrics).await.expect("a backup");
    let mut file = std::fs::File::create(path).expect("a file");
    while let Some(piece) = answer.chunk().await.expect("it comes whole") {
        file.write_all(&piece).expect("written");
    }
}

fn scale(to: u32) -> OperationRequest {
    OperationRequest::Scale { service: "pay".to_owned(), to: Some(to), instances: BTreeMap::new() }
}

async fn scaled(client: &Client, to: u32) -> String {
    let id = client.open_operation(&scale(to)).await.expect("opened").id.to_string();
    // There is no traffic to judge by, and a fresh server waits long for some.
    let gray = StepRequest { step: Some("gray".to_owned()), target: None };
    client.steer_step(&id, "skip", &gray).await.expect("skipped");
    until("the end", || async {
        let operation = client.operation(&id).await.ok()?;
        (operation.phase == OperationPhase::Succeeded).then_some(())
    })
    .await;
    settled(client, "pay", to).await;
    id
}

fn running(agents: &[Agent]) -> BTreeSet<String> {
    agents.iter().flat_map(Agent::running).collect()
}

async fn all_connected(client: &Client) {
    until("all agents and a settled server", || async {
        client.status().await.ok().filter(|status| status.hosts_connected == 4 && status.settled)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_server_lets_the_fleet_go_on_and_numbers_go_on_behind_it() {
    let mut server = Server::start().await;
    let client = server.client();
    apply_pay(&client, 2, 2).await;
    let agents = Agent::fleet(2, server.data.path());
    settled(&client, "pay", 4).await;
    let file = server.data.path().with_extension("backup");
    save(&client, &file).await;
    let before = running(&agents);
    let about = verify(&file).expect("is whole");
    assert!(about.keys > 10 && about.records["audit"] > 10 && about.blobs.len() == 1, "{about:?}");
    assert!(about.files.contains(&"fleet-token".to_owned()), "{about:?}");

    let data = server.data.path().to_owned();
    let busy = restore(&file, &data, true, 1).expect_err("a server runs on it");
    assert!(matches!(busy, Error::InUse { .. }), "{busy}");
    server.stop().await;
    let kept = restore(&file, &data, false, 1).expect_err("is not empty");
    assert!(matches!(kept, Error::NotEmpty { .. }) && kept.to_string().contains("--force"), "{kept}");
    let restored = restore(&file, &data, true, 1_800_000_000_000).expect("restores");
    let aside = restored.aside.expect("there was something");
    assert!(aside.join("store.redb").is_file() && data.join("restored.json").is_file());
    server.restart_stopped().await;
    let client = server.client();
    all_connected(&client).await;
    settled(&client, "pay", 4).await;
    assert_eq!(running(&agents), before);
    for agent in &agents {
        let seen = agent.seen.lock().expect("no panic");
        assert!(seen.starts.values().all(|starts| *starts == 1) && seen.stops.is_empty(), "{:?}", seen.stops);
    }

    // The fleet knows more than a backup: two instances and an operation that came after it.
    let later = scaled(&client, 6).await;
    assert_eq!(later, "op-2");
    let known = running(&agents);
    server.stop().await;
    let again = restore(&file, &data, true, 1_800_000_001_000).expect("restores");
    assert!(again.aside.is_some_and(|path| path != aside));
    server.restart_stopped().await;
    let client = server.client();
    all_connected(&client).await;
    settled(&client, "pay", 4).await;
    until("what the backup does not know to be gone", || async { (running(&agents) == before).then_some(()) }).await;
    let operation = scaled(&client, 6).await;
    assert_eq!(operation, "op-2", "its report died with the old folder, so the number is free");
    let fresh: BTreeSet<String> = running(&agents).difference(&before).cloned().collect();
    assert_eq!(fresh.len(), 2);
    assert!(known.is_superset(&before));
    server.stop().await;

    let new = server.data.path().with_extension("new");
    restore(&file, &new.join("fleet/server"), false, 1).expect("makes the folders above it");
    let mode = |path: &Path| std::fs::metadata(path).expect("is there").permissions().mode() & 0o777;
    std::fs::create_dir(new.join("usual")).expect("a folder");
    assert_eq!(mode(&new.join("fleet")), mode(&new.join("usual")), "others may pass through");
    assert_eq!(mode(&new.join("fleet/server")), 0o700);
    std::fs::remove_dir_all(&new).expect("is there");
    for path in [aside, file] {
        // Beside the test's own folder, which takes itself away.
        let _ = std::fs::remove_dir_all(&path).or_else(|_| std::fs::remove_file(&path));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_with_metrics_has_the_series_of_the_hour_that_runs() {
    let server = Server::start().await;
    let client = server.client();
    let matcher = metrics::store::Matcher::name("springtide_server_agents");
    let asked = [("query", "springtide_server_agents".to_owned())];
    until("a series", || async {
        let answer = client.prometheus("query", &asked).await.ok()?;
        answer["result"].as_array().filter(|series| !series.is_empty()).map(|_| ())
    })
    .await;
    let home = tempfile::tempdir().expect("a folder");
    let (without, with) = (home.path().join("without.backup"), home.path().join("with.backup"));
    save(&client, &without).await;
    assert_eq!(verify(&without).expect("is whole").series, None);
    save_with(&client, &with, true).await;
    let span = verify(&with).expect("is whole").series.expect("there are series");
    assert!(span.from <= span.to);
    let data = home.path().join("data");
    restore(&with, &data, false, 1).expect("restores");
    let series = metrics::Store::open(&data.join("metrics"), metrics::store::Limits::default()).expect("opens");
    let found = series.select(&[matcher], span.from, span.to).expect("few");
    assert!(!found[0].points.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_is_not_whole_changes_nothing() {
    let mut server = Server::start().await;
    let client = server.client();
    apply_pay(&client, 1, 1).await;
    let home = tempfile::tempdir().expect("a folder");
    let file = home.path().join("a.backup");
    save(&client, &file).await;
    server.stop().await;
    let whole = std::fs::read(&file).expect("reads");
    let data = home.path().join("data");
    std::fs::write(&file, &whole[..whole.len() - 7]).expect("writes");
    let cut = restore(&file, &data, false, 1).expect_err("is cut short").to_string();
    assert!(cut.contains("a.backup is no whole backup") && cut.contains("nothing was changed"), "{cut}");
    assert!(!data.exists());
    std::fs::write(&file, &whole).expect("writes");
    let mount = restore(&file, Path::new("/proc"), true, 1).expect_err("a mount point").to_string();
    assert!(mount.contains("mount point"), "{mount}");
    std::fs::create_dir(&data).expect("an empty folder");
    assert_eq!(restore(&file, &data, false, 1).expect("an empty folder will do").aside, None);
    let handle = server::start(config(&data)).await.expect("starts");
    let client = Client::new(&Address::Socket(socket(&data)));
    assert_eq!(client.services().await.expect("listed")[0].name, "pay");
    handle.stop().await.expect("stops well");
}

/// Not a test by itself: the process that is killed while it restores.
#[test]
#[ignore = "started by the test below as a process of its own"]
fn restoring() {
    let place = PathBuf::from(std::env::var(CHILD).expect("started by a test"));
    let now = std::process::id().into();
    restore(&place.join("a.backup"), &place.join("data"), true, now).expect("restores");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_killed_at_any_moment_leaves_the_old_or_the_new() {
    let mut server = Server::start().await;
    let client = server.client();
    apply_pay(&client, 1, 1).await;
    // Bytes enough that there is time to be killed in.
    let blob: Vec<u8> = (0..4_000_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let digest = model::Digest::of(&blob);
    client.put_package(digest.as_str(), blob).await.expect("uploaded");
    let package = format!("kind: Package\nname: big\nversion: '1'\ndigest: {digest}\ncommand: [big]\n");
    client.apply(&crate::harness::request(&[("big.yaml", package)])).await.expect("applied");
    let home = tempfile::tempdir().expect("a folder");
    save(&client, &home.path().join("a.backup")).await;
    server.stop().await;
    let data = home.path().join("data");
    std::fs::create_dir(&data).expect("a folder");
    std::fs::write(data.join("old"), "it is").expect("written");
    let (mut old, mut new) = (0, 0);
    for delay_ms in (0..40).map(|n| n * 25).chain((1..9).map(|n| n * 1_000)) {
        let mut child = Command::new(std::env::current_exe().expect("this binary"))
            .args(["backup::restoring", "--exact", "--ignored"])
            .env(CHILD, home.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a child");
        // The moment of the kill is what is tried out, not waited for.
        tokio::time::sleep(std::time::Duration::from_millis(delay_ms)).await;
        child.kill().expect("killed, or over");
        child.wait().expect("is gone");
        match data.join("old").is_file() {
            true => old += 1,
            false => {
                new += 1;
                let handle = server::start(config(&data)).await.expect("the new one is whole");
                handle.stop().await.expect("stops well");
            }
        }
        assert!(data.join("old").is_file() || data.join("store.redb").is_file(), "after {delay_ms} ms");
        if new >= 2 {
            break;
        }
    }
    assert!(old > 0 && new > 0, "{old} old, {new} new");
}
