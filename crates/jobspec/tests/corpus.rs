//! Every job file of the corpus: its typed job as a snapshot, and its values against a real Nomad if one is here.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking and says what it skips")]

use bivouac_jobspec::{FolderFiles, Input, Outcome, SourceFile, VariableSources, function_names, parse};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

fn corpus() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files
        .retain(|path| [".nomad.hcl", ".nomad.json"].iter().any(|end| path.to_string_lossy().ends_with(end)));
    files.sort();
    assert!(files.len() >= 60, "the corpus has only {} files", files.len());
    files
}

fn stem(path: &Path) -> String {
    let name = path.file_name().unwrap().to_string_lossy();
    name.trim_end_matches(".hcl").trim_end_matches(".json").trim_end_matches(".nomad").to_owned()
}

fn read(path: &Path) -> Outcome {
    let files = FolderFiles::new(path.parent().unwrap(), None).unwrap();
    let input = Input {
        job: SourceFile::new(path.file_name().unwrap().to_string_lossy(), std::fs::read(path).unwrap()),
        variables: VariableSources {
            environment: vec![("from_env".into(), "environment".into())],
            files: Vec::new(),
            arguments: vec![],
        },
        files: Some(&files),
        ..Input::default()
    };
    parse(&input).unwrap_or_else(|errors| panic!("{}", errors.render(false)))
}

#[test]
fn typed_jobs() {
    for path in corpus() {
        let outcome = read(&path);
        let notes: Vec<_> = outcome
            .notes
            .iter()
            .map(|note| format!("{}: {}", outcome.sources.place(note.span), note.message))
            .collect();
        let json = serde_json::json!({ "notes": notes, "job": outcome.job });
        insta::assert_json_snapshot!(stem(&path), json);
    }
}

#[test]
fn a_job_survives_being_stored() {
    for path in corpus() {
        let job = read(&path).job;
        let text = serde_json::to_string(&job).unwrap();
        let again: bivouac_jobspec::Job = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&again).unwrap(), text, "{}", path.display());
    }
}

/// What the real `nomad job run -output` makes of a file, without what it leaves empty; `None` where there is no Nomad.
fn ask_nomad(path: &Path) -> Option<serde_json::Value> {
    let home = std::env::var("HOME").unwrap_or_default();
    let nomad = Path::new(&home).join(".cache/bivouac-tests/nomad-1.11.2");
    if !nomad.exists() {
        return None;
    }
    let out = Command::new(&nomad)
        .args(["job", "run", "-output"])
        .arg(path.file_name().unwrap())
        .current_dir(path.parent().unwrap())
        .env("NOMAD_VAR_from_env", "environment")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    let complaint = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{}: Nomad refuses: {said}{complaint}", path.display());
    let answer: serde_json::Value = serde_json::from_str(&said).unwrap();
    Some(filled(&answer["Job"]))
}

/// A value without its nulls.
fn filled(value: &serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Object(items) => {
            let kept = items.iter().filter(|(_, item)| !item.is_null());
            Value::Object(kept.map(|(key, item)| (key.clone(), filled(item))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(filled).collect()),
        other => other.clone(),
    }
}

fn expected(path: &Path) -> PathBuf {
    path.parent().unwrap().join("expected").join(format!("{}.json", stem(path)))
}

/// Files that the real Nomad of the tests understands: some use arguments of newer versions.
fn understood() -> impl Iterator<Item = PathBuf> {
    corpus().into_iter().filter(|path| !stem(path).starts_with("later-"))
}

/// The checked-in values are those of the real Nomad. `BIVOUAC_WRITE_EXPECTED=1` writes them anew.
#[test]
fn expected_values_are_nomads() {
    for path in understood() {
        let Some(nomads) = ask_nomad(&path) else {
            println!("SKIPPED: expected_values_are_nomads: there is no Nomad in ~/.cache/bivouac-tests");
            return;
        };
        let place = expected(&path);
        if std::env::var_os("BIVOUAC_WRITE_EXPECTED").is_some() {
            std::fs::create_dir_all(place.parent().unwrap()).unwrap();
            let text = serde_json::to_string_pretty(&nomads).unwrap();
            std::fs::write(&place, format!("{text}\n")).unwrap();
        }
        let text = std::fs::read_to_string(&place).unwrap_or_else(|_| panic!("no {}", place.display()));
        let checked_in: serde_json::Value = serde_json::from_str(&text).unwrap();
        // Times are those of the run.
        assert_eq!(without_times(checked_in), without_times(nomads), "{}", place.display());
    }
}

fn without_times(mut job: serde_json::Value) -> serde_json::Value {
    if let Some(items) = job.as_object_mut() {
        items.retain(|key, _| !key.ends_with("Time"));
    }
    job
}

/// What we make of each file is what Nomad makes of it, in every part that is evaluation and not a default.
#[test]
fn values_equal_nomads() {
    let mut wrong = Vec::new();
    for path in understood() {
        let nomad =
            std::fs::read(expected(&path)).unwrap_or_else(|_| panic!("no {}", expected(&path).display()));
        let nomad: serde_json::Value = serde_json::from_slice(&nomad).unwrap();
        let ours = serde_json::to_value(read(&path).job).unwrap();
        let name = stem(&path);
        let mut same = |name: &str, what: &str, theirs: &serde_json::Value, ours: &serde_json::Value| {
            let (theirs, ours) = (plain(theirs), plain(ours));
            if theirs != ours {
                wrong.push(format!("{name}: {what}: Nomad says {theirs}, we say {ours}"));
            }
        };
        same(&name, "id", &nomad["ID"], &ours["id"]);
        same(&name, "meta", &nomad["Meta"], &ours["meta"]);
        let groups = list(&nomad["TaskGroups"]);
        assert_eq!(groups.len(), list(&ours["groups"]).len(), "{name}: groups");
        for (theirs, group) in groups.iter().zip(list(&ours["groups"])) {
            same(&name, "group", &theirs["Name"], &group["name"]);
            same(&name, "group meta", &theirs["Meta"], &group["meta"]);
            assert_eq!(list(&theirs["Tasks"]).len(), list(&group["tasks"]).len(), "{name}: tasks");
            for (theirs, task) in list(&theirs["Tasks"]).iter().zip(list(&group["tasks"])) {
                same(&name, "task", &theirs["Name"], &task["name"]);
                same(&name, "env", &theirs["Env"], &task["env"]);
                same(&name, "meta", &theirs["Meta"], &task["meta"]);
                same(&name, "config", &theirs["Config"], &task["config"]);
                let user = theirs["User"].as_str().filter(|user| !user.is_empty());
                same(&name, "user", &serde_json::json!(user), &task["user"]);
                same(
                    &name,
                    "volume mounts",
                    &names(&theirs["VolumeMounts"], "Destination"),
                    &names(&task["volume_mounts"], "destination"),
                );
                for (theirs, template) in list(&theirs["Templates"]).iter().zip(list(&task["templates"])) {
                    same(&name, "data", &theirs["EmbeddedTmpl"], &template["source"]["data"]);
                    same(&name, "destination", &theirs["DestPath"], &template["destination"]);
                }
                for (theirs, artifact) in list(&theirs["Artifacts"]).iter().zip(list(&task["artifacts"])) {
                    same(&name, "source", &theirs["GetterSource"], &artifact["source"]);
                    same(&name, "options", &theirs["GetterOptions"], &artifact["options"]);
                }
                for (theirs, one) in list(&theirs["Constraints"]).iter().zip(list(&task["constraints"])) {
                    same(&name, "constraint", &theirs["LTarget"], &one["attribute"]);
                    same(&name, "constraint", &theirs["RTarget"], &one["value"]);
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// One field of each element.
fn names(all: &serde_json::Value, field: &str) -> serde_json::Value {
    list(all).iter().map(|item| item[field].clone()).collect()
}

fn list(value: &serde_json::Value) -> Vec<serde_json::Value> {
    value.as_array().cloned().unwrap_or_default()
}

/// Nomad's answer wraps an object of a config in a list and writes nothing for empty.
fn plain(value: &serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Array(items) if items.len() == 1 && items[0].is_object() => plain(&items[0]),
        Value::Array(items) if items.is_empty() => Value::Null,
        Value::Array(items) => Value::Array(items.iter().map(plain).collect()),
        Value::Object(items) if items.is_empty() => Value::Null,
        Value::Object(items) => {
            Value::Object(items.iter().map(|(key, item)| (key.clone(), plain(item))).collect())
        }
        Value::Number(number) => serde_json::json!(number.as_f64()),
        other => other.clone(),
    }
}

/// Whether a word stands somewhere as a word of its own, followed by what `after` accepts.
fn stands(text: &str, word: &str, after: impl Fn(&str) -> bool) -> bool {
    let inside = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let rest = text.get(at + word.len()..).unwrap_or_default();
        let begins = !text.get(..at).unwrap_or_default().ends_with(inside);
        begins && !rest.starts_with(inside) && after(rest)
    })
}

/// Names of blocks that the readers ask for, from their source: what they ask for is what there is.
fn blocks() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/decode");
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let source = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for (asks, end) in
            [(".one(", ')'), (".take(", ')'), ("cluster_only(&[", ']'), ("CLUSTER: &[&str] = &[", ']')]
        {
            for asked in source.split(asks).skip(1) {
                let asked = asked.split(end).next().unwrap_or_default();
                names.extend(asked.split('"').skip(1).step_by(2).map(str::to_owned));
            }
        }
    }
    assert!(names.len() > 40 && names.contains("task") && names.contains("affinity"), "{names:?}");
    names
}

/// Every function and every block of the language stands in some file of the corpus.
#[test]
fn the_corpus_uses_everything() {
    // Nomad lists it, and needs a private key in the job file; ours says that it is not there.
    let without = ["rsadecrypt"];
    let texts: Vec<_> = corpus().iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let all = texts.join("\n");
    let unused: Vec<_> = function_names()
        .filter(|name| !without.contains(name) && !stands(&all, name, |rest| rest.starts_with('(')))
        .collect();
    assert!(unused.is_empty(), "no file of the corpus calls {unused:?}");
    let opens = |rest: &str| {
        let line = rest.lines().next().unwrap_or_default().trim_start_matches('"').trim();
        line.starts_with('{') || line.starts_with('"') && line.contains('{') || line.starts_with(": {")
    };
    let unused: Vec<_> = blocks().into_iter().filter(|name| !stands(&all, name, opens)).collect();
    assert!(unused.is_empty(), "no file of the corpus has {unused:?}");
}
