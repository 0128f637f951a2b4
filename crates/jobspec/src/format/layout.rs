//! Where white space stands: indentation by brackets, one space or none between tokens, columns of neighbouring lines.

use super::lex::{Kind, Token};

/// One level.
const INDENT: &str = "  ";

/// One line of the result before its columns are aligned.
struct Line<'a> {
    indent: usize,
    /// What stands before `=`, or all of it.
    lead: String,
    /// `= value`, if the line is an argument.
    assign: Option<String>,
    /// A comment behind something.
    comment: Option<&'a str>,
    /// Whether the argument goes on below: its `=` then stands in no column.
    opens: bool,
}

/// The whole text.
pub(super) fn lay_out(tokens: &[Token<'_>]) -> String {
    let mut lines = Vec::new();
    let mut indents = Vec::new();
    for line in tokens.split(|token| token.kind == Kind::Newline) {
        lines.push(read(line, &mut indents));
    }
    align(&mut lines);
    write(&lines)
}

/// Brackets that stay open behind these tokens, those of a quoted text's sequences included.
fn net(tokens: &[Token<'_>]) -> isize {
    tokens
        .iter()
        .map(|token| match token.kind {
            Kind::Open | Kind::SequenceOpen => 1,
            Kind::Close | Kind::SequenceClose => -1,
            _ => 0,
        })
        .sum()
}

fn read<'a>(tokens: &[Token<'a>], indents: &mut Vec<isize>) -> Line<'a> {
    let change = net(tokens);
    let before = indents.len();
    if change > 0 {
        indents.push(change);
    }
    let mut closed = -change;
    while closed > 0
        && let Some(top) = indents.last_mut()
    {
        if closed < *top {
            *top -= closed;
            break;
        }
        closed -= *top;
        indents.pop();
    }
    let (code, comment) = match tokens.split_last() {
        Some((last, code)) if last.kind == Kind::Comment && !code.is_empty() => (code, Some(last.text)),
        _ => (tokens, None),
    };
    let equals = code
        .iter()
        .position(|token| token.text == "=" || matches!(token.kind, Kind::Open | Kind::Heredoc))
        .filter(|at| *at > 0 && code.get(*at).is_some_and(|token| token.text == "="));
    let (lead, assign) = code.split_at(equals.unwrap_or(code.len()));
    Line {
        indent: before.min(indents.len()),
        lead: join(lead),
        assign: equals.map(|_| join(assign)),
        comment,
        opens: change > 0,
    }
}

fn join(tokens: &[Token<'_>]) -> String {
    let mut out = String::new();
    for (at, token) in tokens.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|at| tokens.get(at));
        let earlier = at.checked_sub(2).and_then(|at| tokens.get(at));
        if before.is_some_and(|before| has_space(earlier, before, token)) {
            out.push(' ');
        }
        out.push_str(token.text);
    }
    out
}

/// Whether a space stands between two tokens.
fn has_space(earlier: Option<&Token<'_>>, before: &Token<'_>, after: &Token<'_>) -> bool {
    let glued = [Kind::Literal, Kind::SequenceOpen, Kind::QuoteOpen, Kind::Heredoc];
    match (before.kind, after.kind) {
        (kind, _) if glued.contains(&kind) => false,
        (_, Kind::Literal | Kind::SequenceClose | Kind::QuoteClose) => false,
        (Kind::SequenceClose, Kind::SequenceOpen) => false,
        (Kind::Open, Kind::Close) => false,
        (Kind::Open, _) => before.text == "{",
        (_, Kind::Close) => after.text == "}",
        _ if matches!(after.text, "," | "." | "..." | "::" | "*.") && after.kind == Kind::Operator => false,
        _ if matches!(before.text, "." | "::" | "*.") && before.kind == Kind::Operator => false,
        (Kind::Operator, _) if matches!(before.text, "-" | "!") && is_unary(earlier) => false,
        // A call's or an index's bracket belongs to the name; `in [` and `if (` are no names.
        (Kind::Word, Kind::Open) if after.text != "{" => matches!(before.text, "in" | "if" | "for"),
        (Kind::Close | Kind::QuoteClose, Kind::Open) if after.text == "[" => false,
        (Kind::Operator, Kind::Open) if before.text == "*" && after.text == "[" => false,
        _ => true,
    }
}

/// Whether an operator with this token before it stands before its only operand.
fn is_unary(earlier: Option<&Token<'_>>) -> bool {
    earlier.is_none_or(|token| match token.kind {
        Kind::Operator | Kind::Open | Kind::SequenceOpen => true,
        Kind::Word => matches!(token.text, "in" | "if"),
        _ => false,
    })
}

fn width(text: &str) -> usize {
    text.chars().count()
}

/// Puts the `=` of consecutive arguments into one column, a space behind the widest name.
fn align(lines: &mut [Line<'_>]) {
    let is_cell = |line: &Line<'_>| line.assign.is_some() && !line.opens;
    for chain in lines.chunk_by_mut(|left, right| is_cell(left) && is_cell(right)) {
        let column = |line: &Line<'_>| INDENT.len() * line.indent + width(&line.lead);
        let widest = chain.iter().map(column).max().unwrap_or(0);
        for line in chain.iter_mut().filter(|line| !line.opens) {
            let missing = widest - column(line);
            if let Some(assign) = &mut line.assign {
                assign.insert_str(0, &" ".repeat(missing));
            }
        }
    }
}

fn write(lines: &[Line<'_>]) -> String {
    let codes: Vec<String> = lines
        .iter()
        .map(|line| {
            let mut code = line.lead.clone();
            if let Some(assign) = &line.assign {
                code.push(' ');
                code.push_str(assign);
            }
            code
        })
        .collect();
    let rows: Vec<(&Line<'_>, String)> = lines.iter().zip(codes).collect();
    let mut out = String::new();
    let commented = |row: &(&Line<'_>, String)| row.0.comment.is_some();
    for chain in rows.chunk_by(|left, right| commented(left) && commented(right)) {
        let end = |(line, code): &(&Line<'_>, String)| match code.rsplit_once('\n') {
            // A heredoc ends in a line that is not indented.
            Some((_, last)) => width(last),
            None => INDENT.len() * line.indent + width(code),
        };
        let column = chain.iter().map(end).max().unwrap_or(0);
        for row in chain {
            let (line, code) = row;
            if !code.is_empty() {
                out.push_str(&INDENT.repeat(line.indent));
                out.push_str(code);
            }
            if let Some(comment) = line.comment {
                out.push_str(&" ".repeat(column - end(row) + 1));
                out.push_str(comment);
            }
            out.push('\n');
        }
    }
    // The last line break of the text began one more, empty line.
    out.pop();
    out
}
