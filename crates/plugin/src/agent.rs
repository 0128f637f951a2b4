//! A client agent's configuration, looked at without the agent: what it would refuse of ours, with the code that
//! refuses it there, and what it would pass over in silence.

use crate::base;
use crate::engine::Bivouac;
use crate::name::DriverName;
use crate::options::{Kind, Opt};
use crate::request::PRIVATE;
use bivouac_driver::fingerprint::{Missing, unfit};
use bivouac_shim::client::program::Unfit;
use serde_json::Value;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The driver whose place ours takes, and the options that it has.
const BUILT_IN: &str = "exec";
const ITS_OPTIONS: [&str; 6] = [
    "no_pivot_root",
    "default_pid_mode",
    "default_ipc_mode",
    "allow_caps",
    "denied_host_uids",
    "denied_host_gids",
];
/// Other drivers of Nomad, whose blocks need no file.
const BUILT_IN_TOO: [&str; 5] = ["docker", "java", "mock_driver", "qemu", "raw_exec"];
/// Where an agent looks for plugins when nothing is said, below its data directory.
const USUAL_DIRECTORY: &str = "plugins";

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Weight {
    /// The agent does not start, or the driver does not serve.
    Wrong,
    /// Something is not as it seems.
    Note,
    /// As it should be.
    Fine,
}

/// One sentence about a configuration.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// How much it matters.
    pub weight: Weight,
    /// The sentence.
    pub text: String,
}

/// What a file in the plugin directory is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PluginFile {
    /// Our program.
    Ours {
        /// Whether its shim is there, and the one that it starts.
        shim: Result<(), Unfit>,
    },
    /// Another program.
    Other,
}

/// The machine, as far as a configuration is about it.
pub trait Machine {
    /// The files of a plugin directory; `None` if there is no such directory.
    fn plugins(&self, directory: &Path) -> Option<Vec<(String, PluginFile)>>;

    /// Nomad's log collectors of tasks that Bivouac runs or ran: process and task.
    fn collectors(&self) -> Vec<(i32, String)>;
}

/// Whether a task was ever started by Bivouac in this allocation's directory, which the client keeps until it collects
/// the allocation.
pub fn ran_here(allocation: &Path, task: &str) -> bool {
    allocation.join(format!("{PRIVATE}{task}")).is_dir()
}

/// Who writes the logs of a driver's tasks.
#[derive(Clone, Copy, PartialEq)]
enum Collector {
    Nomad,
    Bivouac,
}

/// Looks at a configuration, given as the agent's blocks: a block is a list with an object for each time it stands
/// there, and a label is an object around it.
pub fn findings(agent: &Value, machine: &dyn Machine) -> Vec<Finding> {
    let mut found = Vec::new();
    let directory = plugin_directory(agent);
    let listed = directory.as_deref().and_then(|directory| machine.plugins(directory));
    if let (Some(directory), None) = (&directory, &listed) {
        found.push(note(format!("there is no plugin_dir {} on this machine", directory.display())));
    }
    let blocks: Vec<Block<'_>> = Block::all(agent);
    let ours = blocks.iter().filter_map(|block| block.look(listed.as_deref(), &blocks, agent, &mut found));
    let ours: Vec<Collector> = ours.collect();
    // Where some drivers still have Nomad's collectors, it is theirs that run.
    let left = !ours.is_empty() && ours.iter().all(|collector| *collector == Collector::Bivouac);
    for (pid, task) in if left { machine.collectors() } else { Vec::new() } {
        found.push(note(format!(
            "process {pid} is Nomad's log collector of the task {task}, begun before log_collection was changed: it goes on for \
             ever; end it when the task is over"
        )));
    }
    for (name, _) in listed.iter().flatten().filter(|(_, file)| matches!(file, PluginFile::Ours { .. })) {
        if !blocks.iter().any(|block| block.label == name) {
            found.push(note(format!(
                "plugin_dir holds {name}, but no block `plugin \"{name}\"` says so: the agent does not look at it"
            )));
        }
    }
    found
}

fn note(text: String) -> Finding {
    Finding { weight: Weight::Note, text }
}

fn wrong(text: String) -> Finding {
    Finding { weight: Weight::Wrong, text }
}

fn plugin_directory(agent: &Value) -> Option<PathBuf> {
    let text = |name: &str| agent.get(name).and_then(Value::as_str).map(PathBuf::from);
    text("plugin_dir").or_else(|| Some(text("data_dir")?.join(USUAL_DIRECTORY)))
}

/// One `plugin` block.
struct Block<'a> {
    label: &'a str,
    args: Vec<OsString>,
    config: Option<&'a Value>,
}

/// The objects of a block, or the one object that was given as an argument.
fn each(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    let (list, one) = match value {
        Some(Value::Array(list)) => (list.as_slice(), None),
        other => ([].as_slice(), other),
    };
    list.iter().chain(one)
}

impl<'a> Block<'a> {
    fn all(agent: &'a Value) -> Vec<Block<'a>> {
        let labelled = each(agent.get("plugin")).filter_map(Value::as_object).flatten();
        let blocks =
            labelled.flat_map(|(label, inside)| each(Some(inside)).map(move |inside| (label, inside)));
        let block = |(label, inside): (&'a String, &'a Value)| Block {
            label,
            args: each(inside.get("args")).filter_map(Value::as_str).map(OsString::from).collect(),
            config: each(inside.get("config")).next(),
        };
        blocks.map(block).collect()
    }

    /// The driver's name if this is ours: as the process finds it out.
    fn name(&self) -> Result<DriverName, String> {
        let mut args = vec![OsString::from(self.label)];
        args.extend(self.args.iter().cloned());
        DriverName::from_args(&args).map_err(|error| error.to_string())
    }

    /// Tells who writes the logs if it is one of ours that serves.
    fn look(
        &self,
        listed: Option<&[(String, PluginFile)]>,
        blocks: &[Block<'_>],
        agent: &Value,
        found: &mut Vec<Finding>,
    ) -> Option<Collector> {
        let label = self.label;
        let file = listed.and_then(|files| files.iter().find(|(name, _)| name == label));
        match (file, listed) {
            (Some((_, PluginFile::Ours { shim })), _) => {
                if let Err(why) = shim {
                    let Missing { what, remedy } = unfit(why);
                    found.push(wrong(format!("plugin {label:?} would start no task: {what}; {remedy}")));
                }
                return self.look_at_ours(blocks, agent, found);
            }
            (None, None) if self.seems_ours() => return self.look_at_ours(blocks, agent, found),
            (None, _) if label == BUILT_IN => self.look_at_built_in(found),
            (None, Some(_)) if !BUILT_IN_TOO.contains(&label) => found.push(note(format!(
                "plugin {label:?}: plugin_dir holds no file of that name; a block is only for the file that it names"
            ))),
            (Some((_, PluginFile::Other)) | None, _) => {}
        }
        None
    }

    /// Where the directory cannot be looked at.
    fn seems_ours(&self) -> bool {
        let all = all_options();
        let is_ours = |name: &String| {
            all.iter().any(|option| option.name == name) && !ITS_OPTIONS.contains(&name.as_str())
        };
        self.label.starts_with("bivouac") || self.options().any(is_ours)
    }

    fn options(&self) -> impl Iterator<Item = &'a String> {
        self.config.and_then(Value::as_object).into_iter().flatten().map(|(name, _)| name)
    }

    /// The built-in driver reads this block: it knows nothing of our options.
    fn look_at_built_in(&self, found: &mut Vec<Finding>) {
        let all = all_options();
        let strange: Vec<&str> = self
            .options()
            .map(String::as_str)
            .filter(|name| !ITS_OPTIONS.contains(name) && all.iter().any(|option| option.name == *name))
            .collect();
        if !strange.is_empty() {
            found.push(wrong(format!(
                "plugin \"exec\": plugin_dir holds no file exec, so the built-in driver reads this block; it refuses {}, and \
                 the agent does not start: take them out, or put the link back",
                strange.join(", ")
            )));
        }
    }

    fn look_at_ours(
        &self,
        blocks: &[Block<'_>],
        agent: &Value,
        found: &mut Vec<Finding>,
    ) -> Option<Collector> {
        let label = self.label;
        let checked = self.name().and_then(|name| {
            let options = all_options();
            let config = self.config.map(|config| as_the_client_sends(config, &options));
            let bytes = rmp_serde::to_vec_named(&config).map_err(|error| error.to_string())?;
            let settings = base::check(&Bivouac::new(&name), &bytes)?;
            Ok((name, settings))
        });
        let (name, settings) = match checked {
            Ok(checked) => checked,
            Err(why) => {
                found.push(wrong(format!("plugin {label:?}: {why}; the whole agent does not start with it")));
                return None;
            }
        };
        let name = name.as_str();
        found.push(Finding {
            weight: Weight::Fine,
            text: format!("plugin {label:?}: its config is accepted; it is the driver {name:?}"),
        });
        if name == BUILT_IN && label != BUILT_IN && blocks.iter().any(|block| block.label == BUILT_IN) {
            found.push(note(format!(
                "plugin \"exec\" is ignored: the driver \"exec\" is {label:?} now, which reads its own block only"
            )));
        }
        let copies = each(agent.get("client")).any(|client| {
            each(client.get("chroot_env")).filter_map(Value::as_object).all(serde_json::Map::is_empty)
        });
        if !settings.adds_host_environment() && copies {
            found.push(note(format!(
                "plugin {label:?}: with fs_isolation = \"chroot\" the client copies its whole default root for every task; set \
                 chroot_env = {{ \"/nonexistent\" = \"/\" }} in the block client"
            )));
        }
        Some(if settings.collects() { Collector::Bivouac } else { Collector::Nomad })
    }
}

fn all_options() -> Vec<Opt> {
    DriverName::new(BUILT_IN).map_or_else(|_| Vec::new(), |name| base::operator_options(&Bivouac::new(&name)))
}

/// The agent converts what its schema allows to be converted before it sends it.
fn as_the_client_sends(config: &Value, options: &[Opt]) -> Value {
    let Some(config) = config.as_object() else { return config.clone() };
    let value = |(name, value): (&String, &Value)| {
        let kind = options.iter().find(|option| option.name == name).map(|option| &option.kind);
        let sent = match (kind, value) {
            (Some(Kind::TextMap | Kind::Block(_)), Value::Array(blocks)) if blocks.len() == 1 => {
                blocks.first().cloned().unwrap_or_default()
            }
            (Some(Kind::Flag), Value::String(text)) if text == "true" || text == "1" => true.into(),
            (Some(Kind::Flag), Value::String(text)) if text == "false" || text == "0" => false.into(),
            (Some(Kind::Text), Value::Bool(_) | Value::Number(_)) => value.to_string().into(),
            _ => value.clone(),
        };
        (name.clone(), sent)
    };
    Value::Object(config.iter().map(value).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Directories written down.
    struct Paper(Option<Vec<(&'static str, PluginFile)>>);

    impl Machine for Paper {
        fn plugins(&self, _: &Path) -> Option<Vec<(String, PluginFile)>> {
            Some(self.0.as_ref()?.iter().map(|(name, file)| ((*name).to_owned(), file.clone())).collect())
        }
        fn collectors(&self) -> Vec<(i32, String)> {
            vec![(42, "a/web".into())]
        }
    }

    const OURS: PluginFile = PluginFile::Ours { shim: Ok(()) };

    fn said(files: &[(&'static str, PluginFile)], agent: &Value) -> Vec<(Weight, String)> {
        let found = findings(agent, &Paper(Some(files.to_vec())));
        found.into_iter().map(|finding| (finding.weight, finding.text)).collect()
    }

    fn block(label: &str, config: &Value) -> Value {
        json!({"plugin_dir": "/opt/nomad/plugins", "plugin": [{label: [{"config": [config]}]}]})
    }

    fn only(files: &[(&'static str, PluginFile)], agent: &Value, weight: Weight, words: &str) {
        let all = said(files, agent);
        let of_weight: Vec<&(Weight, String)> = all.iter().filter(|(of, _)| *of == weight).collect();
        assert!(of_weight.len() == 1 && of_weight[0].1.contains(words), "{words}: {all:?}");
    }

    #[test]
    fn a_sound_block_is_accepted_whatever_the_client_converts() {
        let config = json!({"allow_root": "true", "chroot_env": [{"/bin": "/bin"}], "denied_host_uids": 5});
        only(&[("bivouac", OURS)], &block("bivouac", &config), Weight::Fine, "the driver \"bivouac\"");
        let named = json!({"plugin_dir": "/p", "plugin": [{"x": [{"args": ["--name", "exec"]}]}]});
        only(&[("x", OURS)], &named, Weight::Fine, "the driver \"exec\"");
    }

    #[test]
    fn what_setconfig_refuses_is_refused_in_its_words() {
        let files = [("bivouac", OURS)];
        let cases = [
            (json!({"no_such": 1}), "there is no option no_such"),
            (json!({"allow_root": [1]}), "option allow_root: expected true or false"),
            (
                json!({"allow_caps": ["not_valid"]}),
                "allow_caps configured with capabilities not supported by system: not_valid",
            ),
            (json!({"log_collection": "x"}), "log_collection must be \"nomad\" or \"bivouac\", got \"x\""),
            (json!({"denied_host_uids": "10-1"}), "invalid range deniedHostUIDs \"10-1\""),
        ];
        for (config, words) in cases {
            only(&files, &block("bivouac", &config), Weight::Wrong, words);
        }
        let agent = json!({"plugin_dir": "/p", "plugin": [{"bivouac": [{"args": ["--name", "a b"]}]}]});
        only(&files, &agent, Weight::Wrong, "is no driver name");
    }

    #[test]
    fn blocks_and_files_that_do_not_meet_are_named() {
        let empty = json!({});
        only(
            &[("bivouac", OURS)],
            &json!({"plugin_dir": "/p"}),
            Weight::Note,
            "no block `plugin \"bivouac\"`",
        );
        only(&[], &block("bivouac", &empty), Weight::Note, "holds no file of that name");
        let shim = Err(Unfit::Other { program: "/p/bivouac-shim".into(), theirs: 7 });
        only(
            &[("bivouac", PluginFile::Ours { shim })],
            &block("bivouac", &empty),
            Weight::Wrong,
            "would start no task: the program /p/bivouac-shim speaks version 7",
        );
        let both = json!({"plugin_dir": "/p", "plugin": [
            {"isolated": [{"args": ["--name", "exec"]}]}, {"exec": [{"config": [{"allow_caps": ["kill"]}]}]},
        ]});
        only(&[("isolated", OURS)], &both, Weight::Note, "plugin \"exec\" is ignored");
        assert!(
            findings(&json!({"plugin_dir": "/p"}), &Paper(None))[0].text.contains("there is no plugin_dir")
        );
        assert_eq!(said(&[("other", PluginFile::Other)], &block("other", &json!({"x": 1}))), []);
        assert_eq!(said(&[], &block("raw_exec", &json!({"enabled": true}))), []);
    }

    #[test]
    fn options_of_ours_must_leave_with_us() {
        let config = json!({"allow_caps": ["kill"], "log_collection": "bivouac", "allow_root": true});
        only(&[], &block("exec", &config), Weight::Wrong, "refuses allow_root, log_collection");
        assert_eq!(said(&[], &block("exec", &json!({"allow_caps": ["kill"]}))), []);
        let found = findings(&block("exec", &config), &Paper(None));
        assert!(
            found.iter().any(|finding| finding.weight == Weight::Fine),
            "the file may be elsewhere: {found:?}"
        );
    }

    #[test]
    fn prices_and_collectors_that_stay_are_said() {
        let files = [("bivouac", OURS)];
        let mut agent = block("bivouac", &json!({"fs_isolation": "chroot"}));
        agent["client"] = json!([{"enabled": true}]);
        only(&files, &agent, Weight::Note, "copies its whole default root");
        agent["client"] = json!([{"chroot_env": [{"/nonexistent": "/"}]}]);
        assert!(said(&files, &agent).iter().all(|(weight, _)| *weight == Weight::Fine));
        only(
            &files,
            &block("bivouac", &json!({"log_collection": "bivouac"})),
            Weight::Note,
            "process 42 is Nomad's log collector of the task a/web",
        );
        let files = [("bivouac", OURS), ("other", OURS)];
        let mut agent = block("bivouac", &json!({"log_collection": "bivouac"}));
        agent["plugin"][0]["other"] = json!([{}]);
        assert!(
            said(&files, &agent).iter().all(|(weight, _)| *weight == Weight::Fine),
            "it may well be the other driver's"
        );
    }
}
