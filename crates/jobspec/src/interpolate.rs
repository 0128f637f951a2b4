//! Run-time interpolation: plain replacement for most fields, full templates for a driver's config.
//!
//! The two follow Nomad: environment, artifact, template and similar fields know only `${name}` and keep
//! what they cannot resolve; every string of a driver's config is a template in which an unknown name is
//! an error, and `$${` stands for `${`.

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::eval::{Budget, Evaluator, Names, Scope};
use crate::functions::Host;
use crate::model::{ConfigTree, ConfigValue};
use crate::source::Sources;
use crate::value::Value;
use std::sync::Arc;

/// Replaces each `${name}` that `lookup` knows; all else stays as it is.
///
/// A name is letters, digits, `_`, `-` and `.`; spaces around it are allowed.
pub fn replace(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        out.push_str(before);
        let found = after.split_once('}').and_then(|(name, tail)| {
            let name = name.trim();
            let valid = !name.is_empty()
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
            valid.then(|| lookup(name)).flatten().map(|value| (value, tail))
        });
        match found {
            Some((value, tail)) => {
                out.push_str(&value);
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

/// The names that stand in a text as `${name}`.
pub fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split("${").skip(1).filter_map(|after| Some(after.split_once('}')?.0.trim()))
}

/// Evaluates every string of a driver's config as a template.
///
/// `lookup` is asked for dotted names: `NOMAD_ALLOC_ID`, `node.unique.name`, `attr.kernel.name`,
/// `meta.x`, and `env.X` for `env["X"]`.
///
/// # Errors
/// Unknown names, broken templates; each with its place in the job file.
pub fn config(
    tree: &ConfigTree,
    sources: &Arc<Sources>,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<ConfigTree, Diagnostics> {
    let names = |name: &str| lookup(name).map(Value::text);
    let budget = Budget::default();
    let host = Host::default();
    let mut problems = Vec::new();
    let mut run = Run { names: &names, budget: &budget, host: &host, problems: &mut problems };
    let out = run.tree(tree);
    if problems.is_empty() { Ok(out) } else { Err(Diagnostics::new(problems, sources.clone())) }
}

struct Run<'a> {
    names: &'a dyn Fn(&str) -> Option<Value>,
    budget: &'a Budget,
    host: &'a Host<'a>,
    problems: &'a mut Vec<Diagnostic>,
}

impl Run<'_> {
    fn tree(&mut self, tree: &ConfigTree) -> ConfigTree {
        let value = match &tree.value {
            ConfigValue::String(text) => self.text(tree, text),
            ConfigValue::List(items) => ConfigValue::List(items.iter().map(|item| self.tree(item)).collect()),
            ConfigValue::Map(items) => ConfigValue::Map(
                items.iter().map(|(name, span, item)| (name.clone(), *span, self.tree(item))).collect(),
            ),
            other => other.clone(),
        };
        ConfigTree { span: tree.span, value }
    }

    fn text(&mut self, tree: &ConfigTree, text: &str) -> ConfigValue {
        if !text.contains("${") && !text.contains("%{") {
            return ConfigValue::String(text.to_owned());
        }
        let result = crate::syntax::parse_template(0, 0, text).and_then(|parts| {
            let sources = Sources::default();
            let evaluator = Evaluator {
                names: Names::Runtime(self.names),
                sources: &sources,
                budget: self.budget,
                host: self.host,
            };
            let mut out = String::new();
            evaluator.parts(&parts, &mut out, &Scope::default()).map_err(|problem| vec![*problem])?;
            Ok(out)
        });
        match result {
            Ok(text) => ConfigValue::String(text),
            Err(problems) => {
                // Places within the text mean nothing to the reader: the place of the text does.
                self.problems.extend(problems.into_iter().map(|mut problem| {
                    problem.span = Some(tree.span);
                    problem.related.clear();
                    problem.message = format!("{} in {text:?}", problem.message);
                    problem
                }));
                ConfigValue::Null
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Span;

    fn lookup(name: &str) -> Option<String> {
        match name {
            "NOMAD_TASK_NAME" | "env.NOMAD_TASK_NAME" => Some("web".into()),
            "attr.kernel.name" => Some("linux".into()),
            "env.odd name" => Some("odd".into()),
            _ => None,
        }
    }

    #[test]
    fn replacement_leaves_the_rest() {
        for (text, expected) in [
            ("${NOMAD_TASK_NAME}", "web"),
            ("a${ attr.kernel.name }b", "alinuxb"),
            ("${unknown}", "${unknown}"),
            ("${unknown} ${NOMAD_TASK_NAME}", "${unknown} web"),
            ("${${NOMAD_TASK_NAME}}", "${web}"),
            ("${a b}${NOMAD_TASK_NAME", "${a b}${NOMAD_TASK_NAME"),
            ("$NOMAD_TASK_NAME ${}", "$NOMAD_TASK_NAME ${}"),
        ] {
            assert_eq!(replace(text, &lookup), expected);
        }
    }

    fn evaluate(text: &str) -> Result<String, String> {
        let tree = ConfigTree { span: Span::default(), value: ConfigValue::String(text.into()) };
        match config(&tree, &Arc::default(), &lookup) {
            Ok(tree) => Ok(tree.as_str().unwrap_or_default().to_owned()),
            Err(errors) => Err(errors.items()[0].message.clone()),
        }
    }

    #[test]
    fn config_strings_are_templates() {
        assert_eq!(evaluate("${NOMAD_TASK_NAME}-${attr.kernel.name}"), Ok("web-linux".into()));
        assert_eq!(evaluate("${env[\"NOMAD_TASK_NAME\"]} ${env[\"odd name\"]}"), Ok("web odd".into()));
        assert_eq!(evaluate("$${HOME} $HOME"), Ok("${HOME} $HOME".into()));
        assert_eq!(evaluate("${upper(attr.kernel.name)}"), Ok("LINUX".into()));
        assert_eq!(
            evaluate("${HOME}"),
            Err("there is no variable `HOME` when the task starts in \"${HOME}\"".into())
        );
        assert!(evaluate("${").is_err());
    }
}
