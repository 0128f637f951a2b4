//! The definition is sound, and Nomad's spelling is understood.

use super::*;
use clap::CommandFactory;

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn nomads_spelling_of_variables_is_understood() {
    let words = ["bivouac", "run", "-var", "a=b", "-var-file=x", "job.hcl", "--", "-var"];
    let spelled = with_double_dashes(words.map(OsString::from));
    assert_eq!(
        spelled,
        ["bivouac", "run", "--var", "a=b", "--var-file=x", "job.hcl", "--", "-var"].map(OsString::from)
    );
}

#[test]
fn a_command_may_look_like_an_option() {
    let cli = Cli::try_parse_from(["bivouac", "run", "--memory", "64m", "--", "-x", "--help"]).unwrap();
    let Command::Run(run) = cli.command else { panic!("not run") };
    assert_eq!(run.command, ["-x", "--help"].map(OsString::from));
    assert_eq!(run.adhoc.memory.as_deref(), Some("64m"));
}
