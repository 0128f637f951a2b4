//! Log lines for the agent: one JSON object per line on standard error.
//!
//! The agent reads `@level`, `@message` and `@timestamp` (exactly six digits of a second) and shows all
//! other keys beside the text. It filters by its own level, so everything of ours is sent. When the
//! agent was killed nobody reads any more: a failed write is forgotten, never an error or a panic.

use std::fmt;
use std::io::Write;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

/// Longest text of one value, in bytes: the agent cuts lines at 64 KiB.
const MAX_TEXT: usize = 8 * 1024;

/// Sends this process's events and panics to standard error from now on.
pub(crate) fn install() {
    let subscriber = tracing_subscriber::registry().with(AgentLog);
    // A second server in one process (tests) keeps the first one's.
    let _ = tracing::subscriber::set_global_default(subscriber);
    std::panic::set_hook(Box::new(|panic| {
        let mut line = Line::new("ERROR", "panic");
        line.put("@message", serde_json::Value::String(cut(&panic.to_string())));
        line.write();
    }));
}

struct AgentLog;

impl<S: Subscriber> Layer<S> for AgentLog {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        metadata.target().starts_with("bivouac") || *metadata.level() <= Level::WARN
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Line::new(event.metadata().level().as_str(), event.metadata().target());
        event.record(&mut line);
        line.write();
    }
}

/// One line in the making.
struct Line(serde_json::Map<String, serde_json::Value>);

impl Line {
    fn new(level: &str, module: &str) -> Self {
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
        let mut line = Self(serde_json::Map::new());
        line.put("@level", level.to_ascii_lowercase().into());
        line.put("@message", String::new().into());
        line.put("@module", module.replace("::", ".").into());
        line.put("@timestamp", now.into());
        line
    }

    fn put(&mut self, key: &str, value: serde_json::Value) {
        self.0.insert(key.to_owned(), value);
    }

    /// A field of an event: its own keys never take the place of the agent's.
    fn field(&mut self, field: &Field, value: serde_json::Value) {
        match field.name() {
            "message" => self.put("@message", as_text(value).into()),
            name => self.put(name.trim_start_matches('@'), value),
        }
    }

    fn render(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(&self.0).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    fn write(&self) {
        // One write per line, so that lines of two threads do not mix.
        let _ = std::io::stderr().lock().write_all(&self.render());
    }
}

fn as_text(value: serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    }
}

fn cut(text: &str) -> String {
    let end = text.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= MAX_TEXT).last();
    text.get(..end.unwrap_or(0)).unwrap_or_default().to_owned()
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.field(field, cut(&format!("{value:?}")).into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.field(field, cut(value).into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.field(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.field(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.field(field, value.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Keep(Arc<Mutex<Vec<String>>>);

    impl<S: Subscriber> Layer<S> for Keep {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let mut line = Line::new(event.metadata().level().as_str(), event.metadata().target());
            event.record(&mut line);
            self.0.lock().unwrap().push(String::from_utf8(line.render()).unwrap());
        }
    }

    fn lines(log: impl FnOnce()) -> Vec<serde_json::Value> {
        let keep = Keep::default();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(keep.clone()), log);
        let lines = keep.0.lock().unwrap();
        lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn the_agents_own_keys_are_always_text() {
        let lines = lines(|| {
            tracing::warn!(task = "a/b/c", tries = 3, "cannot stop");
            tracing::info!("@message" = 5, "@level" = false, "two\nlines");
            tracing::error!(message = 7);
        });
        for line in &lines {
            for key in ["@level", "@message", "@timestamp", "@module"] {
                assert!(line.get(key).is_some_and(serde_json::Value::is_string), "{key} in {line}");
            }
        }
        let first = lines.first().unwrap();
        assert_eq!(
            (&first["@level"], &first["@message"], &first["task"], &first["tries"]),
            (&"warn".into(), &"cannot stop".into(), &"a/b/c".into(), &3.into())
        );
    }

    #[test]
    fn the_time_has_six_digits() {
        let line = Line::new("INFO", "m");
        let time = line.0.get("@timestamp").and_then(|t| t.as_str()).unwrap();
        let (_, fraction) = time.split_once('.').unwrap();
        assert_eq!((time.len(), fraction.len()), (27, 7), "{time}");
        assert!(time.ends_with('Z'));
    }

    #[test]
    fn no_line_is_longer_than_the_agent_reads() {
        let lines = lines(|| tracing::info!(a = "ä".repeat(100_000), b = ?"x".repeat(100_000), "long"));
        let line = lines.first().unwrap();
        assert!(line.to_string().len() < 60_000);
        assert!(line["a"].as_str().unwrap().len() <= MAX_TEXT);
    }
}
