//! What a suite's output amounts to.

use crate::shell::say;

/// Results of one suite, or the sum of several.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Count {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
    /// Each skip in the test's words.
    reasons: Vec<String>,
}

impl std::ops::AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.reasons.extend(other.reasons);
    }
}

impl Count {
    /// Something that should have run and did not.
    pub(crate) fn missing() -> Self {
        Self { failed: 1, ..Self::default() }
    }

    /// A check of ours: one test, which what it found fails.
    pub(crate) fn of_check(faults: &[String]) -> Self {
        let failed = usize::from(!faults.is_empty());
        Self { passed: 1 - failed, failed, ..Self::default() }
    }

    /// Reads the lines `test result: ...` (several for documentation) and the `SKIPPED:` lines of tests that
    /// found nothing to test on this machine. A suite that ends badly without a failed test, or well without a
    /// result, has failed.
    pub(crate) fn of_suite(log: &str, code: Option<i32>) -> Self {
        let mut count = Self::default();
        let mut results = 0;
        for line in log.lines() {
            if let Some(result) = line.strip_prefix("test result: ") {
                results += 1;
                count.passed += number_before(result, " passed");
                count.failed += number_before(result, " failed");
                count.skipped += number_before(result, " ignored");
            } else if let Some(reason) = line.strip_prefix("SKIPPED: ") {
                count.skipped += 1;
                // The harness thinks that such a test passed.
                count.passed = count.passed.saturating_sub(1);
                count.reasons.push(reason.to_owned());
            }
        }
        // Where skips stand before the result, nothing could be taken off yet.
        if results == 1 {
            count.passed = log
                .lines()
                .find_map(|line| line.strip_prefix("test result: "))
                .map_or(0, |result| number_before(result, " passed").saturating_sub(count.reasons.len()));
        }
        let silent = results == 0 || (code != Some(0) && count.failed == 0);
        if silent {
            count.failed += 1;
        }
        count
    }

    /// The suite's line in the report.
    pub(crate) fn line(&self, lane: &str, name: &str, seconds: u64) -> String {
        let verdict = if self.failed == 0 { "ok" } else { "FAILED" };
        let mut line = format!(
            "{lane:<4}  {name:<36} {verdict:<6}  {:>4} passed {:>3} failed {:>3} skipped  {seconds:>4} s",
            self.passed, self.failed, self.skipped
        );
        for reason in &self.reasons {
            line.push_str("\n        skipped: ");
            line.push_str(reason);
        }
        line
    }

    /// On failure, the end of what the suite said, and after it why each test failed: an agent's log, which is told
    /// when the test lets go of the agent, stands behind the reason and is longer than what is kept of a run.
    pub(crate) fn explain(&self, log: &str) {
        const LINES: usize = 60;
        if self.failed == 0 {
            return;
        }
        let from = log.find("\nfailures:\n").map_or(log, |at| log.get(at..).unwrap_or(log));
        let lines: Vec<&str> = from.lines().collect();
        for line in lines.iter().skip(lines.len().saturating_sub(LINES)) {
            say(format!("      | {line}"));
        }
        for line in reasons_of_failures(from) {
            say(format!("      > {line}"));
        }
    }

    /// The last line of a run.
    pub(crate) fn closing_line(&self) -> String {
        format!("{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// What each thread that panicked said, its first lines.
fn reasons_of_failures(log: &str) -> Vec<&str> {
    const LINES: usize = 12;
    let lines: Vec<&str> = log.lines().collect();
    let begins = |line: &str| line.starts_with("thread '") && line.contains(" panicked at ");
    let ends = |line: &str| line.starts_with("note: run with `RUST_BACKTRACE") || line.starts_with("---- ");
    let mut reasons = Vec::new();
    for (at, _) in lines.iter().enumerate().filter(|(_, line)| begins(line)) {
        let rest = lines.get(at + 1..).unwrap_or_default();
        let said = rest.iter().take_while(|line| !begins(line) && !ends(line)).count();
        reasons.extend(lines.iter().skip(at).take((said + 1).min(LINES)));
    }
    reasons
}

/// The number in front of a word.
fn number_before(text: &str, word: &str) -> usize {
    text.split(word)
        .next()
        .filter(|before| before.len() < text.len())
        .and_then(|before| before.rsplit(|c: char| !c.is_ascii_digit()).next())
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "test a ... ok\nSKIPPED: b: no idmapped mounts\ntest result: ok. 12 passed; 0 failed; 3 ignored; 0 measured\n";

    #[test]
    fn a_skip_is_no_pass() {
        let count = Count::of_suite(GOOD, Some(0));
        assert_eq!((count.passed, count.failed, count.skipped), (11, 0, 4));
        assert_eq!(count.closing_line(), "11 passed, 0 failed, 4 skipped");
    }

    #[test]
    fn the_reason_of_a_failure_is_found_before_a_long_log() {
        let log = "failures:\n\n---- a::b stdout ----\nsaid before\n\nthread 'a::b' (7) panicked at x.rs:1:2:\nleft\n  right\n\
                   note: run with `RUST_BACKTRACE=1` for a backtrace\nthe agent's log\n\n---- c stdout ----\n\
                   thread 'c' (8) panicked at y.rs:3:4:\nbad\n---- d stdout ----\n";
        let reasons = [
            "thread 'a::b' (7) panicked at x.rs:1:2:",
            "left",
            "  right",
            "thread 'c' (8) panicked at y.rs:3:4:",
            "bad",
        ];
        assert_eq!(reasons_of_failures(log), reasons);
    }

    #[test]
    fn silence_is_failure() {
        assert_eq!(Count::of_suite("", Some(0)).failed, 1);
        assert_eq!(Count::of_suite(GOOD, None).failed, 1);
        assert_eq!(Count::of_suite(GOOD, Some(124)).failed, 1);
        assert_eq!(
            Count::of_suite("test result: FAILED. 1 passed; 2 failed; 0 ignored", Some(101)).failed,
            2
        );
    }

    #[test]
    fn several_results_add_up() {
        let log = "test result: ok. 2 passed; 0 failed; 0 ignored\ntest result: ok. 3 passed; 0 failed; 1 ignored\n";
        let count = Count::of_suite(log, Some(0));
        assert_eq!((count.passed, count.failed, count.skipped), (5, 0, 1));
    }
}
