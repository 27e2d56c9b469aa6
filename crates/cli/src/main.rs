//! The program `tapline`: flags, texts and exit codes around the crates of the layers below.
//!
//! **What it is not.** It holds no logic that another program would want; a second program over the
//! same crates would differ in nothing but this one.
//!
//! **Start at** [`args::Args`], then the command of interest.
//!
//! **Layer.** 5, the top layer.

// In reading order.
mod args;
mod units;

mod serve;
mod gateway;
mod sinks;
mod demo;
mod chromium;
mod site;
mod record;
mod replay;
mod player;
mod publish;
mod tail;
mod archive;
mod line;
mod template;
mod export;
mod session;
mod view;
mod why;
mod requests;
mod diff;
mod run;
mod top;
mod doctor;
mod manual;
mod mcp;
mod inputs;
mod misspelt;
mod selection;
mod redaction;
mod figures;

mod token;
mod reload;
mod files;
mod signals;
mod output;
mod failure;

use std::io;
use std::process::ExitCode;
use std::thread;

use clap::Parser;
use tokio::runtime::{Builder, Runtime};

use args::{Args, Command};
use failure::{Failure, say};

/// An event is seldom freed by the thread that allocated it. This allocator is fast in that case.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// One thread where there is one processor: more threads would only add the cost of sharing work.
fn runtime() -> io::Result<Runtime> {
    let alone = thread::available_parallelism().is_ok_and(|processors| processors.get() == 1);
    let mut builder = if alone {
        Builder::new_current_thread()
    } else {
        Builder::new_multi_thread()
    };
    builder.enable_all().build()
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::Runtime(error).report(),
    };
    for note in misspelt::notes(args.command.types()) {
        say(&note);
    }
    let done = runtime.block_on(async {
        match args.command {
            Command::Why(args) => return why::run(args).await,
            Command::Diff(args) => return diff::run(args).await,
            Command::Run(args) => return run::run(args).await,
            Command::Doctor(args) => return doctor::run(args).await,
            Command::Wait(args) => return session::wait(args).await,
            Command::Serve(args) => serve::run(args).await,
            Command::Gateway(args) => gateway::run(args).await,
            Command::Demo(args) => demo::run(args).await,
            Command::Status(args) => session::status(args).await,
            Command::Start(args) => session::start(args).await,
            Command::Stop(args) => session::stop(args).await,
            Command::Top(args) => top::run(args).await,
            Command::Requests(args) => requests::run(args).await,
            Command::Mcp(args) => mcp::run(args).await,
            Command::Publish(args) => publish::run(args).await,
            Command::Tail(args) => tail::run(args).await,
            Command::Export(args) => export::run(args).await,
            Command::View(args) => view::run(args).await,
            Command::Record(args) => record::run(args).await,
            Command::Replay(args) => replay::run(args).await,
            Command::Archive(args) => archive::run(args.command),
            Command::Completions(args) => manual::completions(&args),
            Command::Man(args) => manual::man(&args),
        }
        .map(|()| ExitCode::SUCCESS)
    });
    // A thread may be blocked in reading standard input: do not wait for it.
    runtime.shutdown_background();
    done.unwrap_or_else(|failure| failure.report())
}
