//! Rows 25 and 26: what the last commits say and touch.

use crate::shell;
use anyhow::Result;
use std::path::Path;
use std::process::Command;

/// How far back.
const COMMITS: &str = "300";

/// Share of commits whose message has a body, median length of subjects, share of code commits that touch tests.
pub(crate) fn last_commits(root: &Path) -> Result<(usize, usize, usize)> {
    // Control characters cannot stand in a message, so they can stand between the parts.
    let text = shell::capture(Command::new("git").current_dir(root).args([
        "log",
        "--no-merges",
        "-n",
        COMMITS,
        "--name-only",
        "--format=%x1e%s%x1f%b%x1f",
    ]))?;
    Ok(summary(&text))
}

fn summary(log: &str) -> (usize, usize, usize) {
    let (mut commits, mut why, mut code, mut tested) = (0, 0, 0, 0);
    let mut subjects = Vec::new();
    for entry in log.split('\u{1e}').skip(1) {
        let mut parts = entry.split('\u{1f}');
        let (subject, body, files) = (parts.next(), parts.next(), parts.next());
        commits += 1;
        subjects.push(subject.unwrap_or_default().chars().count());
        why += usize::from(
            body.unwrap_or_default().lines().any(|line| !line.trim().is_empty() && !is_trailer(line)),
        );
        let files: Vec<&str> = files.unwrap_or_default().lines().filter(|line| !line.is_empty()).collect();
        if files.iter().any(|file| file.ends_with(".rs") && !is_test(file)) {
            code += 1;
            tested += usize::from(files.iter().any(|file| is_test(file)));
        }
    }
    subjects.sort_unstable();
    let share = |part: usize, whole: usize| part * 100 / whole.max(1);
    (share(why, commits), subjects.get(subjects.len() / 2).copied().unwrap_or(0), share(tested, code))
}

fn is_trailer(line: &str) -> bool {
    line.split_once(": ").is_some_and(|(key, _)| key.ends_with("-by"))
}

fn is_test(file: &str) -> bool {
    file.contains("tests/") || file.ends_with("/tests.rs") || file.ends_with(".snap")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_are_counted() {
        let log = "\u{1e}sys: a\u{1f}Because.\n\u{1f}\n\ncrates/sys/src/lib.rs\ncrates/sys/tests/a.rs\n\
                   \u{1e}docs: bcd\u{1f}Signed-off-by: x\n\u{1f}\n\nREADME.md\n\
                   \u{1e}sys: c\u{1f}\u{1f}\n\ncrates/sys/src/lib.rs\n";
        assert_eq!(summary(log), (33, 6, 50));
    }
}
