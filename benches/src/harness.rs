//! Tapline beside its rivals: the same events, in one run, taking turns.
//!
//! A *cell* is a number of producers, a number of readers, and what those readers do (a mode). For each cell
//! every rival that can do it is opened, filled, and given a *slice* of time in turn, A B C A B C …, for some rounds:
//! what else the machine does hits all of them alike. A figure is the median of the rounds, and the table
//! shows the lowest and the highest beside it. A ratio is the median of the ratios of each round.
//!
//! What the harness costs by itself is measured in the same run as if it were a rival, and taken off
//! in ratios; figures in columns are as measured.
//!
//! Before the cells, a run says which machine it is on and what that takes for the primitives of such work. The aims at the end
//! have ratios to both, so that they can be held against another machine's.

mod aims;
mod cell;
pub mod clock;
mod fixture;
mod histogram;
mod machine;
mod options;
mod primitives;
mod readers;
mod results;
mod sample;
mod summary;

use std::fs::File;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Instant;

use aims::Aims;
use cell::Cell;
use fixture::Fixture;
use machine::Machine;
use options::{Options, Request};
use primitives::Primitives;
use results::{Measured, Results};

/// Runs what the arguments of the process ask for. 0 where it has measured, 1 where it could not, 2 where the
/// arguments were not understood.
#[must_use]
pub fn main(arguments: impl Iterator<Item = String>) -> ExitCode {
    let options = match options::parse(arguments) {
        Ok(Request::Help) => {
            print!("{}", options::HELP);
            return ExitCode::SUCCESS;
        }
        Ok(Request::Run(options)) => options,
        Err(mistake) => {
            eprintln!("rivals: {mistake}\nThe options: --help");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rivals: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> io::Result<()> {
    let begin = Instant::now();
    // Opened before anything is measured: a path that cannot be written is reported at once.
    let mut lines = options.lines.as_ref().map(File::create).transpose()?;
    let mut summary = options.summary.as_ref().map(File::create).transpose()?;
    let machine = Machine::look();
    println!("{}", machine.table());
    let primitives = Primitives::measure();
    println!("{}", primitives.table());

    let cells = cell::plan(options);
    println!("{}\n", results::HOW_TO_READ);
    println!(
        "{} cells; events: {}; {} rounds, {:?} for each rival in each cell",
        cells.len(),
        options.events.name(),
        options.rounds,
        options.time,
    );

    let mut results = Results::default();
    if let Some(lines) = &mut lines {
        writeln!(lines, "{}", results::line_of_names())?;
    }
    for cell in &cells {
        measure(cell, options, &mut results);
        print!("\n{}", results.table(cell));
        if let Some(lines) = &mut lines {
            let of_cell: String = results.of(cell).map(Measured::lines).collect();
            lines.write_all(of_cell.as_bytes())?;
        }
    }
    let aims = Aims::of(&machine, &primitives, &results);
    println!("\n{}", aims.table());
    if let Some(summary) = &mut summary {
        summary.write_all(summary::lines(&machine, &primitives, &aims).as_bytes())?;
    }
    println!("took {:.0?}", begin.elapsed());
    Ok(())
}

/// All the rivals in one cell, round by round.
fn measure(cell: &Cell, options: &Options, results: &mut Results) {
    let mut running: Vec<(Box<dyn Fixture>, Measured)> = Vec::new();
    for rival in cell.mode.rivals() {
        if !options.wants(rival.name) {
            continue;
        }
        match (rival.open)(cell, options.events) {
            Ok(fixture) => running.push((fixture, Measured::new(cell, rival.name))),
            Err(reason) => results.leave_out(cell, rival.name, reason),
        }
    }
    let slice = options.time / options.rounds;
    for _ in 0..options.rounds {
        for (fixture, measured) in &mut running {
            measured.rounds.push(fixture.slice(slice));
        }
    }
    results.extend(running.into_iter().map(|(_, measured)| measured));
}
