//! The one file that writes: tables, JSON, remarks, completions, the manual page.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this is the file that writes for all others")]

use crate::cli::Cli;
use anyhow::Result;
use bivouac_driver::config::OperatorConfig;
use bivouac_driver::fingerprint::Health;
use bivouac_shim::protocol::TaskStats;
use bivouac_shim::status::{Phase, Status};
use clap::CommandFactory;
use comfy_table::{Table, presets};
use serde::Serialize;
use std::io::IsTerminal;

/// Whether standard input is a terminal.
pub(crate) fn is_terminal() -> bool {
    std::io::stdin().is_terminal()
}

/// Whether output may be coloured: a terminal, and nobody asked for `NO_COLOR`.
pub(crate) fn has_colour() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A remark for the person, on standard error.
pub(crate) fn note(text: &str) {
    eprintln!("{text}");
}

/// An error with its causes.
pub(crate) fn error(error: &anyhow::Error) {
    if let Some(bivouac_runner::load::LoadError::Text(problems)) = error.downcast_ref() {
        return problem(problems);
    }
    if let Some(bivouac_runner::allocation::PlanError::Text(problems)) = error.downcast_ref() {
        return problem(problems);
    }
    eprintln!("bivouac: {error:#}");
}

fn problem(problems: &bivouac_jobspec::Diagnostics) {
    eprint!("{}", problems.render(std::io::stderr().is_terminal() && has_colour()));
}

fn table(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(head);
    table
}

/// One line of `ps`.
#[derive(Debug, Serialize)]
pub(crate) struct TaskRow {
    id: String,
    task: String,
    state: String,
    pid: Option<i32>,
    command: Option<String>,
    exit_code: Option<i32>,
    oom_kills: u64,
}

impl TaskRow {
    pub(crate) fn of(id: &str, status: &Status) -> TaskRow {
        let exit_code = status.exit.as_ref().map(|exit| exit.ending.code());
        let state = match (status.phase, exit_code) {
            (Phase::Starting, _) => "starting".to_owned(),
            (Phase::Failed, _) => "failed".to_owned(),
            (Phase::Running, _) => "running".to_owned(),
            (Phase::Stopping, _) => "stopping".to_owned(),
            (Phase::Exited, code) => format!("exited ({})", code.unwrap_or(-1)),
        };
        TaskRow {
            id: id.to_owned(),
            task: status.task.clone(),
            state,
            pid: status.first.as_ref().map(|first| first.pid),
            command: status.command.clone(),
            exit_code,
            oom_kills: status.oom_kills,
        }
    }

    pub(crate) fn lost(id: &str, why: &str) -> TaskRow {
        let task = id.rsplit_once('/').map_or(id, |(_, name)| name).to_owned();
        TaskRow {
            id: id.to_owned(),
            task,
            state: format!("lost: {why}"),
            pid: None,
            command: None,
            exit_code: None,
            oom_kills: 0,
        }
    }
}

pub(crate) fn tasks(rows: &[TaskRow], as_json: bool) -> Result<u8> {
    if as_json {
        return json(rows);
    }
    let mut table = table(&["ID", "TASK", "STATE", "PID", "COMMAND"]);
    for row in rows {
        let short: String = row.id.chars().take(8).collect();
        let pid = row.pid.map_or_else(String::new, |pid| pid.to_string());
        table.add_row([
            short,
            row.task.clone(),
            row.state.clone(),
            pid,
            row.command.clone().unwrap_or_default(),
        ]);
    }
    println!("{}", table.trim_fmt());
    Ok(0)
}

pub(crate) fn figures(rows: &[(String, TaskStats)], as_json: bool) -> Result<u8> {
    if as_json {
        return json(rows);
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
    println!("{}", table.trim_fmt());
    Ok(0)
}

pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> Result<u8> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(0)
}

pub(crate) fn plan(
    allocation: &str,
    task: &str,
    sandbox: &bivouac_sandbox::plan::Plan,
    cgroup: &bivouac_cgroup::Plan,
) {
    println!("# {allocation} {task}\n{sandbox}control group\n{cgroup}");
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
        println!("This host can run tasks: root, control groups, overlays and the shim are there.");
        println!(
            "Operator: chroot environment of {} entries, pids limit {}.",
            operator.chroot_env.len(),
            operator.default_pids_limit
        );
    } else {
        for row in &missing {
            println!("missing: {}\n   do: {}", row.what, row.remedy);
        }
    }
    Ok(u8::from(!missing.is_empty()))
}

pub(crate) fn completion(shell: clap_complete::Shell) -> u8 {
    clap_complete::generate(shell, &mut Cli::command(), "bivouac", &mut std::io::stdout());
    0
}

pub(crate) fn man() -> Result<u8> {
    clap_mangen::Man::new(Cli::command()).render(&mut std::io::stdout())?;
    Ok(0)
}
