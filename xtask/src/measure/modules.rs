//! Row 17: top-level modules of one crate that name each other.

use crate::source::{Source, words};
use crate::workspace::Workspace;
use std::collections::BTreeSet;

/// Pairs of modules that use each other, and the number of uses, over all rooms.
pub(crate) fn mutual_uses(workspace: &Workspace, product: &[&Source]) -> (usize, usize) {
    let (mut pairs, mut all) = (0, 0);
    for package in workspace.members() {
        let folder = package.folder.join("src");
        let files: Vec<(String, &Source)> = product
            .iter()
            .filter_map(|source| {
                let inside = source.path.strip_prefix(&folder).ok()?;
                let first = inside.components().next()?.as_os_str().to_str()?;
                Some((first.strip_suffix(".rs").unwrap_or(first).to_owned(), *source))
            })
            .filter(|(module, _)| module != "lib" && module != "main")
            .collect();
        let modules: BTreeSet<&str> = files.iter().map(|file| file.0.as_str()).collect();
        let uses: BTreeSet<(&str, &str)> = files
            .iter()
            .flat_map(|(module, source)| named(source).into_iter().map(|name| (module.as_str(), name)))
            .filter_map(|(from, name)| modules.get(name.as_str()).map(|to| (from, *to)))
            .filter(|(from, to)| from != to)
            .collect();
        pairs += uses.iter().filter(|(from, to)| from < to && uses.contains(&(*to, *from))).count();
        all += uses.len();
    }
    (pairs, all)
}

/// The names directly below `crate::` that a file's product code mentions, also in `crate::{a, b::c}`.
fn named(source: &Source) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for at in words(&source.code, "crate").filter(|&at| !source.is_test(at)) {
        let Some(rest) = source.code.get(at..).and_then(|rest| rest.strip_prefix("crate::")) else {
            continue;
        };
        match rest.strip_prefix('{') {
            None => found.extend(first_word(rest)),
            Some(group) => {
                let (mut depth, mut fresh) = (0_usize, true);
                for (place, letter) in group.char_indices() {
                    match letter {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => fresh = true,
                        other if fresh && !other.is_whitespace() => {
                            found.extend(group.get(place..).and_then(first_word));
                            fresh = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    found
}

fn first_word(text: &str) -> Option<String> {
    let word: String = text.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect();
    (!word.is_empty()).then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_below_the_crate() {
        let text = "use crate::a::B;\nuse crate::{c, d::{e, f}, g};\n// crate::h\n#[cfg(test)]\nmod tests { use crate::i; }\npub(crate) fn x() {}\n";
        let found = named(&Source::new("src/x.rs".into(), text.into()));
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["a", "c", "d", "g"]);
    }
}
