//! The one file that writes: tables, JSON, remarks, completions, the manual page.

use crate::cli::{Cli, Form};
use crate::rows::{AllocRow, JobRow, TaskRow};
use anyhow::Result;
use bivouac_driver::config::OperatorConfig;
use bivouac_driver::fingerprint::Health;
use bivouac_jobspec::Action;
use bivouac_plugin::agent::{Finding, Weight};
use bivouac_runner::events::Event;
use bivouac_runner::files::Entry;
use bivouac_runner::foreground::Progress;
use bivouac_runner::report::{Format, Level, Report};
use bivouac_shim::protocol::TaskStats;
use clap::CommandFactory;
use comfy_table::{Table, presets};
use serde::Serialize;
use std::io::{IsTerminal, Write};
use std::sync::OnceLock;

/// Whether standard input is a terminal.
pub(crate) fn is_terminal() -> bool {
    std::io::stdin().is_terminal()
}

/// Whether output may be coloured: a terminal, and nobody asked for `NO_COLOR`.
pub(crate) fn has_colour() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Whether a person looks at standard error, who may be shown how far a download is.
pub(crate) fn progress() -> Progress {
    let draws = std::env::var_os("TERM").is_none_or(|terminal| terminal != "dumb");
    let seen = std::io::stderr().is_terminal() && draws && format() == Format::Text;
    if seen { Progress::Drawn } else { Progress::Nothing }
}

/// What a shell tells of a program that SIGPIPE ended.
const READER_GONE: i32 = 141;

static FORMAT: OnceLock<Format> = OnceLock::new();

/// Says once how reports are written: before anything is said.
pub(crate) fn write_reports_as(format: Format) {
    let _ = FORMAT.set(format);
}

/// How reports are written.
pub(crate) fn format() -> Format {
    FORMAT.get().copied().unwrap_or_default()
}

/// Something to say beside what was asked for, on standard error.
pub(crate) fn say(report: &Report) {
    whisper(format_args!("{}\n", report.line(format())));
}

/// A remark for the person.
pub(crate) fn note(text: &str) {
    say(&Report::new(Level::Note, text));
}

/// Something went wrong, and the command goes on.
pub(crate) fn warn(text: &str) {
    say(&Report::new(Level::Warning, text));
}

/// Text on standard error. If that is closed, there is nobody left to tell.
fn whisper(text: std::fmt::Arguments<'_>) {
    let _ = std::io::stderr().lock().write_fmt(text);
}

/// An error with its causes.
pub(crate) fn error(error: &anyhow::Error) {
    if let Some(bivouac_runner::load::LoadError::Text(problems)) = error.downcast_ref() {
        return problem(problems);
    }
    if let Some(bivouac_runner::allocation::PlanError::Text(problems)) = error.downcast_ref() {
        return problem(problems);
    }
    match format() {
        Format::Text => whisper(format_args!("bivouac: {error:#}\n")),
        Format::Json => say(&Report::new(Level::Error, format!("{error:#}"))),
    }
}

fn problem(problems: &bivouac_jobspec::Diagnostics) {
    if format() == Format::Text {
        return whisper(format_args!("{}", problems.render(std::io::stderr().is_terminal() && has_colour())));
    }
    for item in problems.items() {
        let mut report = Report::new(Level::Error, item.message.as_str());
        if let Some(span) = item.span {
            report = report.about("place", problems.sources().place(span).to_string());
        }
        if !item.help.is_empty() {
            report = report.about("help", item.help.join("; "));
        }
        say(&report);
    }
}

/// A command line that means nothing, or asks for help: says so and ends the program.
pub(crate) fn end_with(error: &clap::Error) -> ! {
    if format() == Format::Json && error.use_stderr() {
        let text = error.render().to_string();
        let text = text.split("\n\n").next().unwrap_or_default();
        say(&Report::new(Level::Error, text.strip_prefix("error: ").unwrap_or(text)));
        std::process::exit(error.exit_code());
    }
    error.exit()
}

fn table(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(head);
    table
}

/// As `println!`, where the reader may go.
macro_rules! print_line {
    ($($part:tt)*) => { text(format_args!("{}\n", format_args!($($part)*))) };
}

/// Writes to standard output. Who has read enough closes it: then nothing is left to do, and the status is that of a
/// program which SIGPIPE ended. What else keeps it from being written, as a full disk, is told.
fn out(write: impl FnOnce(&mut std::io::StdoutLock<'_>) -> std::io::Result<()>) {
    let mut stdout = std::io::stdout().lock();
    match write(&mut stdout).and_then(|()| stdout.flush()) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(READER_GONE),
        Err(error) => {
            self::error(&anyhow::anyhow!("cannot write to standard output: {error}"));
            std::process::exit(i32::from(crate::SETUP_FAILED));
        }
    }
}

/// Text on standard output.
pub(crate) fn text(text: std::fmt::Arguments<'_>) {
    out(|stdout| stdout.write_fmt(text));
}

/// One line on standard output.
pub(crate) fn line(text: &str) {
    print_line!("{text}");
}

/// Several lines on standard output.
pub(crate) fn lines(lines: &[String]) -> Result<u8> {
    lines.iter().for_each(|text| line(text));
    Ok(0)
}

/// Bytes of tasks on standard output.
pub(crate) fn bytes(bytes: &[u8]) {
    out(|stdout| stdout.write_all(bytes));
}

/// Whether standard output is a terminal.
pub(crate) fn is_output_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// An empty screen.
pub(crate) fn clear() {
    if is_output_terminal() {
        text(format_args!("\x1b[H\x1b[2J"));
    }
}

/// One line of a task's log as JSON.
pub(crate) fn log_line(id: &str, task: &str, stream: &str, time: Option<&str>, line: &[u8]) {
    let text = String::from_utf8_lossy(line);
    let row = serde_json::json!({
        "alloc": id, "task": task, "stream": stream, "time": time, "line": text.strip_suffix('\n').unwrap_or(&text)
    });
    print_line!("{row}");
}

/// When a line of a log was written, if that can be said.
pub(crate) fn log_time(unix_millis: Option<i64>) -> Option<String> {
    let moment = jiff::Timestamp::from_millisecond(unix_millis?).ok()?;
    Some(format!("{moment:.1}"))
}

/// Allocations with their tasks, and runs of other faces.
pub(crate) fn processes(
    rows: &[AllocRow],
    others: &[TaskRow],
    jobs: &[JobRow],
    form: Form<'_>,
) -> Result<u8> {
    match form {
        Form::Json => {
            return json(&serde_json::json!({ "allocations": rows, "others": others, "jobs": jobs }));
        }
        Form::Template(template) => return lines(&crate::format::rows(template, rows)?),
        Form::Table => {}
    }
    let mut table = table(&["ID", "NAME", "STATE", "PID", "RESTARTS", "COMMAND"]);
    for job in jobs {
        let mut state = job.state();
        if !job.description.is_empty() {
            state = format!("{state}: {}", job.description);
        }
        table.add_row([String::new(), job.job.clone(), state, String::new(), String::new(), String::new()]);
    }
    for row in rows {
        let state = if row.description.is_empty() {
            row.state()
        } else {
            format!("{}: {}", row.state(), row.description)
        };
        table.add_row([short(&row.id), row.name.clone(), state, String::new(), String::new(), String::new()]);
        for task in &row.tasks {
            table.add_row(task_cells(task, String::new(), format!("  {}", task.name)));
        }
    }
    for task in others {
        table.add_row(task_cells(task, short(&task.id), task.task.clone()));
    }
    print_line!("{}", table.trim_fmt());
    Ok(0)
}

fn task_cells(task: &TaskRow, id: String, name: String) -> [String; 6] {
    let pid = task.pid.map_or_else(String::new, |pid| pid.to_string());
    [id, name, task.state.clone(), pid, task.restarts.to_string(), task.command.clone().unwrap_or_default()]
}

fn short(id: &str) -> String {
    id.chars().take(8).collect()
}

/// What happened to tasks, oldest first.
pub(crate) fn events(rows: &[(String, Event)], form: Form<'_>) -> Result<u8> {
    let row = |(task, event): &(String, Event)| {
        serde_json::json!({
            "task": task, "at": event.at, "type": event.kind, "message": event.message
        })
    };
    if form != Form::Table {
        return list(&rows.iter().map(row).collect::<Vec<_>>(), form);
    }
    let mut table = table(&["TIME", "TASK", "TYPE", "MESSAGE"]);
    for (task, event) in rows {
        let cells = [time(event.at), task.clone(), event.kind.as_str().to_owned(), event.message.clone()];
        table.add_row(cells);
    }
    print_line!("{}", table.trim_fmt());
    Ok(0)
}

/// A moment in universal time.
fn time(unix_nanos: i64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(unix_nanos))
        .map_or_else(|_| String::new(), |moment| format!("{moment:.0}"))
}

/// Entries of a directory.
pub(crate) fn entries(entries: &[Entry], form: Form<'_>) -> Result<u8> {
    let row = |entry: &Entry| {
        serde_json::json!({
            "name": entry.name, "kind": entry.kind.to_string(), "mode": format!("{:04o}", entry.mode),
            "size": entry.size, "modified": entry.modified
        })
    };
    if form != Form::Table {
        return list(&entries.iter().map(row).collect::<Vec<_>>(), form);
    }
    let mut table = table(&["MODE", "SIZE", "MODIFIED", "NAME"]);
    for entry in entries {
        let mode = format!("{}{:04o}", entry.kind, entry.mode);
        let modified = time(entry.modified.saturating_mul(1_000_000_000));
        table.add_row([mode, entry.size.to_string(), modified, entry.name.escape_debug().to_string()]);
    }
    print_line!("{}", table.trim_fmt());
    Ok(0)
}

/// Copies a file to standard output.
pub(crate) fn copy(mut file: std::fs::File) -> Result<()> {
    std::io::copy(&mut file, &mut std::io::stdout().lock())?;
    Ok(())
}

/// Volumes with their places.
pub(crate) fn volumes(rows: &[(String, String)], form: Form<'_>) -> Result<u8> {
    let row = |(path, name): &(String, String)| serde_json::json!({ "name": name, "path": path });
    if form != Form::Table {
        return list(&rows.iter().map(row).collect::<Vec<_>>(), form);
    }
    let mut table = table(&["NAME", "PATH"]);
    for (path, name) in rows {
        table.add_row([name, path]);
    }
    print_line!("{}", table.trim_fmt());
    Ok(0)
}

/// What tasks use.
pub(crate) fn figures(rows: &[(String, TaskStats)], form: Form<'_>) -> Result<u8> {
    let row = |(id, stats): &(String, TaskStats)| serde_json::json!({ "id": id, "group": stats.group, "oom_kills": stats.oom_kills });
    if form != Form::Table {
        return list(&rows.iter().map(row).collect::<Vec<_>>(), form);
    }
    let mut table = table(&["ID", "CPU USER", "CPU SYSTEM", "MEMORY", "PEAK", "PIDS", "OOM KILLS"]);
    let seconds = |nanos: Option<u64>| {
        nanos.map_or_else(|| "-".to_owned(), |nanos| format!("{:.2} s", nanos as f64 / 1e9))
    };
    let mib = |bytes: Option<u64>| {
        bytes.map_or_else(|| "-".to_owned(), |bytes| format!("{:.1} MiB", bytes as f64 / 1_048_576.0))
    };
    for (id, stats) in rows {
        let short: String = id.chars().take(8).collect();
        let figures = serde_json::to_value(stats.group)?;
        let number = |path: &str| figures.pointer(path).and_then(serde_json::Value::as_u64);
        let pids = number("/pids").map_or_else(|| "-".to_owned(), |pids| pids.to_string());
        table.add_row([
            short,
            seconds(number("/cpu/user_ns")),
            seconds(number("/cpu/system_ns")),
            mib(number("/memory/current")),
            mib(number("/memory/peak")),
            pids,
            stats.oom_kills.to_string(),
        ]);
    }
    print_line!("{}", table.trim_fmt());
    Ok(0)
}

/// The actions of a task.
pub(crate) fn actions(actions: &[Action], form: Form<'_>) -> Result<u8> {
    let row = |action: &Action| serde_json::json!({ "name": action.name, "command": action.command, "args": action.args });
    match form {
        Form::Table => lines(&actions.iter().map(|action| action.name.clone()).collect::<Vec<_>>()),
        _ => list(&actions.iter().map(row).collect::<Vec<_>>(), form),
    }
}

/// Rows for programs.
fn list(rows: &[serde_json::Value], form: Form<'_>) -> Result<u8> {
    match form {
        Form::Template(template) => lines(&crate::format::rows(template, rows)?),
        Form::Json | Form::Table => json(rows),
    }
}

pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> Result<u8> {
    print_line!("{}", serde_json::to_string_pretty(value)?);
    Ok(0)
}

pub(crate) fn plan(
    allocation: &str,
    task: &str,
    sandbox: &bivouac_sandbox::plan::Plan,
    cgroup: &bivouac_cgroup::Plan,
) {
    print_line!("# {allocation} {task}\n{sandbox}control group\n{cgroup}");
}

pub(crate) fn doctor(health: &Health, operator: &OperatorConfig, as_json: bool) -> Result<u8> {
    let missing = match health {
        Health::Healthy => Vec::new(),
        Health::Unhealthy(missing) => missing.clone(),
        Health::Undetected(missing) => vec![missing.clone()],
    };
    if as_json {
        let rows: Vec<_> = missing
            .iter()
            .map(|row| serde_json::json!({"missing": row.what, "remedy": row.remedy}))
            .collect();
        json(&serde_json::json!({"healthy": missing.is_empty(), "problems": rows}))?;
    } else if missing.is_empty() {
        print_line!("This host can run tasks: root, control groups, overlays and the shim are there.");
        print_line!(
            "Operator: chroot environment of {} entries, pids limit {}.",
            operator.chroot_env.len(),
            operator.default_pids_limit
        );
    } else {
        for row in &missing {
            print_line!("missing: {}\n   do: {}", row.what, row.remedy);
        }
    }
    Ok(u8::from(!missing.is_empty()))
}

pub(crate) fn findings(found: &[Finding], as_json: bool) -> Result<()> {
    if as_json {
        json(&found)?;
        return Ok(());
    }
    for finding in found {
        let word = match finding.weight {
            Weight::Wrong => "wrong",
            Weight::Note => "note",
            Weight::Fine => "fine",
        };
        print_line!("{word}: {}", finding.text);
    }
    if found.is_empty() {
        print_line!("Nothing in this configuration is about Bivouac.");
    }
    Ok(())
}

pub(crate) fn completion(shell: clap_complete::Shell) -> u8 {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "bivouac", &mut script);
    let script = String::from_utf8_lossy(&script);
    text(format_args!("{}", crate::complete::with_names(shell, &script)));
    0
}

pub(crate) fn man() -> Result<u8> {
    clap_mangen::Man::new(Cli::command()).render(&mut std::io::stdout())?;
    Ok(0)
}
