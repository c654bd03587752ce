//! The generator against a real server of known behaviour, on a thread of its own in this process.

mod counting;
mod server;
mod timing;

/// For what is only true of a machine that does not stand still meanwhile: one run of three must show it.
fn one_of_three(run: impl Fn() + std::panic::RefUnwindSafe) {
    let shown = (0..2).any(|_| std::panic::catch_unwind(&run).is_ok());
    if !shown {
        run();
    }
}
