//! What differs from the built-in driver, and why.

/// One thing that differs.
pub(super) struct Difference {
    /// Which fact of the scenarios.
    pub(super) fact: &'static str,
    /// What a reader sees of it: of the built-in driver, and of ours.
    built_in_text: &'static str,
    bivouac_text: &'static str,
    /// Whether this was seen.
    pub(super) built_in: fn(&str) -> bool,
    pub(super) bivouac: fn(&str) -> bool,
    reason: &'static str,
}

macro_rules! difference {
    ($fact:literal, $built_in:literal, $bivouac:literal, $reason:literal) => {
        Difference {
            fact: $fact,
            built_in_text: $built_in,
            bivouac_text: $bivouac,
            built_in: |seen| seen == $built_in,
            bivouac: |seen| seen == $bivouac,
            reason: $reason,
        }
    };
    ($fact:literal, $built_in:literal => $theirs:expr, $bivouac:literal => $ours:expr, $reason:literal) => {
        Difference {
            fact: $fact,
            built_in_text: $built_in,
            bivouac_text: $bivouac,
            built_in: $theirs,
            bivouac: $ours,
            reason: $reason,
        }
    };
}

/// All of them; the tests fail when one is not seen, and when something else differs.
pub(super) static DIFFERENCES: &[Difference] = &[
    difference!("group", "0", "65534", "the user's own group, not root's"),
    difference!("supplementary groups", "", "65534", "the user's own groups"),
    difference!(
        "ignored signals",
        "as whoever started the agent" => |_| true,
        "none" => |seen| seen.bytes().all(|digit| digit == b'0'),
        "a task starts with every signal at its default"
    ),
    difference!(
        "standard input",
        "/dev/null",
        "/null",
        "an empty device of the task's own, not the host's: through a descriptor its mode could be changed"
    ),
    difference!("system call filter", "0", "2", "the default profile, as container engines have one"),
    difference!(
        "alloc/logs can be written",
        "yes",
        "no",
        "a task must not touch its own logs or their pipes"
    ),
    difference!(
        "state of the runtime in alloc",
        "/alloc/container",
        "",
        "nothing of the driver lies where tasks see it"
    ),
    difference!(
        "log of the runtime in the root",
        "/executor.out",
        "",
        "nothing of the driver lies where tasks see it"
    ),
    difference!("proc/keys is masked", "no", "yes", "what Docker and runc hide is hidden"),
    difference!(
        "default root: shadow passwords",
        "the host's" => |seen| seen == "the host's",
        "names without passwords" => |seen| seen != "the host's",
        "no task reads the host's secrets, whatever its capabilities"
    ),
];

/// The page for readers.
pub(super) fn page() -> String {
    let mut text = String::from(
        "# What differs from the built-in `exec` driver\n\n\
         Written by the tests in `tests/nomad/compliance`, which run the same jobs under the built-in driver of Nomad 1.11.2\n\
         and under Bivouac (as `bivouac` and as `exec`, telling Nomad `image` and `chroot`), look at each of these facts, and\n\
         fail when one of them is not as this table says or when anything else that they look at differs.\n\n\
         | what | built-in `exec` | Bivouac | why |\n|---|---|---|---|\n",
    );
    let shown = |text: &str| if text.is_empty() { "nothing".to_owned() } else { text.to_owned() };
    for difference in DIFFERENCES {
        let Difference { fact, built_in_text, bivouac_text, reason, .. } = difference;
        text.push_str(&format!(
            "| {fact} | {} | {} | {reason} |\n",
            shown(built_in_text),
            shown(bivouac_text)
        ));
    }
    text
}
