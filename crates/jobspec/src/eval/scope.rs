//! Names bound by `for`, template loops and dynamic blocks: a chain, innermost first.

use crate::value::Value;
use std::rc::Rc;

/// The bindings in force at a place. Cloning is cheap.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scope(Option<Rc<Binding>>);

#[derive(Debug)]
struct Binding {
    name: Rc<str>,
    value: Value,
    outer: Scope,
}

impl Scope {
    /// This scope and one more name.
    pub(crate) fn with(&self, name: impl Into<Rc<str>>, value: Value) -> Scope {
        Scope(Some(Rc::new(Binding { name: name.into(), value, outer: self.clone() })))
    }

    /// The innermost value of a name.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        let mut scope = self;
        while let Some(binding) = &scope.0 {
            if &*binding.name == name {
                return Some(&binding.value);
            }
            scope = &binding.outer;
        }
        None
    }
}
