//! What the last word of a command line may become: ids, jobs, tasks and volumes.
//!
//! Pure but for looking: which kind of name belongs there follows from the definition of the commands and one table.

use crate::cli::Cli;
use bivouac_runner::overview::{self, Entry};
use bivouac_runner::state::Home;
use bivouac_runner::{registry, volumes};
use clap::{Arg, Command, CommandFactory};
use clap_complete::Shell;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;

/// A kind of name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Jobs, allocations and tasks that there are.
    Anything,
    /// Jobs that are written down.
    Registered,
    /// A task, and a colon before a path.
    Place,
    Task,
    Volume,
}

/// Where names belong: command, argument, kind.
const TABLE: &[(&str, &str, Kind)] = &[
    ("action", "task", Kind::Anything),
    ("cp", "from", Kind::Place),
    ("cp", "to", Kind::Place),
    ("dispatch", "job", Kind::Registered),
    ("events", "what", Kind::Anything),
    ("exec", "task", Kind::Anything),
    ("fs cat", "what", Kind::Anything),
    ("fs ls", "what", Kind::Anything),
    ("fs stat", "what", Kind::Anything),
    ("inspect", "what", Kind::Anything),
    ("logs", "task", Kind::Task),
    ("logs", "what", Kind::Anything),
    ("restart", "what", Kind::Anything),
    ("signal", "task", Kind::Anything),
    ("stats", "tasks", Kind::Anything),
    ("stop", "tasks", Kind::Anything),
    ("top", "what", Kind::Anything),
    ("volume rm", "names", Kind::Volume),
];

/// What the words before the last one have said.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    kind: Kind,
    /// `--state-dir`, if it was given.
    state: Option<String>,
}

/// A shell's script, made to ask us for names where we know how.
pub(crate) fn with_names(shell: Shell, script: &str) -> String {
    match shell {
        Shell::Bash => format!("{script}{}", include_str!("complete/names.bash")),
        Shell::Fish => format!("{script}{}", include_str!("complete/names.fish")),
        Shell::Zsh => {
            // Its end hands the command to a function that knows no names; ours does that instead.
            let body = script.rsplit_once("\nif [ \"$funcstack[1]\"").map_or(script, |(body, _)| body);
            format!("{body}{}", include_str!("complete/names.zsh"))
        }
        _ => script.to_owned(),
    }
}

/// What the last word may become.
pub(crate) fn candidates(words: &[OsString]) -> Vec<String> {
    let words: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let Some((last, before)) = words.split_last() else { return Vec::new() };
    let mut definition = Cli::command();
    definition.build();
    let Some(asked) = asked(&definition, &whole(before)) else { return Vec::new() };
    let usual = definition.get_arguments().find(|arg| arg.get_id() == "state_dir").and_then(usual);
    let Some(state) = asked.state.map(PathBuf::from).or(usual) else { return Vec::new() };
    let begins = |name: &String| name.starts_with(last.as_str()) && is_a_plain_word(name);
    names(&Home::new(state), asked.kind).into_iter().filter(begins).collect()
}

/// Bash makes words of their own of `=` and `:`; puts together what was one.
fn whole(words: &[String]) -> Vec<String> {
    let mut whole: Vec<String> = Vec::new();
    for word in words {
        match whole.last_mut() {
            Some(last) if ["=", ":"].contains(&word.as_str()) || last.ends_with(['=', ':']) => {
                last.push_str(word);
            }
            _ => whole.push(word.clone()),
        }
    }
    whole
}

/// What the environment or the definition says.
fn usual(arg: &Arg) -> Option<PathBuf> {
    let named = arg.get_env().and_then(std::env::var_os);
    named.or_else(|| arg.get_default_values().first().map(|value| value.into())).map(PathBuf::from)
}

/// Which kind of name follows these words.
fn asked(definition: &Command, words: &[String]) -> Option<Asked> {
    let (mut command, mut path) = (definition, Vec::new());
    let (mut position, mut state) = (1, None);
    let mut pending: Option<&Arg> = None;
    for word in words {
        if let Some(arg) = pending.take() {
            if arg.get_id() == "state_dir" {
                state = Some(word.clone());
            }
        } else if word == "--" {
            return None;
        } else if word.starts_with('-') {
            let (name, value) = word.split_once('=').map_or((word.as_str(), None), |(n, v)| (n, Some(v)));
            let arg = option(command, name).filter(|arg| arg.get_action().takes_values());
            match value {
                Some(value) if arg.is_some_and(|arg| arg.get_id() == "state_dir") => {
                    state = Some(value.to_owned());
                }
                Some(_) => {}
                None => pending = arg,
            }
        } else if let Some(below) = command.find_subcommand(word) {
            path.push(below.get_name());
            (command, position) = (below, 1);
        } else {
            position += 1;
        }
    }
    let arg = pending.or_else(|| positional(command, position))?;
    let path = path.join(" ");
    let row = TABLE.iter().find(|(command, id, _)| *command == path && arg.get_id() == id)?;
    Some(Asked { kind: row.2, state })
}

/// The option of this name, as it is written.
fn option<'a>(command: &'a Command, written: &str) -> Option<&'a Arg> {
    let mut all = command.get_arguments();
    match written.strip_prefix("--") {
        Some(long) => all.find(|arg| arg.get_long() == Some(long)),
        // Of several short ones together the last may take a value.
        None => all.find(|arg| arg.get_short() == written.chars().last()),
    }
}

/// The argument at a position; the last one may take many.
fn positional(command: &Command, position: usize) -> Option<&Arg> {
    let exact = command.get_positionals().find(|arg| arg.get_index() == Some(position));
    let many = |arg: &&Arg| matches!(arg.get_action(), clap::ArgAction::Append) && !arg.is_last_set();
    exact.or_else(|| command.get_positionals().last().filter(many))
}

/// The names that there are. What cannot be read has none.
fn names(home: &Home, kind: Kind) -> BTreeSet<String> {
    let entries = || overview::all(home).map(|(entries, _)| entries).unwrap_or_default();
    let tasks = |entry: &Entry| entry.state.tasks.iter().map(|task| task.name.clone()).collect::<Vec<_>>();
    let registered = || registry::all(home).map(|(jobs, _)| jobs).unwrap_or_default();
    let registered = || registered().into_iter().map(|job| job.keep.id().to_owned());
    match kind {
        Kind::Anything => {
            let of = |entry: Entry| {
                let names = [entry.state.id.clone(), entry.state.job.clone()];
                names.into_iter().chain(tasks(&entry)).collect::<Vec<_>>()
            };
            entries().into_iter().flat_map(of).chain(registered()).collect()
        }
        Kind::Registered => registered().collect(),
        Kind::Place => entries().iter().flat_map(tasks).map(|task| format!("{task}:")).collect(),
        Kind::Task => entries().iter().flat_map(tasks).collect(),
        Kind::Volume => volumes::list(home).unwrap_or_default().into_iter().collect(),
    }
}

/// Whether a shell takes it as one word that means nothing else.
fn is_a_plain_word(name: &str) -> bool {
    let plain = |character: char| character.is_ascii_alphanumeric() || "._-/:@+,".contains(character);
    !name.starts_with('-') && name.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(line: &str) -> Option<(Kind, Option<String>)> {
        let mut definition = Cli::command();
        definition.build();
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        asked(&definition, &whole(&words)).map(|asked| (asked.kind, asked.state))
    }

    #[test]
    fn every_row_is_about_an_argument_that_there_is() {
        let definition = Cli::command();
        for (path, id, _) in TABLE {
            let command =
                path.split(' ').try_fold(&definition, |command, name| command.find_subcommand(name));
            let command = command.unwrap_or_else(|| panic!("no command {path}"));
            assert!(command.get_arguments().any(|arg| arg.get_id() == id), "{path} {id}");
        }
    }

    #[test]
    fn the_kind_follows_from_the_words_before() {
        let plain = |kind| Some((kind, None));
        assert_eq!(kind("logs"), plain(Kind::Anything));
        assert_eq!(kind("logs -f --tail 20"), plain(Kind::Anything));
        assert_eq!(kind("logs -fn"), None, "a number");
        assert_eq!(kind("logs --task"), plain(Kind::Task));
        assert_eq!(kind("logs web"), None, "one name only");
        assert_eq!(kind("stop web"), plain(Kind::Anything));
        assert_eq!(kind("volume rm a b"), plain(Kind::Volume));
        assert_eq!(kind("volume create"), None, "new ones");
        assert_eq!(kind("cp web:/x"), plain(Kind::Place));
        assert_eq!(kind("exec web"), None, "a command");
        assert_eq!(kind("run"), None);
        assert_eq!(kind(""), None);
        assert_eq!(kind("--state-dir /x stop"), Some((Kind::Anything, Some("/x".into()))));
        assert_eq!(kind("cp web : /x"), plain(Kind::Place), "as bash cuts it");
        assert_eq!(kind("--state-dir = /x stop"), Some((Kind::Anything, Some("/x".into()))));
        assert_eq!(kind("stop --state-dir=/y --timeout 5s"), Some((Kind::Anything, Some("/y".into()))));
    }

    #[test]
    fn names_that_a_shell_could_take_for_more_are_not_offered() {
        for name in ["$(x)", "a b", "a;b", "`x`", "-x", "a\nb", "*", "~", "a'b", "\u{1b}[2J"] {
            assert!(!is_a_plain_word(name), "{name:?}");
        }
        assert!(is_a_plain_word("job/periodic-1") && is_a_plain_word("web:"));
    }
}
