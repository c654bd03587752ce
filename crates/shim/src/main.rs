//! The program `springtide-shim`: keeps one instance. Everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    shim::main(std::env::args_os().skip(1))
}
