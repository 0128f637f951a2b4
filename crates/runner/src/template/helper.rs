//! The process that renders: no files, no network, no programs; it asks its starter for the files it may read.

use super::{Answer, LARGEST, Missing, Order, Said, balance, functions, scratch};
use bivouac_artifact::confine::{self, Directory, Needs, Network, Programs};
use bivouac_artifact::order::Limits;
use gotmpl::{MissingKey, Template, Value};
use std::io::{BufRead, Read, Write};
use std::process::ExitCode;

/// The hidden subcommand.
pub const SUBCOMMAND: &str = "template-helper";
/// Rounds of loops, over all loops of a template.
const ROUNDS: u64 = 1_000_000;
/// Processor time and bytes.
const SECONDS: u64 = 10;

/// The whole of the helper process.
pub fn main() -> ExitCode {
    match work() {
        Ok(text) => say(&Said::Rendered(text)),
        Err(text) => say(&Said::Failed(text)),
    }
    ExitCode::SUCCESS
}

fn work() -> Result<String, String> {
    let order: Order = hear()?;
    let needs = Needs {
        directory: Directory::None,
        network: Network::Closed,
        programs: Programs::None,
        source: None,
    };
    let limits = Limits { seconds: SECONDS, ..Limits::default() };
    confine::confine(&needs, &limits).map_err(|error| error.to_string())?;
    evaluate(&order, std::sync::Arc::new(ask))
}

/// Renders, with files from `files`; pure but for those.
///
/// # Errors
/// What is wrong with the template, in a sentence.
pub fn evaluate(order: &Order, files: functions::Files) -> Result<String, String> {
    if order.left.is_empty() || order.right.is_empty() {
        return Err("a delimiter is empty".to_owned());
    }
    if order.left == order.right {
        return Err("both delimiters are the same".to_owned());
    }
    balance::check(&order.text, &order.left, &order.right)?;
    let missing = match order.missing {
        Missing::Empty => MissingKey::ZeroValue,
        Missing::Error => MissingKey::Error,
    };
    let template = Template::new("template")
        .max_range_iters(ROUNDS)
        .delims(&order.left, &order.right)
        .missing_key(missing)
        .funcs(functions::all(&order.env, files));
    let text = scratch::as_functions(&order.text, &order.left, &order.right);
    let template = template.parse(&text).map_err(|error| error.to_string())?;
    let mut out = Capped(Vec::new());
    let data = Value::Map(std::sync::Arc::default());
    template.execute(&mut out, &data).map_err(|error| error.to_string())?;
    String::from_utf8(out.0).map_err(|_| "the result is not UTF-8".to_owned())
}

/// A result that does not grow without end.
struct Capped(Vec<u8>);

impl Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + bytes.len() > LARGEST {
            return Err(std::io::Error::other("the result is larger than 16 MiB"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn ask(path: &str) -> Result<String, String> {
    say(&Said::Read(path.to_owned()));
    match hear()? {
        Answer::Content(text) => Ok(text),
        Answer::Refused(text) => Err(text),
    }
}

fn say(said: &Said) {
    // A starter that is gone reads nothing; there is nobody to tell.
    if let Ok(mut line) = serde_json::to_vec(said) {
        line.push(b'\n');
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(&line).and_then(|()| out.flush());
    }
}

fn hear<T: serde::de::DeserializeOwned>() -> Result<T, String> {
    let mut line = String::new();
    let most = (LARGEST * 7) as u64;
    std::io::stdin().lock().take(most).read_line(&mut line).map_err(|error| error.to_string())?;
    serde_json::from_str(&line).map_err(|error| format!("not understood: {error}"))
}
