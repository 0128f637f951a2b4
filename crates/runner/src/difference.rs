//! What differs between two jobs, part by part.

use bivouac_jobspec::Job;
use serde_json::Value;

/// One part that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Which, such as `groups[web].tasks[server].config.command`.
    pub place: String,
    /// What it was; nothing where it is new.
    pub before: Option<String>,
    /// What it is to be; nothing where it goes.
    pub after: Option<String>,
}

/// Everything that differs, in the order of the names.
pub fn differences(before: &Job, after: &Job) -> Vec<Difference> {
    let value = |job| serde_json::to_value(job).unwrap_or(Value::Null);
    let mut found = Vec::new();
    compare("", Some(&value(before)), Some(&value(after)), &mut found);
    found
}

fn compare(place: &str, before: Option<&Value>, after: Option<&Value>, found: &mut Vec<Difference>) {
    if before == after {
        return;
    }
    let below = |name: &str| if place.is_empty() { name.to_owned() } else { format!("{place}.{name}") };
    match (before, after) {
        (Some(Value::Object(one)), Some(Value::Object(other))) => {
            let mut names: Vec<&String> = one.keys().chain(other.keys()).collect();
            names.sort_unstable();
            names.dedup();
            for name in names {
                compare(&below(name), one.get(name), other.get(name), found);
            }
        }
        (Some(Value::Array(one)), Some(Value::Array(other))) => {
            let (one, other) = (labelled(one), labelled(other));
            let mut labels: Vec<&String> = one.iter().map(|(label, _)| label).collect();
            labels.extend(
                other
                    .iter()
                    .map(|(label, _)| label)
                    .filter(|label| !one.iter().any(|(known, _)| known == *label)),
            );
            let get = |list: &'_ [(String, Value)], wanted: &str| {
                list.iter().find(|(label, _)| label == wanted).map(|(_, item)| item.clone())
            };
            for label in labels {
                let (left, right) = (get(&one, label), get(&other, label));
                compare(&format!("{place}[{label}]"), left.as_ref(), right.as_ref(), found);
            }
        }
        _ => found.push(Difference {
            place: place.to_owned(),
            before: before.filter(|value| !value.is_null()).map(Value::to_string),
            after: after.filter(|value| !value.is_null()).map(Value::to_string),
        }),
    }
}

/// Items by their names, where all have different ones; else by number.
fn labelled(items: &[Value]) -> Vec<(String, Value)> {
    let names: Vec<String> =
        items.iter().filter_map(|item| Some(item.get("name")?.as_str()?.to_owned())).collect();
    let mut different = names.clone();
    different.sort_unstable();
    different.dedup();
    let labels: Vec<String> = if different.len() == items.len() {
        names
    } else {
        (0..items.len()).map(|number| number.to_string()).collect()
    };
    labels.into_iter().zip(items.iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bivouac_jobspec::{Input, SourceFile, Support, VariableSources};

    fn job(body: &str) -> Job {
        let text = format!("job \"j\" {{\n{body}\n}}\n");
        let input = Input {
            job: SourceFile::new("j.hcl", text.into_bytes()),
            variables: VariableSources::default(),
            files: None,
            support: Support::all(),
        };
        bivouac_jobspec::parse(&input).unwrap_or_else(|problems| panic!("{problems}")).job
    }

    fn told(before: &str, after: &str) -> Vec<String> {
        let show = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        let all = differences(&job(before), &job(after));
        all.into_iter()
            .map(|one| format!("{}: {} {}", one.place, show(one.before), show(one.after)))
            .collect()
    }

    #[test]
    fn parts_are_named_by_the_names_of_groups_and_tasks() {
        let task = |name: &str, command: &str| {
            format!("task \"{name}\" {{\n driver = \"exec\"\n config {{\n command = \"{command}\"\n}}\n}}\n")
        };
        let group = |body: &str| format!("group \"g\" {{\n{body}\n}}\n");
        let before = group(&task("a", "/bin/true"));
        assert!(told(&before, &before).is_empty());
        assert_eq!(
            told(&before, &group(&task("a", "/bin/false"))),
            ["groups[g].tasks[a].config.command: \"/bin/true\" \"/bin/false\""]
        );
        let two = told(&before, &group(&(task("b", "/bin/b") + &task("a", "/bin/true"))));
        assert!(two.len() == 1 && two[0].starts_with("groups[g].tasks[b]: - {"), "{two:?}");
        assert_eq!(
            told(&before, &group(&format!("count = 2\n{}", task("a", "/bin/true")))),
            ["groups[g].count: 1 2"]
        );
    }
}
