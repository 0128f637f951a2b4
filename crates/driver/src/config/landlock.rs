//! Landlock rules as people write them: `rx:/usr`.

use crate::options::{Refused, Settings, quoted};
use bivouac_sandbox::TaskPath;
use bivouac_sandbox::model::{Missing, PathAccess, PathRule};

/// What `default` stands for: a shell and its like run, and the task's own directories are its own.
const DEFAULT: [(&str, &str); 16] = [
    ("rx", "/bin"),
    ("rx", "/sbin"),
    ("rx", "/lib"),
    ("rx", "/lib32"),
    ("rx", "/lib64"),
    ("rx", "/usr"),
    ("r", "/etc"),
    ("r", "/run/systemd/resolve"),
    ("r", "/run/resolvconf"),
    ("r", "/proc"),
    ("r", "/sys"),
    ("rw", "/dev"),
    ("rwxc", "/alloc"),
    ("rwxc", "/local"),
    ("rwxc", "/secrets"),
    ("rwxc", "/tmp"),
];

/// The rules of the option `landlock`. `missing` says what a path means that a task has not: for an operator, whose
/// rules are for all tasks, nothing.
///
/// # Errors
/// The first element that is no rule.
pub(super) fn rules(settings: &Settings, missing: Missing) -> Result<Vec<PathRule>, Refused> {
    let place = settings.place("landlock");
    let mut rules = Vec::new();
    for (number, text) in settings.texts("landlock").iter().enumerate() {
        if text == "default" {
            rules.extend(
                DEFAULT.iter().filter_map(|(letters, path)| rule(letters, path, Missing::PassOver).ok()),
            );
            continue;
        }
        let one = text
            .split_once(':')
            .ok_or_else(|| {
                format!("must be \"default\" or letters, a colon and a path, got {}", quoted(text))
            })
            .and_then(|(letters, path)| rule(letters, path, missing));
        rules.push(one.map_err(|error| Refused::at(&place.element(number), error))?);
    }
    Ok(rules)
}

fn rule(letters: &str, path: &str, missing: Missing) -> Result<PathRule, String> {
    let mut access = PathAccess { read: false, write: false, run: false, make: false };
    for letter in letters.chars() {
        match letter {
            'r' => access.read = true,
            'w' => access.write = true,
            'x' => access.run = true,
            'c' => access.make = true,
            _ => return Err(format!("must use the letters r, w, x and c, got {}", quoted(letters))),
        }
    }
    if letters.is_empty() {
        return Err("must allow something: r, w, x or c before the colon".into());
    }
    let path = TaskPath::new(path).map_err(|error| format!("is refused: {error}"))?;
    Ok(PathRule { path, access, missing })
}

#[cfg(test)]
mod tests {
    use crate::config::TaskConfig;
    use crate::options::Value;

    fn with(rules: &[&str]) -> Result<Vec<String>, String> {
        let block = Value::map([("command", "x".into()), ("landlock", Value::texts(rules.iter().copied()))]);
        let config = TaskConfig::decode(&block).map_err(|error| error.to_string())?;
        Ok(config.landlock.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn rules_read_back() {
        assert_eq!(with(&[]).unwrap(), Vec::<String>::new());
        assert_eq!(with(&["xr:/usr//bin", "c:/"]).unwrap(), ["rx:/usr/bin", "c:/"]);
        let default = with(&["default", "r:/data"]).unwrap();
        assert!(default.contains(&"rx:/usr".to_owned()) && default.last().unwrap() == "r:/data");
    }

    #[test]
    fn what_is_no_rule_is_refused_by_its_place() {
        let error = |rule: &str| with(&["r:/a", rule]).unwrap_err();
        assert_eq!(
            error("/usr"),
            "landlock[1] must be \"default\" or letters, a colon and a path, got \"/usr\""
        );
        assert_eq!(error("rz:/a"), "landlock[1] must use the letters r, w, x and c, got \"rz\"");
        assert_eq!(error(":/a"), "landlock[1] must allow something: r, w, x or c before the colon");
        assert_eq!(error("r:a"), "landlock[1] is refused: path \"a\" must be absolute");
        assert!(error("r:/a/../b").contains("`..`"));
    }
}
