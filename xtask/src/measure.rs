//! `cargo xtask measure`: the side-by-side table's rows about this repository, counted as that table says.
//!
//! Code lines are without blanks, comments, test folders and `cfg(test)` items, of `crates/` only (generated files
//! left out); functions go from `fn` to their closing brace; a reason for unsafe is a safety comment within six
//! lines; documented is a doc comment on a `pub` item; error texts are the strings of error attributes, bare ones
//! have no placeholder; commits are the last 300 without merges; module pairs are top-level modules of one crate
//! that name each other.

mod history;
mod modules;

use crate::shell::say;
use crate::source::{self, Source, words};
use crate::tidy;
use crate::workspace::Workspace;
use anyhow::Result;
use std::collections::BTreeSet;

/// A file in which functions hold less than this share of the code is a table.
const TABLE_PERCENT: usize = 20;
/// A function longer than this counts as long.
const LONG_FUNCTION: usize = 60;

/// Counts and prints.
pub(crate) fn run() -> Result<()> {
    let workspace = Workspace::load()?;
    let sources = source::files_below(&workspace.root.join("crates"))?
        .iter()
        .map(|path| Source::read(path))
        .collect::<Result<Vec<_>>>()?;
    let all: Vec<&Source> = sources.iter().filter(|source| !source.is_generated()).collect();
    let product: Vec<&Source> = all.iter().copied().filter(|source| source.code_lines().0 > 0).collect();
    sizes(&workspace, &product, &all);
    fences(&workspace, &product);
    texts(&product);
    let (pairs, uses) = modules::mutual_uses(&workspace, &product);
    row(17, "modules that use each other (pairs, of so many uses)", format!("{pairs} of {uses}"));
    row(
        20,
        "external dependencies; packages locked",
        format!("{}; {}", external(&workspace), tidy::locked_packages(&workspace.root)?),
    );
    let (why, subject, tested) = history::last_commits(&workspace.root)?;
    row(25, "commits with a why; median subject", format!("{why} %; {subject}"));
    row(26, "code commits that touch a test file", format!("{tested} %"));
    Ok(())
}

fn row(number: u8, question: &str, answer: impl AsRef<str>) {
    say(format!("| {number} | {question} | {} |", answer.as_ref()));
}

/// Rows 1 to 6: how much there is, and in what portions.
fn sizes(workspace: &Workspace, product: &[&Source], all: &[&Source]) {
    let mut files: Vec<(usize, &Source)> =
        product.iter().map(|source| (source.code_lines().0, *source)).collect();
    files.sort_by_key(|file| file.0);
    let code: usize = files.iter().map(|file| file.0).sum();
    let at = |percent: usize| {
        files.get((files.len() * percent / 100).min(files.len().saturating_sub(1))).map_or(0, |file| file.0)
    };
    row(1, "code lines", format!("{:.1}k", code as f64 / 1000.0));
    row(2, "lines per file: median, 90 %, largest", format!("{}, {}, {}", at(50), at(90), at(100)));
    if let Some((lines, source)) = files.iter().rev().find(|(lines, source)| !is_table(*lines, source)) {
        row(3, "largest file that is not a table", format!("`{}` {lines}", workspace.shown(&source.path)));
    }
    let functions: Vec<usize> = product.iter().flat_map(|source| source.functions()).collect();
    let long = functions.iter().filter(|&&lines| lines > LONG_FUNCTION).count();
    row(
        4,
        "longest function; share over 60 lines",
        format!("{}; {:.1} %", functions.iter().max().unwrap_or(&0), percent(long, functions.len())),
    );
    let tests: usize = all.iter().map(|source| source.code_lines().1).sum();
    row(6, "test lines per code line", format!("{:.2}", tests as f64 / code.max(1) as f64));
}

fn is_table(lines: usize, source: &Source) -> bool {
    let inside: usize = source.functions().iter().sum();
    inside * 100 < lines * TABLE_PERCENT
}

/// Rows 9 to 14: what the compiler is told, and what the reader is.
fn fences(workspace: &Workspace, product: &[&Source]) {
    let blocks: Vec<Vec<(usize, bool)>> =
        product.iter().map(|source| source.unsafe_blocks()).filter(|found| !found.is_empty()).collect();
    let bare = blocks.iter().flatten().filter(|block| !block.1).count();
    row(
        9,
        "unsafe blocks; files with them",
        format!("{}; {}", blocks.iter().flatten().count(), blocks.len()),
    );
    row(10, "unsafe without a reason", bare.to_string());
    let code: usize = product.iter().map(|source| source.code_lines().0).sum();
    let unwraps: usize = product
        .iter()
        .map(|source| {
            [".unwrap()", ".expect("]
                .iter()
                .flat_map(|call| source.code.match_indices(call))
                .filter(|(at, _)| !source.is_test(*at))
                .count()
        })
        .sum();
    row(
        12,
        "`unwrap`/`expect` per 1,000 lines",
        format!("{:.1}", unwraps as f64 * 1000.0 / code.max(1) as f64),
    );
    let (public, documented) =
        product.iter().map(|source| public_items(source)).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    row(13, "public items documented", format!("{:.0} % of {public}", percent(documented, public)));
    let opening = product.iter().filter(|source| source.opens_with_its_purpose()).count();
    row(14, "files that open by saying what they are", format!("{opening} of {}", product.len()));
    for source in product.iter().filter(|source| !source.opens_with_its_purpose()) {
        say(format!("|    | without: {} | |", workspace.shown(&source.path)));
    }
}

/// Public items outside tests, and how many have a doc comment (a module may carry it inside its file).
fn public_items(source: &Source) -> (usize, usize) {
    const ITEMS: [&str; 10] =
        ["fn", "struct", "enum", "trait", "const", "static", "type", "unsafe", "async", "union"];
    let lines: Vec<&str> = source.text.lines().collect();
    let (mut all, mut documented, mut at) = (0, 0, 0);
    for (number, code) in source.code.lines().enumerate() {
        let here = at;
        at += code.len() + 1;
        let kind = code.trim_start().strip_prefix("pub ").and_then(|rest| rest.split_whitespace().next());
        if source.is_test(here) || !kind.is_some_and(|kind| ITEMS.contains(&kind)) {
            continue;
        }
        all += 1;
        let mut above = lines.iter().take(number).rev().map(|line| line.trim());
        let doc = above.find(|line| !line.starts_with("#[") && !line.ends_with(")]"));
        documented += usize::from(doc.is_some_and(|line| line.starts_with("///")));
    }
    (all, documented)
}

/// Row 15: the strings of error attributes.
fn texts(product: &[&Source]) {
    let mut found: Vec<&str> = Vec::new();
    for source in product {
        for at in words(&source.code, "error")
            .filter(|&at| source.code.get(..at).is_some_and(|before| before.ends_with("#[")))
        {
            let Some(rest) = source.text.get(at..).and_then(|rest| rest.strip_prefix("error(")) else {
                continue;
            };
            if let Some(text) = rest.trim_start().strip_prefix('"') {
                found.push(text.split('"').next().unwrap_or(text));
            }
        }
    }
    let bare = found.iter().filter(|text| !text.contains('{')).count();
    row(15, "error texts; bare ones", format!("{}; {:.0} %", found.len(), percent(bare, found.len())));
}

/// Direct dependencies of what we ship that are not ours.
fn external(workspace: &Workspace) -> usize {
    let ours: BTreeSet<&str> = workspace.members().map(|package| package.name.as_str()).collect();
    workspace
        .members()
        .filter(|package| package.folder.starts_with(workspace.root.join("crates")))
        .flat_map(|package| &package.dependencies)
        .filter(|dependency| dependency.shipped && !ours.contains(dependency.name.as_str()))
        .map(|dependency| dependency.name.as_str())
        .collect::<BTreeSet<_>>()
        .len()
}

fn percent(part: usize, whole: usize) -> f64 {
    part as f64 * 100.0 / whole.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documentation_is_seen_above_attributes() {
        let text = "/// Yes.\n#[derive(Debug)]\npub struct A;\npub fn b() {}\npub(crate) fn c() {}\n    /// Yes.\n    pub const fn d() {}\n";
        assert_eq!(public_items(&Source::new("src/x.rs".into(), text.into())), (3, 2));
    }
}
