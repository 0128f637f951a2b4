//! `cargo xtask licences`: every package we build from has a licence and a source that `deny.toml` allows.
//!
//! `deny.toml` is a file of cargo-deny, and `cargo deny check` reads the same lists and more (advisories). Building
//! cargo-deny takes longer than everything else in CI on two cores, so CI checks with this instead.

use crate::shell::{self, say};
use crate::workspace::Workspace;
use anyhow::{Context, Result, bail};

/// The only kind of source for other people's packages.
const REGISTRY: &str = "registry+";

/// Checks all locked packages; ours too.
pub(crate) fn run() -> Result<()> {
    let workspace = Workspace::load()?;
    let allowed = allowed(&shell::read(&workspace.root.join("deny.toml"))?)?;
    let mut found = Vec::new();
    for package in &workspace.packages {
        let named = format!("{} {}", package.name, package.version);
        match &package.licence {
            None => found.push(format!("{named}: states no licence")),
            Some(text) => match permitted(text, &allowed) {
                Ok(true) => {}
                Ok(false) => found.push(format!("{named}: `{text}` is not allowed by deny.toml")),
                Err(error) => found.push(format!("{named}: `{text}`: {error:#}")),
            },
        }
        let known = package.source.as_ref().is_none_or(|source| source.starts_with(REGISTRY));
        if !known || (package.source.is_none() && !package.ours) {
            found.push(format!(
                "{named}: comes from {}",
                package.source.as_deref().unwrap_or("a folder outside the workspace")
            ));
        }
    }
    for fault in &found {
        shell::complain(fault);
    }
    if !found.is_empty() {
        bail!("{} packages may not be used", found.len());
    }
    say(format!("licences: {} packages, all allowed", workspace.packages.len()));
    Ok(())
}

/// The list `allow` of the table `[licenses]`.
fn allowed(deny: &str) -> Result<Vec<String>> {
    let table = deny.split("\n[licenses]").nth(1).context("deny.toml has no table [licenses]")?;
    let list = table.split("allow = [").nth(1).and_then(|rest| rest.split(']').next());
    let list = list.context("deny.toml: [licenses] has no list `allow`")?;
    Ok(list
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default())
        .flat_map(|line| line.split(','))
        .map(|item| item.trim().trim_matches('"').to_owned())
        .filter(|item| !item.is_empty())
        .collect())
}

/// Whether an SPDX expression can be satisfied with allowed licences.
fn permitted(expression: &str, allowed: &[String]) -> Result<bool> {
    // Old manifests write `MIT/Apache-2.0` for a choice.
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut tokens = spaced.split_whitespace().peekable();
    let verdict = either(&mut tokens, allowed)?;
    match tokens.next() {
        None => Ok(verdict),
        Some(extra) => bail!("`{extra}` is not expected here"),
    }
}

type Tokens<'t> = std::iter::Peekable<std::str::SplitWhitespace<'t>>;

fn either(tokens: &mut Tokens<'_>, allowed: &[String]) -> Result<bool> {
    let mut verdict = both(tokens, allowed)?;
    while tokens.next_if_eq(&"OR").is_some() {
        verdict |= both(tokens, allowed)?;
    }
    Ok(verdict)
}

fn both(tokens: &mut Tokens<'_>, allowed: &[String]) -> Result<bool> {
    let mut verdict = single(tokens, allowed)?;
    while tokens.next_if_eq(&"AND").is_some() {
        verdict &= single(tokens, allowed)?;
    }
    Ok(verdict)
}

fn single(tokens: &mut Tokens<'_>, allowed: &[String]) -> Result<bool> {
    match tokens.next().context("the expression ends too early")? {
        "(" => {
            let verdict = either(tokens, allowed)?;
            tokens.next_if_eq(&")").context("a parenthesis is not closed")?;
            Ok(verdict)
        }
        word @ (")" | "AND" | "OR" | "WITH") => bail!("`{word}` is not a licence"),
        licence => match tokens.next_if_eq(&"WITH") {
            None => Ok(allowed.iter().any(|name| name == licence)),
            Some(_) => {
                let exception = tokens.next().context("WITH without an exception")?;
                Ok(allowed.iter().any(|name| *name == format!("{licence} WITH {exception}")))
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_understood() {
        let allowed = ["MIT", "Unicode-3.0", "Apache-2.0 WITH LLVM-exception"].map(String::from);
        for (text, expected) in [
            ("MIT", true),
            ("Apache-2.0", false),
            ("MIT OR Apache-2.0", true),
            ("MIT/Apache-2.0", true),
            ("(MIT OR GPL-3.0) AND Unicode-3.0", true),
            ("(GPL-2.0 OR GPL-3.0) AND Unicode-3.0", false),
            ("MIT AND GPL-3.0", false),
            ("GPL-3.0 OR MIT AND Unicode-3.0", true),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("Apache-2.0 WITH Classpath-exception", false),
        ] {
            assert_eq!(permitted(text, &allowed).unwrap(), expected, "{text}");
        }
        for broken in ["", "MIT OR", "(MIT", "MIT MIT", "AND MIT", "MIT WITH"] {
            assert!(permitted(broken, &allowed).is_err(), "{broken}");
        }
    }

    #[test]
    fn the_list_is_read_from_the_file() {
        let text = "[graph]\nall-features = true\n\n[licenses]\n# why\nallow = [\n    \"MIT\", # ours\n    \"Zlib\",\n]\n";
        assert_eq!(allowed(text).unwrap(), ["MIT", "Zlib"]);
        assert!(allowed("[bans]\n").is_err());
    }
}
