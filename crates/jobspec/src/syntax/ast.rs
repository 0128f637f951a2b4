//! The tree of a job file: blocks, attributes and expressions, each with its span.

use crate::source::Span;

/// Attributes and blocks between two braces (or of a whole file), in the order of the text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Body {
    pub(crate) attrs: Vec<Attr>,
    pub(crate) blocks: Vec<Block>,
}

/// `name = value`.
#[derive(Clone, Debug)]
pub(crate) struct Attr {
    pub(crate) name: Word,
    pub(crate) value: Expr,
}

/// `kind "label" { ... }`.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub(crate) kind: Word,
    pub(crate) labels: Vec<Word>,
    pub(crate) body: Body,
}

/// A name with its place.
#[derive(Clone, Debug, Default)]
pub(crate) struct Word {
    pub(crate) text: String,
    pub(crate) span: Span,
}

/// A number literal as exact as the parser gives it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Literal {
    Int(i128),
    Float(f64),
}

#[derive(Clone, Debug)]
pub(crate) struct Expr {
    pub(crate) span: Span,
    pub(crate) kind: Kind,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Null,
    Bool(bool),
    Number(Literal),
    String(String),
    Template(Vec<Part>),
    Array(Vec<Expr>),
    Object(Vec<(Key, Expr)>),
    Paren(Box<Expr>),
    Variable(String),
    Conditional(Box<[Expr; 3]>),
    Call { name: Word, args: Vec<Expr>, expand: bool },
    Traversal { root: Box<Expr>, steps: Vec<Step> },
    Not(Box<Expr>),
    Negate(Box<Expr>),
    Binary(Binary, Box<[Expr; 2]>),
    For(Box<For>),
}

/// Key of an object item.
#[derive(Clone, Debug)]
pub(crate) enum Key {
    /// A bare word, which names itself.
    Word(Word),
    Expr(Expr),
}

#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) span: Span,
    pub(crate) kind: StepKind,
}

#[derive(Clone, Debug)]
pub(crate) enum StepKind {
    Name(String),
    Position(u64),
    Index(Expr),
    /// `.*`: the names that follow apply to each element.
    AttrSplat,
    /// `[*]`: all steps that follow apply to each element.
    FullSplat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Binary {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    And,
    Or,
}

#[derive(Clone, Debug)]
pub(crate) struct For {
    pub(crate) key_name: Option<String>,
    pub(crate) value_name: String,
    pub(crate) collection: Expr,
    pub(crate) key: Option<Expr>,
    pub(crate) value: Expr,
    pub(crate) grouping: bool,
    pub(crate) condition: Option<Expr>,
}

/// A piece of a template.
#[derive(Clone, Debug)]
pub(crate) enum Part {
    Literal(String),
    /// `${ ... }`; the span is that of the whole sequence.
    Interpolation(Expr, Span),
    If {
        condition: Expr,
        then: Vec<Part>,
        otherwise: Vec<Part>,
    },
    For {
        key_name: Option<String>,
        value_name: String,
        collection: Expr,
        body: Vec<Part>,
    },
}
