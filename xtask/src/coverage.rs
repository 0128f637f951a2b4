//! `cargo xtask coverage`: which test proves which case, as `docs/coverage.md`.
//!
//! The cases stand in `tests/cases.toml`. A test says what it proves on a line of its own in the comment above it:
//! `/// Covers: E3, T1`. Nothing else is written by hand, so the page cannot claim what no test says.

use crate::shell::{self, say};
use crate::source::{self, Source, words};
use crate::workspace::Workspace;
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

const CASES: &str = "tests/cases.toml";
const PAGE: &str = "docs/coverage.md";
const MARK: &str = "/// Covers:";

/// A group of cases, in the order of the file.
struct Section {
    title: String,
    cases: Vec<Case>,
}

/// One thing that must hold.
struct Case {
    id: String,
    title: String,
    /// Why there is no test, where that is decided.
    reason: Option<String>,
}

/// A test and the cases it names.
struct Claim {
    /// `path::function`.
    test: String,
    ids: Vec<String>,
}

/// Tests by the id of the case they prove.
type Tests<'c> = BTreeMap<&'c str, Vec<&'c str>>;

/// Writes the page, or only looks.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let workspace = Workspace::load()?;
    let sources = source::files_below(&workspace.root)?
        .iter()
        .map(|path| Source::read(path))
        .collect::<Result<Vec<_>>>()?;
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => write_page(&workspace, &sources),
        ["--check"] => match faults(&workspace, &sources)?.as_slice() {
            [] => Ok(()),
            found => bail!("{}", found.join("\n")),
        },
        ["--strict"] => list_open(&workspace, &sources),
        _ => bail!("`cargo xtask coverage` takes nothing, `--check` or `--strict`"),
    }
}

/// What is wrong with the cases, the claims or the page; a line each.
pub(crate) fn faults(workspace: &Workspace, sources: &[Source]) -> Result<Vec<String>> {
    let cases = read_cases(&workspace.root)?;
    let (claims, mut found) = claims(workspace, sources);
    found.extend(contradictions(&cases, &claims));
    let written = std::fs::read_to_string(workspace.root.join(PAGE)).unwrap_or_default();
    if written != page(&cases, &by_case(&claims)) {
        found.push(format!("{PAGE}: stale; run `cargo xtask coverage`"));
    }
    Ok(found)
}

fn write_page(workspace: &Workspace, sources: &[Source]) -> Result<()> {
    let cases = read_cases(&workspace.root)?;
    let (claims, mut found) = claims(workspace, sources);
    found.extend(contradictions(&cases, &claims));
    if !found.is_empty() {
        bail!("{}", found.join("\n"));
    }
    let tests = by_case(&claims);
    shell::write(&workspace.root.join(PAGE), &page(&cases, &tests))?;
    say(format!("{PAGE}: {}", sums(cases.iter().flat_map(|section| &section.cases), &tests)));
    Ok(())
}

/// Fails while a case has neither a test nor a reason, and names each.
fn list_open(workspace: &Workspace, sources: &[Source]) -> Result<()> {
    let cases = read_cases(&workspace.root)?;
    let (claims, _) = claims(workspace, sources);
    let tests = by_case(&claims);
    let open: Vec<String> = cases
        .iter()
        .flat_map(|section| &section.cases)
        .filter(|case| case.is_open(&tests))
        .map(|case| format!("{}: {}", case.id, case.title))
        .collect();
    if !open.is_empty() {
        bail!("{} cases have neither a test nor a reason:\n{}", open.len(), open.join("\n"));
    }
    Ok(())
}

impl Case {
    fn is_open(&self, tests: &Tests<'_>) -> bool {
        self.reason.is_none() && !tests.contains_key(self.id.as_str())
    }
}

fn read_cases(root: &Path) -> Result<Vec<Section>> {
    parse(&shell::read(&root.join(CASES))?)
}

/// Reads the three kinds of line that the file has: comment, `["section"]`, `id = ["title", "reason"]`. The right
/// side is JSON, which TOML's arrays of basic strings are.
fn parse(text: &str) -> Result<Vec<Section>> {
    let mut sections: Vec<Section> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let place = || format!("{CASES}:{}: `{line}` is no case and no section", number + 1);
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        if line.starts_with('[') {
            let [title] = serde_json::from_str(line).with_context(place)?;
            sections.push(Section { title, cases: Vec::new() });
            continue;
        }
        let (id, value) = line.split_once(" = ").with_context(place)?;
        let mut texts: Vec<String> = serde_json::from_str(value).with_context(place)?;
        let reason = if texts.len() == 2 { texts.pop() } else { None };
        let title = texts.pop().filter(|_| texts.is_empty()).with_context(place)?;
        let section = sections.last_mut().with_context(|| format!("{} (no section yet)", place()))?;
        section.cases.push(Case { id: id.to_owned(), title, reason });
    }
    Ok(sections)
}

/// What all tests claim, and the claims that stand above no test.
fn claims(workspace: &Workspace, sources: &[Source]) -> (Vec<Claim>, Vec<String>) {
    let (mut claims, mut found) = (Vec::new(), Vec::new());
    for source in sources.iter().filter(|source| source.text.contains(MARK)) {
        let shown = workspace.shown(&source.path).to_string();
        for (line, ids) in marks(source) {
            match test_below(source, line) {
                Some(name) => claims.push(Claim { test: format!("{shown}::{name}"), ids }),
                None => found.push(format!("{shown}:{line}: `{MARK}` stands above no test that runs")),
            }
        }
    }
    (claims, found)
}

/// The lines that begin a claim, from 1, and the ids there.
fn marks(source: &Source) -> impl Iterator<Item = (usize, Vec<String>)> + '_ {
    let lines = source.text.lines().zip(source.code.lines());
    lines.enumerate().filter_map(|(number, (line, code))| {
        let ids = line.trim_start().strip_prefix(MARK)?;
        // Inside of a string it is no comment.
        code.trim().is_empty().then(|| (number + 1, ids.split(',').map(|id| id.trim().to_owned()).collect()))
    })
}

/// The test function that the comment on a line belongs to. It counts if an attribute makes it a test that runs, or,
/// in a suite without the standard harness, if the file names it a second time.
fn test_below(source: &Source, line: usize) -> Option<String> {
    let mut is_test = false;
    for text in source.text.lines().skip(line).map(str::trim) {
        if text.starts_with("///") || text.starts_with("#[") {
            is_test |= text.ends_with("test]") || text.starts_with("#[tokio::test");
            if text.starts_with("#[ignore") {
                return None;
            }
            continue;
        }
        let name = text.trim_start_matches("pub ").trim_start_matches("pub(crate) ");
        let name = name.trim_start_matches("async ").strip_prefix("fn ")?;
        let name = name.split(|c: char| !c.is_alphanumeric() && c != '_').next()?;
        return (is_test || words(&source.code, name).count() > 1).then(|| name.to_owned());
    }
    None
}

/// Unknown and doubled ids, and cases that have both a test and a reason to have none.
fn contradictions(sections: &[Section], claims: &[Claim]) -> Vec<String> {
    let mut found = Vec::new();
    let mut known: BTreeMap<&str, &Case> = BTreeMap::new();
    for case in sections.iter().flat_map(|section| &section.cases) {
        if known.insert(&case.id, case).is_some() {
            found.push(format!("{CASES}: `{}` stands there twice", case.id));
        }
    }
    for claim in claims {
        for id in &claim.ids {
            match known.get(id.as_str()) {
                None => found.push(format!("{}: covers `{id}`, which {CASES} does not know", claim.test)),
                Some(Case { reason: Some(reason), .. }) => found.push(format!(
                    "{CASES}: `{id}` is said to have no test ({reason}), but {} covers it",
                    claim.test
                )),
                Some(_) => {}
            }
        }
    }
    found
}

fn by_case(claims: &[Claim]) -> Tests<'_> {
    let mut tests = Tests::new();
    for claim in claims {
        for id in &claim.ids {
            tests.entry(id.as_str()).or_default().push(&claim.test);
        }
    }
    tests
}

fn sums<'c>(cases: impl Iterator<Item = &'c Case> + Clone, tests: &Tests<'_>) -> String {
    let all = cases.clone().count();
    let tested = cases.clone().filter(|case| tests.contains_key(case.id.as_str())).count();
    let open = cases.filter(|case| case.is_open(tests)).count();
    format!("{all} cases: {tested} with a test, {} without one by decision, {open} open", all - tested - open)
}

/// The whole page.
fn page(sections: &[Section], tests: &Tests<'_>) -> String {
    let mut out = String::from(
        "# What is covered\n\n\
         Written by `cargo xtask coverage` from `tests/cases.toml` and the `/// Covers:` lines of the tests; \
         `cargo xtask tidy` fails when it is stale. **open** means: no test yet and no reason why not.\n",
    );
    for section in sections {
        let _infallible = write!(
            out,
            "\n## {}\n\n{}\n\n| case | what must hold | test, or why there is none |\n|---|---|---|\n",
            section.title,
            sums(section.cases.iter(), tests)
        );
        for case in &section.cases {
            let proof = match (tests.get(case.id.as_str()), &case.reason) {
                (Some(tests), _) => {
                    tests.iter().map(|test| format!("`{test}`")).collect::<Vec<_>>().join("<br>")
                }
                (None, Some(reason)) => cell(reason),
                (None, None) => "**open**".to_owned(),
            };
            let _infallible = writeln!(out, "| {} | {} | {proof} |", case.id, cell(&case.title));
        }
    }
    out
}

/// A text inside a table; what looks like an HTML tag is none.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sections() -> Vec<Section> {
        parse("# Cases\n[\"One\"]\nE1 = [\"first | <thing>\"]\nE2 = [\"second\", \"not \\\"ours\\\"\"]\n\n[\"Two\"]\nT3 = [\"third\"]\n")
            .unwrap()
    }

    fn claim(ids: &[&str]) -> Claim {
        Claim { test: "x.rs::t".into(), ids: ids.iter().map(|id| (*id).to_owned()).collect() }
    }

    #[test]
    fn a_page_says_what_is_open() {
        let claims = [claim(&["E1"])];
        let page = page(&sections(), &by_case(&claims));
        assert!(page.contains("| E1 | first \\| &lt;thing> | `x.rs::t` |"), "{page}");
        assert!(page.contains("| E2 | second | not \"ours\" |"), "{page}");
        assert!(page.contains("| T3 | third | **open** |"), "{page}");
        assert!(page.contains("2 cases: 1 with a test, 1 without one by decision, 0 open"), "{page}");
    }

    #[test]
    fn what_contradicts_itself_is_told() {
        assert_eq!(contradictions(&sections(), &[claim(&["E1", "T3"])]), Vec::<String>::new());
        assert_eq!(contradictions(&sections(), &[claim(&["E2"])]).len(), 1);
        assert_eq!(contradictions(&sections(), &[claim(&["E9"])]).len(), 1);
        for bad in
            ["E1 = [\"no section\"]", "[\"s\"]\nE1", "[\"s\"]\nE1 = []", "[\"s\"]\nE1 = [\"a\",\"b\",\"c\"]"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_claim_counts_only_above_a_test_that_runs() {
        let text = "/// A thing.\n/// Covers: E1, T3\n#[test]\nfn a() {}\n\n/// Covers: E1\nfn b() {}\nfn main() { c() }\n\
                    /// Covers: E1\nfn c() {}\n/// Covers: E1\n#[test]\n#[ignore = \"x\"]\nfn d() {}\n";
        let source = Source::new("tests/x.rs".into(), text.to_owned());
        let found: Vec<_> =
            marks(&source).map(|(line, ids)| (test_below(&source, line), ids.len())).collect();
        assert_eq!(found, [(Some("a".into()), 2), (None, 1), (Some("c".into()), 1), (None, 1)]);
    }
}
