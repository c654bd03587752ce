//! The client commands: what they are called, what they take, and how they end.
//!
//! Exit codes: 0 done; 1 refused, failed or short; 2 wrong usage or wrong manifests; 3 no server answers; 130 stopped by Ctrl-C.

mod apply;
mod backup;
mod connect;
mod curve;
mod doctor;
mod failure;
mod get;
mod incident;
mod kind;
mod load;
mod logs;
mod manifests;
mod nearest;
mod operation;
mod output;
mod pack;
mod progress;
mod protect;
mod query;
mod simulate;
mod size;
mod tables;
mod top;
mod which;

use clap::Subcommand;
use failure::Failure;
use std::process::ExitCode;

/// Commands that talk to a server.
#[derive(Subcommand)]
pub enum Command {
    Plan(apply::PlanArgs),
    Apply(apply::ApplyArgs),
    Delete(apply::DeleteArgs),
    Get(get::GetArgs),
    Describe(get::DescribeArgs),
    Top(top::Args),
    Query(query::Args),
    Logs(logs::Args),
    Scale(operation::ScaleArgs),
    Drain(operation::DrainArgs),
    Undrain(operation::UndrainArgs),
    Stress(curve::StressArgs),
    Curve(curve::CurveArgs),
    Size(size::Args),
    #[command(subcommand)]
    Protect(protect::Command),
    #[command(subcommand)]
    Incident(incident::Command),
    #[command(subcommand)]
    Operation(operation::Command),
    Load(load::Args),
    Simulate(simulate::Args),
    Audit(get::AuditArgs),
    Backup(backup::BackupArgs),
    Restore(backup::RestoreArgs),
    Doctor(doctor::Args),
}

/// Runs a command; what went wrong is on stderr.
pub fn run(command: Command) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(dispatch(command)),
        Err(error) => Err(Failure::Local(format!("cannot start the async runtime: {error}"))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.report();
            ExitCode::from(failure.code())
        }
    }
}

async fn dispatch(command: Command) -> Result<(), Failure> {
    match command {
        Command::Plan(args) => apply::plan(args).await,
        Command::Apply(args) => apply::apply(args).await,
        Command::Delete(args) => apply::delete(args).await,
        Command::Get(args) => get::get(args).await,
        Command::Describe(args) => get::describe(args).await,
        Command::Top(args) => top::top(args).await,
        Command::Query(args) => query::query(args).await,
        Command::Logs(args) => logs::logs(args).await,
        Command::Scale(args) => operation::scale(args).await,
        Command::Drain(args) => operation::drain(args).await,
        Command::Undrain(args) => operation::undrain(args).await,
        Command::Stress(args) => curve::stress(args).await,
        Command::Curve(args) => curve::show(args).await,
        Command::Size(args) => size::size(args).await,
        Command::Protect(command) => protect::run(command).await,
        Command::Incident(command) => incident::run(command).await,
        Command::Operation(command) => operation::run(command).await,
        Command::Load(args) => load::load(args).await,
        Command::Simulate(args) => simulate::simulate(args).await,
        Command::Audit(args) => get::audit(args).await,
        Command::Backup(args) => backup::backup(args).await,
        Command::Restore(args) => backup::restore(args),
        Command::Doctor(args) => doctor::doctor(args).await,
    }
}
