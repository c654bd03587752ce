//! Death at every commit of a scale-out: a real process, killed by its failpoint, and another that goes on.
//! Effects are counted at the agents, never in the server's own journal.

use crate::agent::Agent;
use crate::harness::{apply_pay, config, socket, until};
use api::client::{Address, Client};
use model::OperationPhase;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

/// Names the data folder for the child.
const DATA: &str = "SPRINGTIDE_TEST_DATA";
/// Commits that a scale-out cannot have more of.
const COMMITS_MAX: u64 = 60;
/// Servers at work at the same time.
const AT_ONCE: usize = 4;
/// Instances in each datacenter.
const EACH: u32 = 2;

/// Not a test by itself: the process that dies.
#[test]
#[ignore = "started by the crash tests as a process of its own"]
fn serve() {
    let data = std::env::var(DATA).expect("started by a crash test");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(server::run(config(Path::new(&data)))).expect("it serves until it is told to stop");
}

pub struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have died already, as it should.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn start(data: &Path, failpoint: Option<&str>) -> Process {
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command.args(["crash::serve", "--exact", "--ignored", "--nocapture"]).env(DATA, data);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if let Some(failpoint) = failpoint {
        command.env(server::FAILPOINT_VARIABLE, failpoint);
    }
    Process(command.spawn().expect("a child"))
}

pub async fn ready(client: &Client) {
    until("a server", || async { client.status().await.ok() }).await;
}

/// Whether the scale-out has come to its end.
async fn done(client: &Client) -> Option<()> {
    let operations = client.operations().await.ok()?;
    let services = client.services().await.ok()?;
    let pay = services.iter().find(|at| at.name == "pay")?;
    (pay.healthy == 2 * EACH && !operations.is_empty() && operations.iter().all(|at| at.phase.is_final())).then_some(())
}

/// One life and death at `point`; says whether it died.
async fn dies_at(point: String) -> bool {
    let data = tempfile::tempdir().expect("a folder");
    let first = Mutex::new(start(data.path(), Some(&point)));
    let client = Client::new(&Address::Socket(socket(data.path())));
    ready(&client).await;
    let agents = Agent::fleet(2, data.path());
    let apply = tokio::spawn({
        let client = client.clone();
        async move { apply_pay(&client, EACH, EACH).await }
    });
    let gone = || first.lock().expect("no panic").0.try_wait().expect("a child of ours").is_some();
    let died = until("death or the end", || async {
        match gone() {
            true => Some(true),
            false => done(&client).await.map(|()| false),
        }
    })
    .await;
    // An apply that was cut off is an error to its caller, who applies again.
    let _ = apply.await;
    if died {
        *first.lock().expect("no panic") = start(data.path(), None);
        ready(&client).await;
        apply_pay(&client, EACH, EACH).await;
        until(&format!("the end after {point}"), || done(&client)).await;
    }
    check(&client, &agents, &point).await;
    drop(first);
    died
}

async fn check(client: &Client, agents: &[Agent], point: &str) {
    for operation in client.operations().await.expect("listed") {
        assert_eq!(operation.phase, OperationPhase::Succeeded, "{point}: {:?}", operation.failures);
        assert!(client.report(operation.id.as_str()).await.is_ok(), "{point}: no report");
    }
    let placed: BTreeSet<String> =
        client.instances(None, None).await.expect("listed").iter().map(|at| at.instance.to_string()).collect();
    let running: BTreeSet<String> = agents.iter().flat_map(Agent::running).collect();
    assert_eq!((placed.len(), &running), (2 * EACH as usize, &placed), "{point}");
    for agent in agents {
        let seen = agent.seen.lock().expect("no panic");
        assert!(seen.starts.values().all(|starts| *starts == 1), "{point}: {:?}", seen.starts);
        assert!(seen.stops.is_empty(), "{point}: {:?}", seen.stops);
    }
    let audit = client.audit(0, 1_000).await.expect("listed");
    assert_eq!(audit.iter().filter(|entry| entry.what == "Service pay").count(), 1, "{point}: audited once");
    assert!(audit.iter().any(|entry| entry.what == "operation op-1"), "{point}");
}

async fn dies_everywhere(point: &str) {
    let mut deaths = 0;
    for from in (1..=COMMITS_MAX).step_by(AT_ONCE) {
        let runs = (from..from + AT_ONCE as u64).map(|at| tokio::spawn(dies_at(format!("{point}:{at}"))));
        let runs: Vec<_> = runs.collect();
        let mut survived = false;
        for run in runs {
            match run.await.expect("no panic") {
                true => deaths += 1,
                false => survived = true,
            }
        }
        if survived {
            assert!(deaths >= 4, "only {deaths} places to die at");
            return;
        }
    }
    panic!("a scale-out of more than {COMMITS_MAX} commits");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_scale_out_survives_death_before_each_commit() {
    dies_everywhere("commit").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_scale_out_survives_death_after_each_commit() {
    dies_everywhere("committed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_scale_out_survives_death_before_each_record() {
    dies_everywhere("record").await;
}

/// More than one transaction takes, and a death at some moment in it: afterwards all of it is there, or nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_apply_survives_death_at_any_moment() {
    const REGIONS: usize = 1_500;
    let text: String = (0..REGIONS).map(|n| format!("---\nkind: Region\nname: r{n}\n")).collect();
    let files = crate::harness::request(&[("r.yaml", text)]);
    for after_ms in [5_u64, 20, 40, 60, 90, 130, 200] {
        let data = tempfile::tempdir().expect("a folder");
        let first = start(data.path(), None);
        let client = Client::new(&Address::Socket(socket(data.path())));
        ready(&client).await;
        let apply = tokio::spawn({
            let (client, files) = (client.clone(), files.clone());
            async move { client.apply(&files).await.is_ok() }
        });
        // Not a wait for anything: it chooses the moment of death.
        tokio::time::sleep(std::time::Duration::from_millis(after_ms)).await;
        drop(first);
        let told = apply.await.expect("no panic");
        let _second = start(data.path(), None);
        ready(&client).await;
        let there = client.resources("Region").await.expect("listed").len();
        assert!(there == REGIONS || there == 0 && !told, "{there} after {after_ms} ms");
        client.apply(&files).await.expect("applied again");
        assert_eq!(client.resources("Region").await.expect("listed").len(), REGIONS);
        let mut audited = Vec::new();
        while let Some(last) = client.audit(audited.len() as u64, 1_000).await.ok().filter(|page| !page.is_empty()) {
            audited.extend(last);
        }
        assert_eq!(audited.len(), REGIONS, "each change is audited once, after {after_ms} ms");
    }
}
