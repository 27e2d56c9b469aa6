//! The program `tapline`: flags, words and exit codes around what the floors below can do.
//!
//! **What it is not.** It holds no logic that another program would want; a second program over the
//! same crates would differ in nothing but this one.
//!
//! **Start at** [`args::Args`], then the command of interest.
//!
//! **Layer.** Floor 5, the roof.

// In reading order.
mod args;
mod units;

mod serve;
mod demo;
mod publish;
mod tail;
mod line;

mod signals;
mod failure;

use std::process::ExitCode;

use clap::Parser;

use args::{Args, Command};
use failure::Failure;

/// An event is freed by whichever thread comes by, seldom by the one that made it: that is what this
/// allocator is good at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::Runtime(error).tell(),
    };
    let done = runtime.block_on(async {
        match args.command {
            Command::Serve(args) => serve::run(args).await,
            Command::Demo(args) => demo::run(args).await,
            Command::Publish(args) => publish::run(args).await,
            Command::Tail(args) => tail::run(args).await,
        }
    });
    // A thread may wait for standard input for as long as nobody types; nobody waits for it.
    runtime.shutdown_background();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(),
    }
}
