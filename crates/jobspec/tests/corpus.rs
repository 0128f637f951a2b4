//! Every job file of the corpus: its typed job as a snapshot, and its values against a real Nomad if one is here.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking and says what it skips")]

use bivouac_jobspec::{FolderFiles, Input, Outcome, SourceFile, VariableSources, parse};
use std::path::{Path, PathBuf};
use std::process::Command;

fn corpus() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.to_string_lossy().ends_with(".nomad.hcl"));
    files.sort();
    assert!(files.len() >= 25, "the corpus has only {} files", files.len());
    files
}

fn stem(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().trim_end_matches(".nomad.hcl").to_owned()
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

/// The parts of Nomad's answer that are evaluation, not defaults: both sides in one shape.
#[test]
fn values_equal_nomads() {
    let home = std::env::var("HOME").unwrap_or_default();
    let nomad = Path::new(&home).join(".cache/bivouac-tests/nomad-1.11.2");
    if !nomad.exists() {
        println!("SKIPPED: values_equal_nomads: there is no {}", nomad.display());
        return;
    }
    let mut wrong = Vec::new();
    for path in corpus() {
        // Arguments that newer versions than this one have.
        if stem(&path).starts_with("later-") {
            continue;
        }
        let out = Command::new(&nomad)
            .args(["job", "run", "-output"])
            .arg(path.file_name().unwrap())
            .current_dir(path.parent().unwrap())
            .env("NOMAD_VAR_from_env", "environment")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&out.stdout);
        if !out.status.success() {
            wrong.push(format!(
                "{}: Nomad refuses: {text}{}",
                path.display(),
                String::from_utf8_lossy(&out.stderr)
            ));
            continue;
        }
        let nomad: serde_json::Value = serde_json::from_str(&text).unwrap();
        let nomad = &nomad["Job"];
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
