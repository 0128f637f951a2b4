//! Text to tree: parses with `hcl-edit` and turns its result into our own smaller, spanned tree.

pub(crate) mod ast;
mod convert;
mod json;
mod template;

use crate::diagnostic::Diagnostic;
use crate::source::{Sources, Span};
use ast::{Body, Expr, Part};

/// Parses a whole file.
///
/// # Errors
/// The first syntax error, or all places where Nomad's parser is stricter than `hcl-edit`.
pub(crate) fn parse_file(sources: &Sources, file: u16) -> Result<Body, Vec<Diagnostic>> {
    let (_, text) = sources.file(file);
    if is_json(text) {
        return json::parse(file, text);
    }
    let body =
        hcl_edit::parser::parse_body(text).map_err(|error| vec![syntax_error(file, 0, text, &error)])?;
    let mut convert = convert::Convert::new(text, file, 0);
    let body = convert.body(&body);
    if convert.problems.is_empty() { Ok(body) } else { Err(convert.problems) }
}

/// Whether a job file is JSON: HCL never begins with a brace.
pub(crate) fn is_json(text: &str) -> bool {
    text.trim_start().starts_with('{')
}

/// Parses one expression that begins at `base` of a file.
pub(crate) fn parse_expr(file: u16, base: u32, text: &str) -> Result<Expr, Vec<Diagnostic>> {
    let expr =
        hcl_edit::parser::parse_expr(text).map_err(|error| vec![syntax_error(file, base, text, &error)])?;
    let mut convert = convert::Convert::new(text, file, base);
    let expr = convert.expr(&expr);
    if convert.problems.is_empty() { Ok(expr) } else { Err(convert.problems) }
}

/// Parses a template without quotes that begins at `base` of a file.
pub(crate) fn parse_template(file: u16, base: u32, text: &str) -> Result<Vec<Part>, Vec<Diagnostic>> {
    let parsed = hcl_edit::parser::parse_template(text)
        .map_err(|error| vec![syntax_error(file, base, text, &error)])?;
    let mut convert = convert::Convert::new(text, file, base);
    let parts = convert.template(&parsed, template::Layout::Plain);
    if convert.problems.is_empty() { Ok(parts) } else { Err(convert.problems) }
}

fn syntax_error(file: u16, base: u32, text: &str, error: &hcl_edit::parser::Error) -> Diagnostic {
    let at = base + error.location().offset() as u32;
    let at_end = error.location().offset() + 1 >= text.trim_end().len();
    let mut message = error.message().replace("expected newline or eof", "expected a new line");
    if let Some((head, tail)) = message.split_once("; expected ") {
        message = format!("{head}: expected {tail}");
    }
    let mut problem =
        Diagnostic::new(Span { file, start: at, end: at + 1 }, format!("syntax error: {message}"));
    if at_end {
        problem = problem.label("the file ends here");
    }
    let line_start =
        text.get(..error.location().offset()).and_then(|before| before.rfind('\n')).map_or(0, |at| at + 1);
    let line = text.get(line_start..).and_then(|rest| rest.lines().next()).unwrap_or("");
    if line.matches('{').count() > line.matches('}').count() && line.contains('=') {
        problem = problem
            .help("a block with more than one argument needs a line for each argument and for its brace");
    }
    problem
}
