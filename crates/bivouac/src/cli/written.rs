//! How lists are written.

use clap::Args;

/// How a list is written.
#[derive(Debug, Args)]
pub(crate) struct Written {
    /// Write each row by a template of Go's, with the names that --json has.
    #[arg(long, conflicts_with = "json", value_name = "TEMPLATE")]
    format: Option<String>,
    /// Write JSON.
    #[arg(long)]
    json: bool,
}

/// One of the ways in which a list is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form<'a> {
    /// A table for people.
    Table,
    /// JSON.
    Json,
    /// A line for each row.
    Template(&'a str),
}

impl Written {
    /// Which.
    pub(crate) fn form(&self) -> Form<'_> {
        match (&self.format, self.json) {
            (Some(template), _) => Form::Template(template),
            (None, true) => Form::Json,
            (None, false) => Form::Table,
        }
    }
}
