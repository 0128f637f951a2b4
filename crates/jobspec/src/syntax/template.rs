//! Templates: white space around `~`, indentation of `<<-` heredocs, and nesting of directives.
//!
//! Nomad's parser cuts a heredoc into one literal per line, strips only the literal next to a `~`, and
//! dedents only literals that still begin a line. All of that happens on the flat sequence, before
//! directives are nested, so the same is done here.

use super::ast::{Expr, Part};
use super::convert::Convert;
use crate::source::Span;
use hcl_edit::Span as _;
use hcl_edit::template::{Directive, Element, HeredocTemplate, Strip, Template};
use std::ops::Range;

/// Where a template's text comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// Between quotes, on one line.
    Quoted,
    /// `<<EOT`, or text that is a template as a whole.
    Plain,
    /// `<<-EOT`.
    Dedented,
}

enum Token {
    Literal(String),
    Sequence(Sequence),
}

struct Sequence {
    strip: Strip,
    what: What,
}

enum What {
    Interpolation(Expr, Span),
    If(Expr),
    Else,
    EndIf,
    For { key_name: Option<String>, value_name: String, collection: Expr },
    EndFor,
}

impl Convert<'_> {
    pub(super) fn template(&mut self, template: &Template, layout: Layout) -> Vec<Part> {
        let mut tokens = Vec::new();
        self.flatten(template, layout, &mut tokens);
        strip(&mut tokens);
        if layout == Layout::Dedented {
            dedent(&mut tokens);
        }
        let mut tokens = tokens.into_iter();
        let mut parts = Vec::new();
        nest(&mut tokens, &mut parts);
        parts
    }

    /// A `<<-` heredoc is parsed again from its text, since `hcl-edit` has already dedented its own tree.
    pub(super) fn heredoc(&mut self, heredoc: &HeredocTemplate, outer: Option<Range<usize>>) -> Vec<Part> {
        let indented =
            outer.and_then(|range| self.text.get(range)).is_some_and(|text| text.starts_with("<<-"));
        let range = heredoc.template.span().unwrap_or(0..0);
        let text = self.text.get(range.clone()).unwrap_or("");
        if !indented || text.is_empty() {
            return self.template(&heredoc.template, Layout::Plain);
        }
        match hcl_edit::parser::parse_template(text) {
            Ok(template) => {
                let mut inner = Convert::new(text, self.file, self.base + range.start as u32);
                let parts = inner.template(&template, Layout::Dedented);
                self.problems.append(&mut inner.problems);
                parts
            }
            Err(_) => self.template(&heredoc.template, Layout::Plain),
        }
    }

    fn flatten(&mut self, template: &Template, layout: Layout, out: &mut Vec<Token>) {
        for element in template.iter() {
            match element {
                Element::Literal(text) if layout == Layout::Quoted => {
                    self.check_one_line(text.span());
                    out.push(Token::Literal(text.value().clone()));
                }
                Element::Literal(text) => {
                    out.extend(
                        text.value().split_inclusive('\n').map(|line| Token::Literal(line.to_owned())),
                    );
                }
                Element::Interpolation(sequence) => {
                    let expr = self.expr(&sequence.expr);
                    let what = What::Interpolation(expr, self.span(sequence.span()));
                    out.push(Token::Sequence(Sequence { strip: sequence.strip, what }));
                }
                Element::Directive(directive) => self.directive(directive, layout, out),
            }
        }
    }

    fn directive(&mut self, directive: &Directive, layout: Layout, out: &mut Vec<Token>) {
        let push = |strip: Strip, what: What, out: &mut Vec<Token>| {
            out.push(Token::Sequence(Sequence { strip, what }));
        };
        match directive {
            Directive::If(each) => {
                let condition = self.expr(&each.if_expr.cond_expr);
                push(each.if_expr.strip, What::If(condition), out);
                self.flatten(&each.if_expr.template, layout, out);
                if let Some(other) = &each.else_expr {
                    push(other.strip, What::Else, out);
                    self.flatten(&other.template, layout, out);
                }
                push(each.endif_expr.strip, What::EndIf, out);
            }
            Directive::For(each) => {
                let collection = self.expr(&each.for_expr.collection_expr);
                let what = What::For {
                    key_name: each.for_expr.key_var.as_ref().map(|name| name.as_str().to_owned()),
                    value_name: each.for_expr.value_var.as_str().to_owned(),
                    collection,
                };
                push(each.for_expr.strip, what, out);
                self.flatten(&each.for_expr.template, layout, out);
                push(each.endfor_expr.strip, What::EndFor, out);
            }
        }
    }
}

/// Takes the white space away that a `~` asks for, from the neighbouring literal only.
fn strip(tokens: &mut [Token]) {
    for at in 0..tokens.len() {
        let Token::Sequence(Sequence { strip, .. }) = &tokens[at] else { continue };
        let (before, after) = match strip {
            Strip::None => (false, false),
            Strip::Start => (true, false),
            Strip::End => (false, true),
            Strip::Both => (true, true),
        };
        if before
            && at > 0
            && let Token::Literal(text) = &mut tokens[at - 1]
        {
            text.truncate(text.trim_end().len());
        }
        if after && let Some(Token::Literal(text)) = tokens.get_mut(at + 1) {
            *text = text.trim_start().to_owned();
        }
    }
}

/// Removes the smallest indentation from every literal that begins a line; blank lines neither count nor change.
fn dedent(tokens: &mut [Token]) {
    let mut smallest = usize::MAX;
    let mut starts = Vec::new();
    let mut at_start = true;
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Literal(text) => {
                let blank = text.ends_with('\n') && text.trim().is_empty();
                if at_start && !blank {
                    smallest = smallest.min(indentation(text));
                    starts.push(at);
                }
                at_start = text.ends_with('\n');
            }
            Token::Sequence(_) => {
                if at_start {
                    smallest = 0;
                }
                at_start = false;
            }
        }
    }
    for at in starts {
        if let Token::Literal(text) = &mut tokens[at] {
            *text = text.get(smallest.min(text.len())..).unwrap_or("").to_owned();
        }
    }
}

/// Leading spaces and tabs, in bytes.
fn indentation(text: &str) -> usize {
    text.len() - text.trim_start_matches([' ', '\t']).len()
}

/// Builds the tree; returns the sequence that ended this level, if one did.
fn nest(tokens: &mut std::vec::IntoIter<Token>, out: &mut Vec<Part>) -> Option<What> {
    while let Some(token) = tokens.next() {
        let what = match token {
            Token::Literal(text) => {
                match out.last_mut() {
                    Some(Part::Literal(last)) => last.push_str(&text),
                    _ => out.push(Part::Literal(text)),
                }
                continue;
            }
            Token::Sequence(sequence) => sequence.what,
        };
        match what {
            What::Interpolation(expr, span) => out.push(Part::Interpolation(expr, span)),
            What::If(condition) => {
                let (mut then, mut otherwise) = (Vec::new(), Vec::new());
                if let Some(What::Else) = nest(tokens, &mut then) {
                    nest(tokens, &mut otherwise);
                }
                out.push(Part::If { condition, then, otherwise });
            }
            What::For { key_name, value_name, collection } => {
                let mut body = Vec::new();
                nest(tokens, &mut body);
                out.push(Part::For { key_name, value_name, collection, body });
            }
            end @ (What::Else | What::EndIf | What::EndFor) => return Some(end),
        }
    }
    None
}
