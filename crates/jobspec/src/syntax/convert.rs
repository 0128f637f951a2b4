//! From `hcl-edit`'s tree to ours: drops comments, keeps spans, and refuses what Nomad's parser refuses.

use super::ast::*;
use super::template::Layout;
use crate::diagnostic::Diagnostic;
use crate::source::Span;
use hcl_edit::Span as _;
use hcl_edit::expr::{self as edit, BinaryOperator, Expression, TraversalOperator, UnaryOperator};
use hcl_edit::structure::{self, BlockLabel, Structure};
use std::ops::Range;

pub(super) struct Convert<'a> {
    pub(super) text: &'a str,
    pub(super) file: u16,
    pub(super) base: u32,
    pub(super) problems: Vec<Diagnostic>,
}

impl<'a> Convert<'a> {
    pub(super) fn new(text: &'a str, file: u16, base: u32) -> Self {
        Convert { text, file, base, problems: Vec::new() }
    }

    pub(super) fn span(&self, range: Option<Range<usize>>) -> Span {
        let range = range.unwrap_or(0..0);
        Span { file: self.file, start: self.base + range.start as u32, end: self.base + range.end as u32 }
    }

    fn word(&self, text: &str, range: Option<Range<usize>>) -> Word {
        Word { text: text.to_owned(), span: self.span(range) }
    }

    pub(super) fn body(&mut self, body: &structure::Body) -> Body {
        let mut out = Body::default();
        for item in body.iter() {
            match item {
                Structure::Attribute(attr) => {
                    let name = self.word(attr.key.as_str(), attr.key.span());
                    out.attrs.push(Attr { name, value: self.expr(&attr.value) });
                }
                Structure::Block(block) => {
                    let kind = self.word(block.ident.as_str(), block.ident.span());
                    let labels = block.labels.iter().map(|label| self.label(label)).collect();
                    out.blocks.push(Block { kind, labels, body: self.body(&block.body) });
                }
            }
        }
        out
    }

    fn label(&mut self, label: &BlockLabel) -> Word {
        match label {
            BlockLabel::Ident(ident) => self.word(ident.as_str(), ident.span()),
            BlockLabel::String(text) => {
                self.check_one_line(text.span());
                self.word(text.as_str(), text.span())
            }
        }
    }

    /// Nomad refuses a line break inside quotes, `hcl-edit` does not.
    pub(super) fn check_one_line(&mut self, range: Option<Range<usize>>) {
        let Some(range) = range else { return };
        if let Some(at) = self.text.get(range.clone()).and_then(|text| text.find('\n')) {
            let span = self.span(Some(range.start..range.start + at));
            self.problems.push(
                Diagnostic::new(span, "a quoted string must end on the line where it begins")
                    .help("write \\n for a line break, or use a heredoc: <<-EOT ... EOT"),
            );
        }
    }

    pub(super) fn expr(&mut self, expr: &Expression) -> Expr {
        let span = self.span(expr.span());
        Expr { span, kind: self.kind(expr) }
    }

    fn boxed(&mut self, expr: &Expression) -> Box<Expr> {
        Box::new(self.expr(expr))
    }

    fn kind(&mut self, expr: &Expression) -> Kind {
        match expr {
            Expression::Null(_) => Kind::Null,
            Expression::Bool(value) => Kind::Bool(*value.value()),
            Expression::Number(value) => Kind::Number(number(value.value())),
            Expression::String(text) => {
                self.check_one_line(text.span());
                Kind::String(text.value().clone())
            }
            Expression::Array(array) => Kind::Array(array.iter().map(|item| self.expr(item)).collect()),
            Expression::Object(object) => Kind::Object(self.items(object)),
            Expression::StringTemplate(template) => Kind::Template(self.template(template, Layout::Quoted)),
            Expression::HeredocTemplate(heredoc) => Kind::Template(self.heredoc(heredoc, expr.span())),
            Expression::Parenthesis(inner) => Kind::Paren(self.boxed(inner.inner())),
            Expression::Variable(name) => Kind::Variable(name.as_str().to_owned()),
            Expression::Conditional(cond) => Kind::Conditional(Box::new([
                self.expr(&cond.cond_expr),
                self.expr(&cond.true_expr),
                self.expr(&cond.false_expr),
            ])),
            Expression::FuncCall(call) => self.call(call),
            Expression::Traversal(traversal) => Kind::Traversal {
                root: self.boxed(&traversal.expr),
                steps: traversal.operators.iter().map(|step| self.step(step.value(), step.span())).collect(),
            },
            Expression::UnaryOp(op) => match op.operator.value() {
                UnaryOperator::Neg => Kind::Negate(self.boxed(&op.expr)),
                UnaryOperator::Not => Kind::Not(self.boxed(&op.expr)),
            },
            Expression::BinaryOp(op) => {
                let sides = Box::new([self.expr(&op.lhs_expr), self.expr(&op.rhs_expr)]);
                Kind::Binary(binary(*op.operator.value()), sides)
            }
            Expression::ForExpr(each) => Kind::For(Box::new(For {
                key_name: each.intro.key_var.as_ref().map(|name| name.as_str().to_owned()),
                value_name: each.intro.value_var.as_str().to_owned(),
                collection: self.expr(&each.intro.collection_expr),
                key: each.key_expr.as_ref().map(|key| self.expr(key)),
                value: self.expr(&each.value_expr),
                grouping: each.grouping,
                condition: each.cond.as_ref().map(|cond| self.expr(&cond.expr)),
            })),
        }
    }

    fn call(&mut self, call: &edit::FuncCall) -> Kind {
        let mut text: String =
            call.name.namespace.iter().map(|part| format!("{}::", part.as_str())).collect();
        text.push_str(call.name.name.as_str());
        let name = Word { text, span: self.span(call.name.name.span()) };
        let args = call.args.iter().map(|arg| self.expr(arg)).collect();
        Kind::Call { name, args, expand: call.args.expand_final() }
    }

    fn items(&mut self, object: &edit::Object) -> Vec<(Key, Expr)> {
        let mut items = Vec::with_capacity(object.len());
        for (key, value) in object.iter() {
            let key = match key {
                edit::ObjectKey::Ident(name) => Key::Word(self.word(name.as_str(), name.span())),
                edit::ObjectKey::Expression(Expression::String(text)) => {
                    Key::Word(self.word(text.as_str(), text.span()))
                }
                edit::ObjectKey::Expression(expr) => Key::Expr(self.expr(expr)),
            };
            items.push((key, self.expr(value.expr())));
        }
        items
    }

    fn step(&mut self, step: &TraversalOperator, range: Option<Range<usize>>) -> Step {
        let kind = match step {
            TraversalOperator::AttrSplat(_) => StepKind::AttrSplat,
            TraversalOperator::FullSplat(_) => StepKind::FullSplat,
            TraversalOperator::GetAttr(name) => StepKind::Name(name.as_str().to_owned()),
            TraversalOperator::Index(expr) => StepKind::Index(self.expr(expr)),
            TraversalOperator::LegacyIndex(at) => StepKind::Position(*at.value()),
        };
        Step { span: self.span(range), kind }
    }
}

fn number(number: &hcl_edit::Number) -> Literal {
    if let Some(int) = number.as_i64() {
        Literal::Int(i128::from(int))
    } else if let Some(int) = number.as_u64() {
        Literal::Int(i128::from(int))
    } else {
        Literal::Float(number.as_f64().unwrap_or(0.0))
    }
}

fn binary(operator: BinaryOperator) -> Binary {
    match operator {
        BinaryOperator::Eq => Binary::Equal,
        BinaryOperator::NotEq => Binary::NotEqual,
        BinaryOperator::LessEq => Binary::LessOrEqual,
        BinaryOperator::GreaterEq => Binary::GreaterOrEqual,
        BinaryOperator::Less => Binary::Less,
        BinaryOperator::Greater => Binary::Greater,
        BinaryOperator::Plus => Binary::Add,
        BinaryOperator::Minus => Binary::Subtract,
        BinaryOperator::Mul => Binary::Multiply,
        BinaryOperator::Div => Binary::Divide,
        BinaryOperator::Mod => Binary::Remainder,
        BinaryOperator::And => Binary::And,
        BinaryOperator::Or => Binary::Or,
    }
}
