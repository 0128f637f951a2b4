//! `cargo xtask`: everything a developer of Bivouac does, in one place and without other tools to learn.
#![forbid(unsafe_code)]

mod bench;
mod build;
mod coverage;
mod deb;
mod demo;
mod fuzz;
mod licences;
mod measure;
mod shell;
mod source;
mod test;
mod tidy;
mod workspace;

use anyhow::{Result, bail};
use std::process::ExitCode;

const HELP: &str = "\
cargo xtask COMMAND

  demo [--release]      build Bivouac and run examples/hello.nomad.hcl with it
  build                 the release binaries (static, musl) into target/dist
  cross                 the engine compiled for aarch64; what an emulator can run of its tests
  deb                   a Debian package of the release binaries, tried out in a scratch root
  test                  everything, here and in a cgroup v2 virtual machine
      --no-install        do not install what is missing
      --nightly           the long forms of the tests
      --lane host|vm      only one of the two machines
      --package NAME      only this package (may be repeated)
      --suite PACKAGE::T  only this suite (may be repeated), also where it has no place otherwise
  fuzz [TARGETS]        every fuzz target, or these, for a while
      --seconds N         each so long (60)
      --no-install        do not install what is missing
  bench [ARGS]          measure against the floor, runc, bubblewrap and crun; writes docs/benchmarks.md
      --vm                in the cgroup v2 machine; writes docs/benchmarks-v2.md
      --check             only what a busy machine can hold, quickly; writes nothing
      --runner            only the standalone face; writes nothing
      --smoke             everything in small: its figures say little
  bench nomad           measure tasks under a real Nomad; writes docs/benchmarks-nomad.md (10 minutes)
      --short             few runs, quickly; writes nothing
  tidy                  check the promises that a script can keep
  coverage              which test proves which case, written to docs/coverage.md (--check, --strict)
  licences              check every dependency's licence and source against deny.toml
  measure               the rows of the side-by-side table about this repository";

/// Dispatches to one command.
fn command(arguments: &[String]) -> Result<()> {
    let (name, rest) = match arguments.split_first() {
        None => ("help", arguments),
        Some((name, rest)) => (name.as_str(), rest),
    };
    match name {
        "deb" => no_arguments(name, rest).and_then(|()| deb::run()),
        "demo" => demo::run(rest),
        "build" => no_arguments(name, rest).and_then(|()| build::release()),
        "cross" => no_arguments(name, rest).and_then(|()| build::check_other()),
        "test" => test::run(rest),
        "fuzz" => fuzz::run(rest),
        "bench" => bench::run(rest),
        "tidy" => no_arguments(name, rest).and_then(|()| tidy::run()),
        "coverage" => coverage::run(rest),
        "licences" => no_arguments(name, rest).and_then(|()| licences::run()),
        "measure" => no_arguments(name, rest).and_then(|()| measure::run()),
        "help" | "--help" | "-h" => {
            shell::say(HELP);
            Ok(())
        }
        other => bail!("there is no command `{other}`\n\n{HELP}"),
    }
}

fn no_arguments(name: &str, rest: &[String]) -> Result<()> {
    match rest.first() {
        None => Ok(()),
        Some(unknown) => bail!("`cargo xtask {name}` takes no arguments, found `{unknown}`"),
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match command(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            shell::complain(format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
