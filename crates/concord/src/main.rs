//! The command line of Concord. Installs the one TLS provider, starts the runtime, and turns what a command says into an
//! exit code. Knows no command by itself: see `cli`.

mod absent;
mod ageing;
mod answers;
mod approval;
mod cli;
mod control;
mod demo;
mod exit;
mod files;
mod keeping;
mod kept_log;
mod leftovers;
mod logging;
mod metrics;
mod patience;
mod progress;
mod redirect;
mod release;
mod remarks;
mod rights;
mod secrets;
mod setup;
mod signals;
mod supervise;
mod terminal;
#[cfg(test)]
mod trial;
mod waiting;

use std::process::ExitCode;

/// Records are many small pieces of memory, made on one thread and let go on another.
#[cfg(unix)]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    // Before anything can open a connection: another crate would install a provider of its own choice.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        eprintln!("a TLS provider was installed before ours");
        return ExitCode::FAILURE;
    }
    let cli = match cli::parse() {
        Ok(cli) => cli,
        Err(exit) => return exit.into(),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("the runtime cannot be started: {error}");
            return exit::Exit::Environment.into();
        }
    };
    let exit = runtime.block_on(cli::run(cli));
    // What still blocks (a DNS look-up, a read of standard input) does not keep the process.
    runtime.shutdown_background();
    exit.into()
}
