//! The definition is sound, and Nomad's spelling is understood.

use super::*;
use bivouac_runner::report::Format;
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

#[test]
fn what_a_job_file_says_itself_is_not_said_beside_it() {
    let read = |words: &str| Cli::try_parse_from(["bivouac", "run"].into_iter().chain(words.split(' ')));
    for words in ["--memory 64m job.hcl", "--read-only job.hcl", "--net none job.hcl", "--var a=b -- true"] {
        assert_eq!(read(words).unwrap_err().kind(), clap::error::ErrorKind::ArgumentConflict, "{words}");
    }
    for words in ["-it -v data=/srv --quiet --var a=b job.hcl", "-it -v /srv:/srv --memory 64m -- true"] {
        assert!(read(words).is_ok(), "{words}");
    }
}

#[test]
fn nonsense_is_told_in_the_format_that_it_asks_for() {
    let format = |line: &str, environment: Option<&str>| {
        let words: Vec<_> = line.split(' ').map(OsString::from).collect();
        format_of_nonsense(&words, environment.map(OsString::from))
    };
    assert_eq!(format("bivouac ps --log-format json --nonsense", None), Format::Json);
    assert_eq!(format("bivouac --log-format=json nonsense", None), Format::Json);
    assert_eq!(format("bivouac nonsense", Some("json")), Format::Json);
    assert_eq!(format("bivouac --log-format text nonsense", Some("json")), Format::Text);
    assert_eq!(format("bivouac run --nonsense -- x --log-format=json", None), Format::Text);
}
