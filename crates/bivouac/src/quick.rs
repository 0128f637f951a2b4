//! Reading the command line without building the definition of every command.

use crate::cli::{Cli, Command, LOG_FORMAT, Places, Run, format_of_nonsense, with_double_dashes};
use crate::ui;
use clap::{Args, FromArgMatches, Parser};
use std::ffi::OsString;

impl Cli {
    /// Reads the arguments; ends the program with a text where there is nothing to carry out.
    pub(crate) fn read(arguments: impl IntoIterator<Item = OsString>) -> Cli {
        let arguments = with_double_dashes(arguments);
        let read = Cli::quickly(&arguments).map_or_else(|| Cli::try_parse_from(&arguments), Ok);
        match read {
            Ok(cli) => {
                ui::write_reports_as(cli.places.log_format.into());
                cli
            }
            Err(error) => {
                ui::write_reports_as(format_of_nonsense(&arguments, std::env::var_os(LOG_FORMAT)));
                ui::end_with(&error)
            }
        }
    }

    /// Reads the commands whose time counts with the definition of that one command alone: that of all of them takes
    /// longer to build than a sandbox. What does not fit is left to the whole definition, which has the words for it.
    fn quickly(arguments: &[OsString]) -> Option<Cli> {
        match arguments.get(1)?.to_str()? {
            "run" => Cli::with_one("run", arguments, |run: Run| Command::Run(Box::new(run))),
            "exec" => Cli::with_one("exec", arguments, Command::Exec),
            "supervise" => Cli::with_one("supervise", arguments, Command::Supervise),
            _ => None,
        }
    }

    fn with_one<T: Args>(name: &'static str, arguments: &[OsString], make: fn(T) -> Command) -> Option<Cli> {
        let one = T::augment_args(clap::Command::new(name).disable_help_flag(true));
        let all =
            Places::augment_args(clap::Command::new("bivouac")).subcommand_required(true).subcommand(one);
        let matches = all.try_get_matches_from(arguments).ok()?;
        let places = Places::from_arg_matches(&matches).ok()?;
        let (_, below) = matches.subcommand()?;
        Some(Cli { places, command: make(T::from_arg_matches(below).ok()?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the short way takes, the whole definition takes the same way.
    #[test]
    fn one_commands_definition_reads_as_all_of_them() {
        let lines = [
            "bivouac run -- /bin/true",
            "bivouac run --quiet --memory 64m -e A=b --env C -v /srv:/srv:ro -it -- sh -c x",
            "bivouac run -d -var a=b --state-dir /x --config=/y job.hcl",
            "bivouac run --name x --cap-add net_raw --read-only --tmpfs /t:size=1m -- x --help",
            "bivouac exec -it web -- bash",
            "bivouac exec web ls -l",
            "bivouac supervise --state-dir /x -- 07e1f62d-eb85-49a3-a2c5-665a50c95ce0",
        ];
        for line in lines {
            let words = with_double_dashes(line.split(' ').map(OsString::from));
            let (quick, whole) = (Cli::quickly(&words).unwrap(), Cli::try_parse_from(&words).unwrap());
            assert_eq!(format!("{quick:?}"), format!("{whole:?}"), "{line}");
        }
        for line in [
            "bivouac run",
            "bivouac run --no-such -- x",
            "bivouac run --help",
            "bivouac run -d --quiet -- x",
            "bivouac",
        ] {
            let words = with_double_dashes(line.split(' ').map(OsString::from));
            assert_eq!(Cli::quickly(&words).is_some(), Cli::try_parse_from(&words).is_ok(), "{line}");
        }
    }
}
