//! A list of plugins carried out: each in order with what the one before it answered, undone in reverse.

use super::call::{Call, Verb};
use super::{CniError, Mapping, Outcome, call};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// How often an attachment is tried; what a failed one left is removed in between.
const TRIES: u32 = 3;

/// A network configuration list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// Name of the network.
    pub name: String,
    /// Version of the specification that it is written for.
    #[serde(rename = "cniVersion")]
    pub version: String,
    /// Its plugins.
    pub plugins: Vec<Map<String, Value>>,
}

/// A chain for one allocation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Links {
    chain: Chain,
    container: String,
    interface: String,
    /// `CNI_ARGS`, ready.
    args: String,
    mappings: Vec<Mapping>,
}

impl Links {
    /// Binds a chain to an allocation.
    ///
    /// # Errors
    /// [`CniError::Argument`]: one that holds the separator, or one of ours.
    pub(in crate::network) fn new(
        chain: Chain,
        container: &str,
        interface: &str,
        args: &BTreeMap<String, String>,
        mappings: Vec<Mapping>,
    ) -> Result<Links, CniError> {
        const OURS: [&str; 2] = ["IgnoreUnknown", "NOMAD_ALLOC_ID"];
        let mut words = vec!["IgnoreUnknown=true".to_owned(), format!("NOMAD_ALLOC_ID={container}")];
        for (name, value) in args {
            let refused = |text| CniError::Argument { name: name.clone(), text };
            if OURS.contains(&name.as_str()) {
                return Err(refused("is set by Bivouac"));
            }
            if name.is_empty() || name.contains(['=', ';']) || value.contains(';') {
                return Err(refused("may not hold \";\", nor its name \"=\""));
            }
            if name.contains(char::is_control) || value.contains(char::is_control) {
                return Err(refused("may not hold control characters"));
            }
            words.push(format!("{name}={value}"));
        }
        Ok(Links {
            chain,
            container: container.to_owned(),
            interface: interface.to_owned(),
            args: words.join(";"),
            mappings,
        })
    }

    /// The list of plugins.
    pub(in crate::network) fn chain(&self) -> &Chain {
        &self.chain
    }

    /// Attaches the namespace.
    ///
    /// # Errors
    /// [`CniError`] of the last try; everything that was attached has been asked to go.
    pub(in crate::network) fn add(&self, namespace: &Path, path: &[PathBuf]) -> Result<Outcome, CniError> {
        let mut tried = 1;
        loop {
            match self.add_once(namespace, path) {
                // A plugin that says no may say yes when an address is free again; the rest never gets better.
                Err(CniError::Refused { .. }) if tried < TRIES => {
                    let _ = self.remove(Some(namespace), &Outcome::default(), path);
                    tried += 1;
                }
                Err(error) => {
                    let _ = self.remove(Some(namespace), &Outcome::default(), path);
                    return Err(error);
                }
                added => return added,
            }
        }
    }

    fn add_once(&self, namespace: &Path, path: &[PathBuf]) -> Result<Outcome, CniError> {
        let mut previous = None;
        let mut last = "";
        for plugin in &self.chain.plugins {
            last = kind(plugin);
            let input = self.input(plugin, previous.as_ref());
            previous = Some(call::run(&self.call(Verb::Add, last, Some(namespace), path), &input)?);
        }
        let answer = previous.unwrap_or_default();
        Outcome::read(answer, namespace).map_err(|text| CniError::Answer { plugin: last.to_owned(), text })
    }

    /// Detaches it: every plugin is asked, the last first, whatever the others say.
    ///
    /// # Errors
    /// The first refusal.
    pub(in crate::network) fn remove(
        &self,
        namespace: Option<&Path>,
        outcome: &Outcome,
        path: &[PathBuf],
    ) -> Result<(), CniError> {
        let mut first = Ok(());
        for plugin in self.chain.plugins.iter().rev() {
            let input = self.input(plugin, outcome.previous.as_ref());
            let removed = call::run(&self.call(Verb::Remove, kind(plugin), namespace, path), &input);
            first = first.and(removed.map(drop));
        }
        first
    }

    fn call<'a>(
        &'a self,
        verb: Verb,
        plugin: &'a str,
        namespace: Option<&'a Path>,
        path: &'a [PathBuf],
    ) -> Call<'a> {
        Call {
            verb,
            plugin,
            container: &self.container,
            namespace,
            interface: &self.interface,
            args: &self.args,
            path,
            patience: call::DEADLINE,
        }
    }

    /// A plugin's own configuration with what the specification adds to it.
    fn input(&self, plugin: &Map<String, Value>, previous: Option<&Value>) -> Value {
        let mut input = plugin.clone();
        input.insert("name".into(), self.chain.name.clone().into());
        input.insert("cniVersion".into(), self.chain.version.clone().into());
        if plugin.get("capabilities").and_then(|all| all.get("portMappings")) == Some(&Value::Bool(true)) {
            input.insert("runtimeConfig".into(), json!({ "portMappings": self.mappings }));
        }
        if let Some(previous) = previous {
            input.insert("prevResult".into(), previous.clone());
        }
        Value::Object(input)
    }
}

fn kind(plugin: &Map<String, Value>) -> &str {
    plugin.get("type").and_then(Value::as_str).unwrap_or_default()
}
