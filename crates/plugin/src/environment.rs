//! The environment that a task sees: what the client sent, over what it would have inherited.
//!
//! A client whose driver declares `image` leaves its own environment out, and `${NAME}` in the job's
//! `env` block, when it names a variable of the host, as text. Jobs written for the built-in driver
//! count on both, so both are done here.

use std::collections::BTreeMap;

/// Variables of the agent that hold secrets: what the client's own default names.
pub(crate) const DEFAULT_DENYLIST: &[&str] = &[
    "CONSUL_TOKEN",
    "CONSUL_HTTP_TOKEN",
    "CONSUL_HTTP_TOKEN_FILE",
    "NOMAD_TOKEN",
    "VAULT_TOKEN",
    "CONSUL_LICENSE",
    "NOMAD_LICENSE",
    "VAULT_LICENSE",
    "CONSUL_LICENSE_PATH",
    "NOMAD_LICENSE_PATH",
    "VAULT_LICENSE_PATH",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_METADATA_URL",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_OAUTH_ACCESS_TOKEN",
];

/// What of `host` (this process's own environment) tasks may see: not what the plugin host added, nor
/// what the operator denies.
pub(crate) fn of_host(
    host: impl IntoIterator<Item = (String, String)>,
    denylist: &[String],
) -> BTreeMap<String, String> {
    host.into_iter()
        .filter(|(name, _)| !name.is_empty() && !name.contains(['=', '\0']))
        .filter(|(name, _)| !name.starts_with("PLUGIN_") && name != crate::handshake::COOKIE_NAME)
        .filter(|(name, _)| !denylist.contains(name))
        .collect()
}

/// The task's variables over the host's.
pub(crate) fn merge(
    host: &BTreeMap<String, String>,
    task: BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut all = host.clone();
    all.extend(task.into_iter().map(|(name, value)| {
        let value = expand(&value, host);
        (name, value)
    }));
    all
}

/// Puts the host's variables in for `${NAME}`; everything else stays as it is written.
fn expand(text: &str, host: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        out.push_str(before);
        match after.split_once('}').and_then(|(name, tail)| Some((host.get(name.trim())?, tail))) {
            Some((value, tail)) => {
                out.push_str(value);
                rest = tail;
            }
            None => {
                out.push_str("${");
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn tokens_and_the_plugin_hosts_own_variables_stay_out() {
        let host = map(&[
            ("PATH", "/bin"),
            ("VAULT_TOKEN", "s"),
            ("PLUGIN_MIN_PORT", "10000"),
            (crate::handshake::COOKIE_NAME, "c"),
            ("MINE", "x"),
        ]);
        let mut denylist: Vec<String> = DEFAULT_DENYLIST.iter().map(|&n| n.to_owned()).collect();
        denylist.push("MINE".to_owned());
        assert_eq!(of_host(host, &denylist), map(&[("PATH", "/bin")]));
    }

    #[test]
    fn the_task_wins_and_may_build_on_the_host() {
        let host = map(&[("PATH", "/bin"), ("HOME", "/root")]);
        let task =
            map(&[("PATH", "/opt/bin:${PATH}"), ("A", "${NO_SUCH} $${x} ${"), ("B", "${ HOME }${PATH}")]);
        let merged = merge(&host, task);
        insta::assert_debug_snapshot!(merged, @r#"
        {
            "A": "${NO_SUCH} $${x} ${",
            "B": "/root/bin",
            "HOME": "/root",
            "PATH": "/opt/bin:/bin",
        }
        "#);
    }

    proptest! {
        #[test]
        fn without_a_known_name_nothing_changes(text in ".{0,60}") {
            prop_assert_eq!(expand(&text, &BTreeMap::new()), text);
        }
    }
}
