//! The parts that are calls of cargo and nothing else.

use std::env;
use std::thread;

use crate::asan;
use crate::cargo::{Cargo, Metadata};
use crate::failure::{Failure, Outcome};
use crate::fuzz;
use crate::options::Options;

/// The fuzz targets are a workspace of their own, which no `--all` and no `--workspace` reaches.
pub(crate) fn fmt(_: &Options) -> Outcome {
    Cargo::new("fmt --all --check").run()?;
    Cargo::new("fmt --check --manifest-path")
        .and(&[fuzz::MANIFEST.to_owned()])
        .run()
}

/// Of the fuzz targets the library alone, which is all but one line of each: the rest needs their engine.
pub(crate) fn clippy(_: &Options) -> Outcome {
    Cargo::new("clippy --workspace --all-targets -- -D warnings").run()?;
    let target = Metadata::of_workspace()?.target_directory;
    let call = format!(
        "clippy --locked --manifest-path {} --lib -- -D warnings",
        fuzz::MANIFEST
    );
    Cargo::new(&call)
        .with("CARGO_TARGET_DIR", target.to_string_lossy())
        .run()
}

pub(crate) fn loom(options: &Options) -> Outcome {
    let preemptions = env::var("LOOM_MAX_PREEMPTIONS").unwrap_or_else(|_| "2".to_owned());
    loom_with(&preemptions, options)
}

pub(crate) fn loom_with(preemptions: &str, options: &Options) -> Outcome {
    models("loom", &["ring", "telemetry"], options, |call| {
        call.with("LOOM_MAX_PREEMPTIONS", preemptions)
    })
}

pub(crate) fn shuttle(options: &Options) -> Outcome {
    shuttle_with(None, options)
}

/// With so many schedules of each test, or as many as the environment or the tests say.
pub(crate) fn shuttle_with(schedules: Option<&str>, options: &Options) -> Outcome {
    models("shuttle", &["ring"], options, |call| match schedules {
        Some(schedules) => call.with("TAPLINE_SCHEDULES", schedules),
        None => call,
    })
}

/// All models of that kind, or those that the arguments choose. Optimized, since there are many schedules; in the profile of
/// tests, so that macros and build scripts are shared with them.
fn models(kind: &str, of: &[&str], options: &Options, set: impl FnOnce(Cargo) -> Cargo) -> Outcome {
    let packages: String = of
        .iter()
        .map(|of| format!(" --package tapline-{of}"))
        .collect();
    let call = Cargo::new(&format!("test{packages} --test {kind}"))
        .built_with(&format!("--cfg {kind}"))?
        .with("CARGO_PROFILE_DEV_OPT_LEVEL", "2")
        .with("CARGO_PROFILE_DEV_DEBUG", "line-tables-only");
    let models = set(call);
    expect_tests(&models)?;
    models.and(&options.rest).run()
}

pub(crate) fn openapi(options: &Options) -> Outcome {
    let mut comparison = Cargo::new("test --package tapline-oapi --test it openapi");
    if options.write {
        comparison = comparison.with("TAPLINE_WRITE_GOLDEN", "1");
    }
    expect_tests(&comparison)?;
    comparison.run()
}

pub(crate) fn doctest(_: &Options) -> Outcome {
    Cargo::new("test --workspace --doc").run()
}

/// Neither `--all-targets`, which would run the benches, nor up to the first binary that fails: one run reports all.
/// Most tests wait for timers and sockets, so more of them run at a time than there are processors.
pub(crate) fn test(_: &Options) -> Outcome {
    let mut tests = Cargo::new("test --workspace --lib --bins --tests --examples --no-fail-fast");
    if env::var_os("RUST_TEST_THREADS").is_none() {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        tests = tests.with("RUST_TEST_THREADS", (2 * processors).to_string());
    }
    // CI tries the same inputs for the same commit; at other times each run tries others.
    if env::var_os("CI").is_some() && env::var_os("PROPTEST_RNG_SEED").is_none() {
        tests = tests.with("PROPTEST_RNG_SEED", "1");
    }
    tests.run()
}

/// The tests of what is unsafe and of what stands on it. Not the examples in the documentation, which rustdoc builds.
pub(crate) fn sanitize(options: &Options) -> Outcome {
    let call = "test --package tapline-ring --package tapline-events --package tapline-telemetry \
                --lib --tests --no-fail-fast";
    let mut tests = asan::built_with(Cargo::new(call), "")?;
    if env::var_os(asan::OPTIONS).is_none() {
        tests = tests.with(asan::OPTIONS, "detect_leaks=1");
    }
    expect_tests(&tests)?;
    tests.and(&options.rest).run()
}

/// One test at a time: each of them wants the machine for itself.
pub(crate) fn soak(options: &Options) -> Outcome {
    Cargo::new("test --profile dist --package tapline --test soak -- --test-threads=1 --nocapture")
        .with(
            "TAPLINE_SOAK_MINUTES",
            options.minutes.unwrap_or(5).to_string(),
        )
        .and(&options.rest)
        .run()
}

pub(crate) fn bench(options: &Options) -> Outcome {
    Cargo::new("bench --package tapline-benches")
        .and(&options.rest)
        .run()
}

pub(crate) fn fleet_sim(options: &Options) -> Outcome {
    let arguments = ["--".to_owned()].into_iter().chain(options.rest.clone());
    Cargo::new("run --package tapline-benches --example fleet_sim --profile bench")
        .and(&arguments.collect::<Vec<_>>())
        .run()
}

/// Fails where a call of `cargo test` would run no test, which cargo counts as success: a renamed test, or a `cfg` that
/// was not set, would otherwise switch a check off without a word.
fn expect_tests(call: &Cargo) -> Outcome {
    let list = call
        .clone()
        .and(&["--", "--list", "--format", "terse"].map(str::to_owned));
    println!("$ {list}");
    let listing = list.answer()?;
    if listing.lines().any(|line| line.ends_with(": test")) {
        return Ok(());
    }
    Err(Failure::Findings {
        findings: vec![format!("`{call}` finds no test")],
        advice: "The check has lost its tests: name them as before, or change xtask/src/parts.rs with them.",
    })
}
