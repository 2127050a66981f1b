//! The command. The only place where adapters, probes and sinks are wired together; whatever is worth
//! testing alone lives elsewhere.

mod args;
mod chaos;
mod config;
mod copies;
mod digest;
mod memory;
mod pipeline;
mod restore_test;
mod sinks;
mod state;
mod stop;
mod sweep;
mod verdicts;

use std::panic::catch_unwind;
use std::process::ExitCode;

use clap::Parser as _;
use firedrill_core::error::{Error, ErrorKind};
use firedrill_core::verdict::Exit;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use args::{Cli, Command};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // `--help` and `--version` come this way, too.
            let code = if error.use_stderr() { Exit::Usage.code() } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    start_logging(cli.verbose);
    // A panic is our bug and has an exit code of its own; its message went to standard error.
    let exit = catch_unwind(|| run(cli.command, cli.verbose)).unwrap_or(Exit::Internal);
    ExitCode::from(exit.code())
}

fn run(command: Command, verbose: u8) -> Exit {
    let result = match command {
        Command::RestoreTest(args) => restore_test::restore_test(*args),
        Command::Judge(args) => verdicts::judge(&args),
        Command::Report(args) => verdicts::report(&args),
        Command::Chaos(args) => chaos::chaos(&args),
        Command::Faults(args) => chaos::faults(&args),
        Command::Digest(args) => digest::digest(args),
        Command::Accept(args) => memory::accept(&args),
        Command::Baselines(args) => memory::baselines(&args),
        Command::Serve(args) => pipeline::serve::serve(&args, verbose),
        Command::Run(args) => pipeline::run::run(&args),
        Command::Jobs(args) => pipeline::jobs::jobs(&args),
        Command::Init(args) => pipeline::init::init(&args),
        Command::Backup(args) => pipeline::backup::backup(&args),
        Command::Sweep(args) => sweep::sweep(&args),
        Command::Config(args) => config::config(&args),
    };
    result.unwrap_or_else(|error| {
        complain(&error);
        exit_of(&error)
    })
}

/// What the command could not do, on standard error.
#[expect(clippy::print_stderr, reason = "the command talks to a person here")]
pub(crate) fn complain(error: &Error) {
    eprintln!("firedrill: {}", firedrill_core::secret::redact_urls(&error.chain()));
}

/// A line for a person on standard error.
#[expect(clippy::print_stderr, reason = "the command talks to a person here")]
pub(crate) fn note(line: impl AsRef<str>) {
    eprintln!("firedrill: {}", line.as_ref());
}

/// The product of a command, on standard output. A reader that went away is not our trouble.
pub(crate) fn print(text: &str) {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn exit_of(error: &Error) -> Exit {
    match error.kind {
        ErrorKind::Usage => Exit::Usage,
        ErrorKind::Internal => Exit::Internal,
        ErrorKind::Unavailable
        | ErrorKind::WrongPassword
        | ErrorKind::NoRepository
        | ErrorKind::Scratch
        | ErrorKind::Unsealed
        | ErrorKind::Timeout
        | ErrorKind::Cancelled => Exit::Inconclusive,
    }
}

fn start_logging(verbose: u8) {
    let level = match verbose {
        0 => tracing::Level::WARN,
        1 => tracing::Level::INFO,
        2 => tracing::Level::DEBUG,
        _ => tracing::Level::TRACE,
    };
    // Libraries below us log requests with their credentials at finer levels.
    let ours = Targets::new().with_default(tracing::Level::WARN).with_targets(
        ["firedrill", "firedrill_core", "firedrill_backends", "firedrill_reports", "firedrill_scenarios"]
            .map(|name| (name, level)),
    );
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).without_time();
    tracing_subscriber::registry().with(layer.with_filter(ours)).init();
}
