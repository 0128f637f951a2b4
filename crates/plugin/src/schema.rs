//! Option descriptions as the schema that the client decodes `config` blocks with.

use crate::options::{Kind, Opt, Value};
use crate::wire::hclspec::{self, Spec, spec};

/// The schema of a `config` block with these options.
#[must_use]
pub fn of_block(options: &[Opt]) -> Spec {
    let attributes = options.iter().map(|opt| (opt.name.to_owned(), of_option(opt, Depth::Top))).collect();
    wrap(spec::Block::Object(hclspec::Object { attributes }))
}

/// Whether defaults are stated in the schema: inside of repeated blocks a default of another inner
/// type (a list is a tuple there) makes the elements unequal, so ours are filled in when decoding.
#[derive(Clone, Copy, PartialEq)]
enum Depth {
    Top,
    Nested,
}

fn of_option(opt: &Opt, depth: Depth) -> Spec {
    let name = opt.name.to_owned();
    let attr = |kind: &str| {
        let attr = hclspec::Attr { name: name.clone(), r#type: kind.to_owned(), required: opt.required };
        wrap(spec::Block::Attr(attr))
    };
    let primary = match &opt.kind {
        Kind::Text => attr("string"),
        Kind::Flag => attr("bool"),
        Kind::Count | Kind::Number => attr("number"),
        Kind::TextList => attr("list(string)"),
        // Takes every spelling of a free map; an attribute of type map takes only some.
        Kind::TextMap => wrap(spec::Block::BlockAttrs(hclspec::BlockAttrs {
            name,
            r#type: "string".to_owned(),
            required: opt.required,
        })),
        Kind::Block(inner) => wrap(spec::Block::BlockValue(Box::new(hclspec::Block {
            name,
            required: opt.required,
            nested: Some(Box::new(nested(inner))),
        }))),
        Kind::Blocks(inner) => wrap(spec::Block::BlockList(Box::new(hclspec::BlockList {
            name,
            min_items: u64::from(opt.required),
            max_items: 0,
            nested: Some(Box::new(nested(inner))),
        }))),
    };
    match opt.default.as_ref().and_then(literal) {
        Some(value) if depth == Depth::Top => wrap(spec::Block::Default(Box::new(hclspec::Default {
            primary: Some(Box::new(primary)),
            default: Some(Box::new(wrap(spec::Block::Literal(hclspec::Literal { value })))),
        }))),
        _ => primary,
    }
}

fn nested(options: &[Opt]) -> Spec {
    let attributes = options.iter().map(|opt| (opt.name.to_owned(), of_option(opt, Depth::Nested))).collect();
    wrap(spec::Block::Object(hclspec::Object { attributes }))
}

fn wrap(block: spec::Block) -> Spec {
    Spec { block: Some(block) }
}

/// The value as an expression of the client's language, if it has one of its own.
fn literal(value: &Value) -> Option<String> {
    match value {
        Value::Text(text) => Some(quoted(text)),
        Value::Flag(flag) => Some(flag.to_string()),
        Value::Count(count) => Some(count.to_string()),
        Value::Number(number) => Some(number.to_string()),
        Value::TextList(list) => {
            let items: Vec<String> = list.iter().map(|text| quoted(text)).collect();
            Some(format!("[{}]", items.join(", ")))
        }
        // The client says "nothing" for these by itself.
        Value::TextMap(_) | Value::Block(_) | Value::Blocks(_) => None,
    }
}

/// A quoted template that means just this text.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c => out.push(c),
        }
    }
    out.push('"');
    out.replace("${", "$${").replace("%{", "%%{")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{face_operator_options, face_task_options};

    #[test]
    fn the_faces_own_schema() {
        insta::assert_debug_snapshot!("operator", of_block(&face_operator_options()));
        insta::assert_debug_snapshot!("task", of_block(&face_task_options()));
    }

    #[test]
    fn every_kind_has_its_schema() {
        let opt = |name, kind, default| Opt { name, kind, required: false, default, help: "" };
        let inner = vec![
            Opt { required: true, ..opt("target", Kind::Text, None) },
            opt("deep", Kind::Count, Some(Value::Count(3))),
        ];
        let all = [
            opt("a_text", Kind::Text, Some(Value::Text("say \"${x}\"\n".into()))),
            opt("b_number", Kind::Number, Some(Value::Number(0.5))),
            opt("c_map", Kind::TextMap, None),
            opt("d_block", Kind::Block(inner.clone()), None),
            opt("e_blocks", Kind::Blocks(inner), None),
        ];
        insta::assert_debug_snapshot!("kinds", of_block(&all));
    }

    #[test]
    fn a_default_always_names_its_option() {
        // The client does not hand a name down through a default: without it, no agent starts.
        let Some(spec::Block::Object(object)) = of_block(&face_operator_options()).block else {
            panic!("an object")
        };
        for (key, spec) in object.attributes {
            let Some(spec::Block::Default(default)) = spec.block else { continue };
            let Some(spec::Block::Attr(attr)) = default.primary.unwrap().block else {
                panic!("{key}: an attribute")
            };
            assert_eq!(attr.name, key);
        }
    }
}
