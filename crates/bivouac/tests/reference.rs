//! The book's reference pages come from the definitions of commands and options, and every page is in its table of
//! contents with links that lead somewhere. `BIVOUAC_WRITE_DOCS=1 cargo test -p bivouac --test reference` writes the
//! pages anew.

#![expect(clippy::unwrap_used, reason = "helpers of tests, outside of test functions")]

use bivouac_driver::options::{Ceiling, Effect, Kind, OPERATOR, Opt, Preset, TASK};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The book.
fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

/// Compares a page with what it should be, or writes it.
fn page(name: &str, text: &str) {
    let path = docs().join(name);
    if std::env::var_os("BIVOUAC_WRITE_DOCS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(there == text, "{name} is stale; BIVOUAC_WRITE_DOCS=1 cargo test -p bivouac --test reference");
}

fn kind(kind: &Kind) -> String {
    match kind {
        Kind::Text => "text".into(),
        Kind::Choice(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
        Kind::Flag => "true or false".into(),
        Kind::Count { least, most: i64::MAX } => format!("number from {least}"),
        Kind::Count { least, most } => format!("{least} to {most}"),
        Kind::Size => "size, such as `64m`".into(),
        Kind::Texts => "list of texts".into(),
        Kind::Pairs => "map of texts".into(),
        Kind::Block(_) => "block".into(),
        Kind::Blocks(_) => "blocks".into(),
    }
}

fn preset(preset: Preset) -> String {
    match preset {
        Preset::Required => "required".into(),
        Preset::Unset(what) => what.into(),
        Preset::Text(text) => format!("`{text}`"),
        Preset::Flag(flag) => format!("`{flag}`"),
        Preset::Count(number) => format!("`{number}`"),
        Preset::Texts([]) | Preset::Pairs([]) => "none".into(),
        Preset::Texts(texts) => texts.iter().map(|text| format!("`{text}`")).collect::<Vec<_>>().join(" "),
        Preset::Pairs(pairs) => {
            pairs.iter().map(|(name, value)| format!("`{name} = {value}`")).collect::<Vec<_>>().join(" ")
        }
    }
}

fn table(out: &mut String, options: &[Opt]) {
    out.push_str("| option | what it may hold | default | what it does |\n|---|---|---|---|\n");
    for option in options {
        let bound = match option.ceiling {
            Ceiling::None => String::new(),
            Ceiling::Operator(name) => format!("; bounded by the operator's `{name}`"),
        };
        let effect = match option.effect {
            Effect::Real => String::new(),
            Effect::Ignored(why) => format!("; accepted without effect: {why}"),
        };
        let _ = writeln!(
            out,
            "| `{}` | {} | {} | {}{bound}{effect} |",
            option.name,
            kind(&option.kind),
            preset(option.default),
            option.help
        );
    }
    for option in options {
        if let Kind::Block(inner) | Kind::Blocks(inner) = option.kind {
            let _ = write!(out, "\n### Within `{}`\n\n", option.name);
            table(out, inner);
        }
    }
}

#[test]
fn options_are_documented_as_they_are_defined() {
    let mut out = String::from(
        "# Options of tasks and of the operator\n\nThis page is generated from the definitions.\n\n## In a task's `config` block\n\n",
    );
    table(&mut out, TASK);
    out.push_str(
        "\n## In the operator's configuration\n\nIn `/etc/bivouac/config.hcl`, or in the plugin's `config` block under Nomad.\n\n",
    );
    table(&mut out, OPERATOR);
    page("reference/options.md", &out);
}

fn help(words: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_bivouac"))
        .args(words)
        .arg("--help")
        .env("COLUMNS", "100")
        .env_remove("BIVOUAC_STATE_DIR")
        .output()
        .unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// The names below `Commands:` of a help text.
fn commands(help: &str) -> Vec<String> {
    let list = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let list = list.take_while(|line| !line.is_empty());
    list.filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

fn describe(out: &mut String, words: &[&str]) {
    let text = help(words);
    let name = [&["bivouac"], words].concat().join(" ");
    let _ = write!(out, "\n## {name}\n\n```text\n{}\n```\n", text.trim_end());
    for inner in commands(&text) {
        describe(out, &[words, &[inner.as_str()]].concat());
    }
}

#[test]
fn commands_are_documented_as_they_are_defined() {
    let mut out = String::from("# Commands\n\nThis page is what `--help` of each command says.\n");
    describe(&mut out, &[]);
    page("reference/commands.md", &out);
}

#[test]
fn the_book_is_whole() {
    let contents = std::fs::read_to_string(docs().join("SUMMARY.md")).unwrap();
    let mut pages = Vec::new();
    let mut folders = vec![docs()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "md") {
                pages.push(path);
            }
        }
    }
    for path in pages {
        let name = path.strip_prefix(docs()).unwrap().to_str().unwrap().to_owned();
        assert!(
            name == "SUMMARY.md" || contents.contains(&format!("({name})")),
            "{name} is not in SUMMARY.md"
        );
        let text = std::fs::read_to_string(&path).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let there = path.parent().unwrap().join(target);
            assert!(there.exists(), "{name}: the link {link:?} leads nowhere");
        }
    }
}
