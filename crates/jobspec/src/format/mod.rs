//! The canonical layout of a job file: two spaces a level, one space between words, `=` and trailing comments of
//! neighbouring lines in one column. Words, comments, line breaks and heredocs stay as they are.
//!
//! [`lex`] cuts the text into tokens that together are the whole text, [`layout`] decides the white space between
//! them. What the layout must be is what `nomad fmt` writes; a test compares both.

mod layout;
mod lex;

use crate::diagnostic::Diagnostics;
use crate::source::{SourceFile, Sources};
use std::sync::Arc;

/// Lays a job file out anew.
///
/// # Errors
/// A file that does not parse is not touched: all that is wrong with it.
pub fn format(file: &SourceFile) -> Result<String, Diagnostics> {
    let mut sources = Sources::default();
    let parsed = sources
        .add(file)
        .map_err(|problem| vec![*problem])
        .and_then(|id| crate::syntax::parse_file(&sources, id).map(|_| id));
    match parsed {
        Ok(id) => {
            let text = sources.file(id).1;
            // JSON has no comments to keep and no layout of its own here.
            let is_json = crate::syntax::is_json(text);
            Ok(if is_json { text.to_owned() } else { layout::lay_out(&lex::tokens(text)) })
        }
        Err(problems) => Err(Diagnostics::new(problems, Arc::new(sources))),
    }
}
