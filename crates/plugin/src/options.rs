//! Options: how one is described, and the values that were given.
//!
//! One description serves the schema that the client checks with, the decoding of what it sends, and
//! the documentation. The engine has its own list; what only matters under Nomad is listed here.

use std::collections::BTreeMap;

/// One option of a `config` block.
#[derive(Debug, Clone, PartialEq)]
pub struct Opt {
    /// Its name in the block.
    pub name: &'static str,
    /// What it may hold.
    pub kind: Kind,
    /// Whether a block without it is refused.
    pub required: bool,
    /// What it is when nobody sets it; `None` leaves it out of [`Values`].
    pub default: Option<Value>,
    /// One sentence for the documentation.
    pub help: &'static str,
}

/// What an option may hold.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// Text.
    Text,
    /// `true` or `false`.
    Flag,
    /// A whole number.
    Count,
    /// A number.
    Number,
    /// A list of texts.
    TextList,
    /// Texts by free names.
    TextMap,
    /// At most one block.
    Block(Vec<Opt>),
    /// Any number of blocks, in order.
    Blocks(Vec<Opt>),
}

/// The value of one option.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Text.
    Text(String),
    /// `true` or `false`.
    Flag(bool),
    /// A whole number.
    Count(i64),
    /// A number.
    Number(f64),
    /// A list of texts.
    TextList(Vec<String>),
    /// Texts by free names.
    TextMap(BTreeMap<String, String>),
    /// One block.
    Block(Values),
    /// Blocks, in order.
    Blocks(Vec<Values>),
}

/// The values of a block, by option. Options that are unset and have no default are not in it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Values(pub BTreeMap<String, Value>);

impl Values {
    /// The text of an option, if it is set and is one.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.0.get(name) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// The flag of an option, if it is set and is one.
    #[must_use]
    pub fn flag(&self, name: &str) -> Option<bool> {
        match self.0.get(name) {
            Some(Value::Flag(flag)) => Some(*flag),
            _ => None,
        }
    }

    /// The whole number of an option, if it is set and is one.
    #[must_use]
    pub fn count(&self, name: &str) -> Option<i64> {
        match self.0.get(name) {
            Some(Value::Count(count)) => Some(*count),
            _ => None,
        }
    }

    /// The texts of an option, if it is set and is a list.
    #[must_use]
    pub fn list(&self, name: &str) -> Option<&[String]> {
        match self.0.get(name) {
            Some(Value::TextList(list)) => Some(list),
            _ => None,
        }
    }

    /// Takes the named options out of a block.
    #[must_use]
    pub fn split_off(&mut self, names: &[Opt]) -> Self {
        let taken = names.iter().filter_map(|opt| self.0.remove_entry(opt.name)).collect();
        Self(taken)
    }
}

/// The options of the plugin's `config` block that only matter under Nomad.
#[must_use]
pub fn face_operator_options() -> Vec<Opt> {
    let texts = |list: &[&str]| Value::TextList(list.iter().map(|&text| text.to_owned()).collect());
    vec![
        Opt {
            name: "fs_isolation",
            kind: Kind::Text,
            required: false,
            default: Some(Value::Text("image".to_owned())),
            help: "What the driver tells Nomad about file systems: `image` (Nomad copies nothing) or `chroot`",
        },
        Opt {
            name: "log_collection",
            kind: Kind::Text,
            required: false,
            default: Some(Value::Text("nomad".to_owned())),
            help: "Who writes the tasks' log files: `nomad` or `bivouac`",
        },
        Opt {
            name: "log_max_files",
            kind: Kind::Count,
            required: false,
            default: Some(Value::Count(10)),
            help: "Log files kept per stream, with `log_collection = \"bivouac\"`",
        },
        Opt {
            name: "log_max_file_size",
            kind: Kind::Count,
            required: false,
            default: Some(Value::Count(10)),
            help: "Size of one log file in MiB, with `log_collection = \"bivouac\"`",
        },
        Opt {
            name: "env_denylist",
            kind: Kind::TextList,
            required: false,
            default: Some(texts(crate::environment::DEFAULT_DENYLIST)),
            help: "Variables of the agent that no task sees",
        },
        Opt {
            name: "dynamic_workload_users",
            kind: Kind::Flag,
            required: false,
            default: Some(Value::Flag(false)),
            help: "Whether Nomad gives a task without a user one of its own",
        },
    ]
}

/// The options of a task's `config` block that only matter under Nomad.
#[must_use]
pub fn face_task_options() -> Vec<Opt> {
    vec![
        Opt {
            name: "log_max_files",
            kind: Kind::Count,
            required: false,
            default: None,
            help: "Log files kept per stream, with the plugin's `log_collection = \"bivouac\"`",
        },
        Opt {
            name: "log_max_file_size",
            kind: Kind::Count,
            required: false,
            default: None,
            help: "Size of one log file in MiB, with the plugin's `log_collection = \"bivouac\"`",
        },
    ]
}
