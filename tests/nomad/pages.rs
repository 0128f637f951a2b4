//! docs/nomad.md and examples/nomad: the options as they are defined, and files that work.

use crate::agent::{Agent, Plugin, Setup, program};
use crate::real_plugin;
use bivouac_plugin::engine::Bivouac;
use bivouac_plugin::face::Engine;
use bivouac_plugin::options::{Kind, Opt, Value, face_operator_options, face_task_options};
use std::path::{Path, PathBuf};

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn shown(value: &Value) -> String {
    match value {
        Value::Text(text) => format!("`\"{text}\"`"),
        Value::Flag(flag) => format!("`{flag}`"),
        Value::Count(count) => format!("`{count}`"),
        Value::Number(number) => format!("`{number}`"),
        Value::TextList(list) if list.is_empty() => "`[]`".into(),
        Value::TextList(list) => format!("`{list:?}`"),
        Value::TextMap(map) if map.is_empty() => "`{}`".into(),
        Value::TextMap(map) => {
            let pairs: Vec<String> =
                map.iter().map(|(name, value)| format!("{name:?} = {value:?}")).collect();
            format!("`{{ {} }}`", pairs.join(", "))
        }
        Value::Block(_) | Value::Blocks(_) => "a block".into(),
    }
}

fn table(options: &[Opt]) -> String {
    let mut text = String::from("| option | type | default | meaning |\n|---|---|---|---|\n");
    rows(&mut text, "", options);
    text
}

fn rows(text: &mut String, above: &str, options: &[Opt]) {
    for option in options {
        let (kind, below) = match &option.kind {
            Kind::Text => ("text", None),
            Kind::Flag => ("bool", None),
            Kind::Count | Kind::Number => ("number", None),
            Kind::TextList => ("list", None),
            Kind::TextMap => ("map", None),
            Kind::Block(below) => ("block", Some(below)),
            Kind::Blocks(below) => ("blocks", Some(below)),
        };
        let default = match &option.default {
            _ if option.required => "required".to_owned(),
            Some(value) => shown(value),
            None => "unset".to_owned(),
        };
        let name = format!("{above}{}", option.name);
        let help = option.help.replace('|', "\\|");
        text.push_str(&format!("| `{name}` | {kind} | {default} | {help} |\n"));
        if let Some(below) = below {
            rows(text, &format!("{name}."), below);
        }
    }
}

fn filled(page: &str, which: &str, table: &str) -> String {
    let mark = format!("<!-- {which} options: written by the tests -->\n");
    let (before, rest) = page.split_once(&mark).expect("the mark");
    let (_, after) = rest.split_once("<!-- end -->").expect("the end of the table");
    format!("{before}{mark}{table}<!-- end -->{after}")
}

#[test]
fn the_page_holds_every_option_as_it_is_defined() {
    let file = top().join("docs/nomad.md");
    let before = std::fs::read_to_string(&file).expect("docs/nomad.md");
    let engine = Bivouac::new(&bivouac_plugin::DriverName::new("bivouac").expect("a name"));
    let mut operator = engine.operator_options();
    operator.extend(face_operator_options());
    let mut task = engine.task_options();
    task.extend(face_task_options());
    let after = filled(&before, "operator", &table(&operator));
    let after = filled(&after, "task", &table(&task));
    if std::env::var("INSTA_UPDATE").is_ok_and(|update| update == "always") {
        std::fs::write(&file, &after).expect("docs/nomad.md");
    } else {
        assert!(before == after, "the tables of docs/nomad.md are old: INSTA_UPDATE=always writes them");
    }
}

/// An example's inside of its `plugin` block.
fn block(file: &str, label: &str) -> String {
    let text = std::fs::read_to_string(top().join("examples/nomad").join(file)).expect("an example");
    let inside = text.split_once(&format!("plugin \"{label}\" {{\n")).expect("the block").1;
    inside.trim_end().strip_suffix('}').expect("the end of the block").to_owned()
}

#[test]
fn the_examples_run_as_they_are() {
    let Ok(nomad) = program().inspect_err(|why| println!("SKIPPED: examples: {why}")) else { return };
    let (plugin, shim) = real_plugin();
    let shim = shim.to_str().expect("a plain path").to_owned();
    let (beside, instead) = (block("agent.hcl", "bivouac"), block("override.hcl", "exec"));
    let plugins = [
        Plugin { file: "bivouac", program: &plugin, block: &beside },
        Plugin { file: "exec", program: &plugin, block: &instead },
    ];
    let setup = Setup { plugins: &plugins, env: &[("BIVOUAC_SHIM", &shim)], ..Setup::default() };
    let mut agent = Agent::prepare(&nomad, setup);
    agent.launch();
    agent.wait_for_driver("bivouac");
    agent.wait_for_driver("exec");
    let run = |name: &str| {
        let file = top().join("examples/nomad").join(format!("{name}.nomad.hcl"));
        let said = agent.nomad(&["job", "run", "-detach", file.to_str().expect("a plain path")]);
        assert_eq!(said.code, 0, "{said:?}");
        agent.found(name)
    };
    let service = run("service");
    service.stdout_is("greeting = good day from main\n");
    assert_eq!(service.exec(&["uname", "-n"]).stdout, "app\n");
    let exec = run("exec");
    exec.stdout_has("20");
    exec.wait_for("complete");
    service.stop();
    assert_eq!(service.code(), 143, "init passes the signal on: {}", service.events());
}
