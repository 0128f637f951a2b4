//! The command line: one definition, from which help, man pages and completions come.

mod places;
#[cfg(test)]
mod tests;
mod values;
mod written;

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;
use values::{Since, duration, signal, some};

pub(crate) use places::{Disk, LOG_FORMAT, Places, format_of_nonsense};
pub(crate) use written::{Form, Written};

/// Runs any command isolated, from a Nomad job file or from the command line, without server or daemon.
#[derive(Debug, Parser)]
#[command(name = "bivouac", version, about, propagate_version = true, disable_help_subcommand = true)]
#[command(
    after_help = "Exit status: of the task; 125 when the sandbox could not be set up, 126 when the command cannot be run,\n127 when it was not found, 128 + N when signal N ended it, 2 for a wrong command line.\n\nExample for programs: bivouac --log-format json ps --json"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) places: Places,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What a supervisor is told.
#[derive(Debug, Args)]
pub(crate) struct Supervise {
    /// The allocation.
    pub(crate) id: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a job file, or a command after `--`; in the foreground, or with -d in the background.
    #[command(
        after_help = "Examples:\n  bivouac run web.nomad.hcl\n  bivouac run -var port=8080 web.nomad.hcl\n  bivouac run -- /bin/date\n  bivouac run -it --memory 256m --volume /srv/data:/data:ro -- bash\n  bivouac run -d -volume data=/srv/data db.nomad.hcl\n\nCtrl-C stops gracefully, twice kills.\n\nWith -d, a job that runs as it is asked for stays as it is, and one that differs is stopped and started anew\n(`bivouac plan` tells). A periodic job starts its runs when they are due; a parameterized one waits for\n`bivouac dispatch`. Runs in the foreground are independent of what runs in the background."
    )]
    Run(Box<Run>),
    /// Keep the time of a periodic job (what `run -d` and `resume` start).
    #[command(hide = true)]
    Schedule {
        /// The job.
        name: String,
    },
    /// Supervise an allocation that was prepared (what `run -d` and `resume` start).
    #[command(hide = true)]
    Supervise(Supervise),
    /// Take up detached runs again: after a crash of their supervisors, and after a reboot those that asked for it.
    Resume,
    /// List allocations and their tasks.
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  bivouac ps -a\n  bivouac ps --format '{{.name}} {{.status}}'\n\nA task is named by its id (ALLOCATION/TASK, or the beginning of the allocation's), or by its name;\nan allocation also as JOB.GROUP[INDEX], a job by its name."
    )]
    Ps(Listing),
    /// Run a command in a running task.
    Exec(Exec),
    /// Send a signal to a task's first process.
    Signal(Signal),
    /// Stop a job, an allocation or a task: the kill signal, then after the timeout everything that is left.
    Stop(Stop),
    /// Restart what runs of a job, an allocation or a task.
    Restart(Restart),
    /// Show the output of runs: those in the background, and those of job files in the foreground.
    #[command(
        after_help = "Examples:\n  bivouac logs web\n  bivouac logs -f --tail 20 web\n  bivouac logs --task server --stderr 07e1f62d\n  bivouac logs --since 10m --timestamps web\n  bivouac logs --since '2026-01-31 08:00' web\n\nTimes are those at which the beginning of a line came, to a tenth of a second (coarser where a task writes\nless than 16 bytes in that time). A line whose time is not known shows - and is never left out.\nSeveral streams are shown as one, in the order of these times.\n\nOn a terminal, what could command it is shown in words (but for colours), unless --raw is given."
    )]
    Logs(Logs),
    /// Watch what tasks use, on the whole screen.
    Top(Top),
    /// Show the last ten things that happened to each task.
    #[command(
        after_help = "Examples:\n  bivouac events web\n  bivouac events --format '{{.task}} {{.type}} {{.message}}' web"
    )]
    Events(Events),
    /// Start a parameterized job with a payload and metadata.
    #[command(
        after_help = "The job is a file, or the name of a job that `run -d` has written down.\n\nExamples:\n  bivouac run -d encode.nomad.hcl && bivouac dispatch -d -meta user=42 encode input.json\n  bivouac dispatch -meta user=42 encode.nomad.hcl input.json\n  echo data | bivouac dispatch -d encode.nomad.hcl -"
    )]
    Dispatch(Box<Dispatch>),
    /// Run one of the actions that a job file defines for a task; without a name, list them.
    #[command(
        after_help = "Examples:\n  bivouac action web\n  bivouac action --format '{{.name}}: {{.command}}' web\n  bivouac action web reload"
    )]
    Action(Action),
    /// Look at files of an allocation: its directory holds `alloc` and one directory for each task.
    Fs(Fs),
    /// Copy files into or out of a task: one of both is TASK:PATH.
    #[command(
        after_help = "Examples:\n  bivouac cp web:/local/report.txt .\n  bivouac cp config.json web:/local/\n  bivouac cp db/server:/alloc/data ./data\n\nLinks are copied as links and never followed. Directories of the host that a task sees (/usr, /etc, ...)\nare not reached; secrets are not copied."
    )]
    Cp(Cp),
    /// Make, list and remove named volumes.
    Volume(Volume),
    /// Show what tasks use.
    #[command(
        after_help = "Examples:\n  bivouac stats\n  bivouac stats --format '{{.id}} {{.group.memory.current}}' web"
    )]
    Stats(Stats),
    /// Show a task, or with --plan what a job file would do.
    Inspect(Inspect),
    /// Check a job file: everything that can be told without the machine that is to run it.
    Validate(Validate),
    /// Tell what `run -d` of a job file would start, stop and replace, and what differs from what runs.
    #[command(
        after_help = "Exit status: 0 when nothing would change, 1 when something would, 255 on an error.\n\nMarks: + starts or is new, - stops or goes, ~ differs, -/+ is stopped and started anew, = stays.\nValues of sensitive variables are not shown."
    )]
    Plan(Plan),
    /// Make a first job file, or lay job files out.
    Job(Job),
    /// Tell whether this host can run tasks, and what to do where it cannot.
    Doctor(Doctor),
    /// Remove runs that are over and what crashed ones have left. Volumes and sticky disks stay.
    Gc,
    /// Write a shell completion script to standard output.
    #[command(
        after_help = "Example:\n  source <(bivouac completion bash)\n\nIn bash, zsh and fish, ids, jobs, tasks and volumes complete, too."
    )]
    Completion {
        /// For which shell.
        shell: clap_complete::Shell,
    },
    /// Name what a word of a command line may become (what completion scripts ask).
    #[command(hide = true)]
    Complete {
        /// The words behind `bivouac`, to the one that is completed.
        #[arg(last = true)]
        words: Vec<OsString>,
    },
    /// Write the manual page to standard output.
    Man,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) variables: Variables,
    /// The job file (`-` for standard input). None when a command follows `--`.
    // What a command's options say stands in a job file's blocks: nothing of it may be asked for and not be had.
    #[arg(value_name = "JOB", conflicts_with_all = ["command", "Adhoc"])]
    pub(crate) job: Option<PathBuf>,
    /// Mount a file or directory of the host; with a job file: give it a host volume, NAME=PATH[:ro].
    #[arg(short, long, value_name = "HOST:TASK[:ro]", value_parser = some())]
    pub(crate) volume: Vec<String>,
    /// Pass standard input on.
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Give the task a terminal.
    #[arg(short, long)]
    pub(crate) tty: bool,
    #[command(flatten)]
    pub(crate) adhoc: Adhoc,
    /// Run in the background and print the allocations' ids when the tasks run.
    #[arg(short, long, conflicts_with_all = ["quiet", "keep"])]
    pub(crate) detach: bool,
    /// Come back after a reboot (`bivouac resume` at boot).
    #[arg(long, requires = "detach")]
    pub(crate) restart_on_boot: bool,
    /// Say nothing but what the task says.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Keep the allocation's directory and logs after the end, until `bivouac gc`.
    #[arg(long)]
    pub(crate) keep: bool,
    /// A command and its arguments.
    #[arg(last = true, value_name = "COMMAND", allow_hyphen_values = true, conflicts_with = "Variables")]
    pub(crate) command: Vec<OsString>,
}

/// Values of a job file's variables.
#[derive(Debug, Default, Args)]
pub(crate) struct Variables {
    /// Set a variable of the job file (also written -var, as with Nomad).
    #[arg(long = "var", value_name = "NAME=VALUE")]
    pub(crate) var: Vec<String>,
    /// Read variables from a file (also written -var-file).
    #[arg(long = "var-file", value_name = "FILE")]
    pub(crate) var_file: Vec<PathBuf>,
}

/// Options of a command given after `--`, named as Docker names them.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Options for a command after --")]
pub(crate) struct Adhoc {
    /// Name of the task.
    #[arg(long, default_value = "task", value_parser = some())]
    pub(crate) name: String,
    /// Memory limit, such as 256m; swap is off.
    #[arg(short, long, value_name = "SIZE", value_parser = some())]
    pub(crate) memory: Option<String>,
    /// Processors' worth of time, such as 1.5.
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub(crate) cpus: Option<f64>,
    /// User name or number [default: nobody].
    #[arg(short, long, value_parser = some())]
    pub(crate) user: Option<String>,
    /// Set a variable in the task; NAME alone takes the caller's value.
    #[arg(short, long, value_name = "NAME[=VALUE]", value_parser = some())]
    pub(crate) env: Vec<String>,
    /// Directory in the task to start in.
    #[arg(short, long, value_name = "DIR", value_parser = some())]
    pub(crate) workdir: Option<String>,
    /// Add a capability (the operator must allow it).
    #[arg(long, value_name = "CAP", value_parser = some())]
    pub(crate) cap_add: Vec<String>,
    /// Drop a capability.
    #[arg(long, value_name = "CAP", value_parser = some())]
    pub(crate) cap_drop: Vec<String>,
    /// Process numbers.
    #[arg(long, value_enum)]
    pub(crate) pid: Option<Mode>,
    /// Queues and shared memory.
    #[arg(long, value_enum)]
    pub(crate) ipc: Option<Mode>,
    /// Network.
    #[arg(long, value_enum, default_value_t = NetworkMode::Host)]
    pub(crate) net: NetworkMode,
    /// Make the root read-only.
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Mount an empty file system in memory.
    #[arg(long, value_name = "DIR[:size=SIZE,mode=MODE,exec]", value_parser = some())]
    pub(crate) tmpfs: Vec<String>,
    /// Set a resource limit.
    #[arg(long, value_name = "NAME=SOFT[:HARD]", value_parser = some())]
    pub(crate) ulimit: Vec<String>,
    /// Largest number of processes and threads.
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub(crate) pids_limit: Option<i64>,
    /// Host name of the task.
    #[arg(long, value_name = "NAME", value_parser = some())]
    pub(crate) hostname: Option<String>,
    /// Give the task a device.
    #[arg(long, value_name = "HOST[:TASK[:rwm]]", value_parser = some())]
    pub(crate) device: Vec<String>,
    /// System calls: default or unconfined.
    #[arg(long, value_name = "PROFILE", value_parser = some())]
    pub(crate) seccomp: Option<String>,
    /// Nothing in the task can gain privileges.
    #[arg(long)]
    pub(crate) no_new_privs: bool,
    /// Put a reaper in front of the command.
    #[arg(long)]
    pub(crate) init: bool,
    /// Signal that asks the command to stop.
    #[arg(long, value_name = "SIGNAL", default_value = "SIGINT", value_parser = some())]
    pub(crate) stop_signal: String,
    /// How long it has to obey.
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    pub(crate) stop_timeout: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    Private,
    Host,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum NetworkMode {
    /// The host's.
    #[default]
    Host,
    /// Nothing but a loopback interface.
    None,
}

#[derive(Debug, Args)]
pub(crate) struct Listing {
    /// Show what is over, too.
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Show it again every second.
    #[arg(short, long, conflicts_with_all = ["json", "format"])]
    pub(crate) watch: bool,
    #[command(flatten)]
    pub(crate) written: Written,
}

#[derive(Debug, Args)]
pub(crate) struct Exec {
    /// Pass standard input on.
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Give the command a terminal.
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// The task: its id, the beginning of it, or its name.
    pub(crate) task: String,
    /// The command and its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct Signal {
    /// Name or number, such as HUP, SIGHUP or 1.
    #[arg(short, long, default_value = "KILL", value_parser = signal)]
    pub(crate) signal: bivouac_driver::signals::Signal,
    /// A job, an allocation or a task.
    pub(crate) task: String,
}

#[derive(Debug, Args)]
pub(crate) struct Stop {
    /// How long the task has after its kill signal [default: its kill_timeout].
    #[arg(short, long, value_name = "DURATION", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
    /// Do not wait for shutdown delays.
    #[arg(long)]
    pub(crate) no_shutdown_delay: bool,
    /// Jobs, allocations or tasks.
    #[arg(required = true, value_name = "WHAT")]
    pub(crate) tasks: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Restart {
    /// Run everything anew, finished prestart and poststart tasks too.
    #[arg(long)]
    pub(crate) all_tasks: bool,
    /// A job, an allocation or a task.
    pub(crate) what: String,
}

#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// Go on as more is written, until the run is over.
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only the last lines of all that is shown.
    #[arg(short = 'n', long, value_name = "LINES")]
    pub(crate) tail: Option<usize>,
    /// Only lines since then: a duration that ends now (90s, 2h30m), or a time (2026-01-31T08:00:00Z; without zone, local).
    #[arg(long, value_name = "DURATION|TIME", value_parser = Since::parse)]
    pub(crate) since: Option<Since>,
    /// Put its time (UTC) before each line.
    #[arg(short, long)]
    pub(crate) timestamps: bool,
    /// Only this task.
    #[arg(long, value_name = "NAME", value_parser = some())]
    pub(crate) task: Option<String>,
    /// Standard output.
    #[arg(long)]
    pub(crate) stdout: bool,
    /// Standard error.
    #[arg(long)]
    pub(crate) stderr: bool,
    /// Write the bytes as they are, also to a terminal.
    #[arg(long)]
    pub(crate) raw: bool,
    /// Write a JSON document a line.
    #[arg(long)]
    pub(crate) json: bool,
    /// A job, an allocation or a task.
    pub(crate) what: String,
}

#[derive(Debug, Args)]
pub(crate) struct Top {
    /// Only this job, allocation or task's allocation.
    pub(crate) what: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Events {
    #[command(flatten)]
    pub(crate) written: Written,
    /// A job, an allocation or a task.
    pub(crate) what: String,
}

#[derive(Debug, Args)]
pub(crate) struct Dispatch {
    #[command(flatten)]
    pub(crate) variables: Variables,
    /// Metadata of this run (also written -meta, as with Nomad).
    #[arg(long = "meta", value_name = "KEY=VALUE")]
    pub(crate) meta: Vec<String>,
    /// Run in the background.
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Give the job file a host volume, NAME=PATH[:ro].
    #[arg(short, long, value_name = "NAME=PATH")]
    pub(crate) volume: Vec<String>,
    /// The job file, or the name of a job that is written down.
    pub(crate) job: PathBuf,
    /// A file with the payload (`-` for standard input).
    pub(crate) payload: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Action {
    /// Give the action a terminal.
    #[arg(short, long)]
    pub(crate) tty: bool,
    #[command(flatten)]
    pub(crate) written: Written,
    /// The task.
    pub(crate) task: String,
    /// The action.
    pub(crate) action: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Fs {
    #[command(subcommand)]
    pub(crate) command: FsCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum FsCommand {
    /// List a directory.
    #[command(
        after_help = "Examples:\n  bivouac fs ls web\n  bivouac fs ls --format '{{.mode}} {{.size}} {{.name}}' web alloc/logs"
    )]
    Ls {
        #[command(flatten)]
        written: Written,
        /// The allocation.
        what: String,
        /// The directory.
        #[arg(default_value = "/")]
        path: PathBuf,
    },
    /// Show a file.
    Cat {
        /// The allocation.
        what: String,
        /// The file.
        path: PathBuf,
    },
    /// Tell what is at a path.
    Stat {
        #[command(flatten)]
        written: Written,
        /// The allocation.
        what: String,
        /// The path.
        path: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Cp {
    /// What is copied.
    pub(crate) from: String,
    /// Where to.
    pub(crate) to: String,
}

#[derive(Debug, Args)]
pub(crate) struct Volume {
    #[command(subcommand)]
    pub(crate) command: VolumeCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum VolumeCommand {
    /// Make volumes; those that are there stay as they are.
    Create {
        /// Their names.
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// List volumes.
    #[command(after_help = "Examples:\n  bivouac volume ls\n  bivouac volume ls --format '{{.path}}'")]
    Ls {
        #[command(flatten)]
        written: Written,
    },
    /// Remove volumes with all that is in them.
    Rm {
        /// Their names.
        #[arg(required = true)]
        names: Vec<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Stats {
    #[command(flatten)]
    pub(crate) written: Written,
    /// The tasks; all when none is named.
    #[arg(value_name = "TASK")]
    pub(crate) tasks: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    #[command(flatten)]
    pub(crate) variables: Variables,
    /// Print what running the job file would do, without doing it.
    #[arg(long)]
    pub(crate) plan: bool,
    /// Give the job file a host volume, NAME=PATH[:ro].
    #[arg(short, long, value_name = "NAME=PATH")]
    pub(crate) volume: Vec<String>,
    /// A task, or with --plan a job file.
    pub(crate) what: String,
}

#[derive(Debug, Args)]
pub(crate) struct Validate {
    #[command(flatten)]
    pub(crate) variables: Variables,
    /// The job file (`-` for standard input).
    pub(crate) job: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Plan {
    #[command(flatten)]
    pub(crate) variables: Variables,
    /// Give the job file a host volume, NAME=PATH[:ro].
    #[arg(short, long, value_name = "NAME=PATH")]
    pub(crate) volume: Vec<String>,
    /// The job file (`-` for standard input).
    pub(crate) job: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Job {
    #[command(subcommand)]
    pub(crate) command: JobCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum JobCommand {
    /// Make a commented job file that runs as it is.
    Init(Init),
    /// Lay job files out anew, and name those that were not laid out; comments and line breaks stay.
    #[command(
        after_help = "Exit status: 0; with --check 1 when a file is not laid out; 125 when one cannot be read."
    )]
    Fmt(Fmt),
}

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// Its name; nothing that is there is overwritten.
    #[arg(default_value = "example.nomad.hcl")]
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Fmt {
    /// Write nothing.
    #[arg(long)]
    pub(crate) check: bool,
    /// The files (`-` lays standard input out, to standard output).
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Look at the configuration of a Nomad client instead: a file, or a directory of `*.hcl`. Needs no agent.
    #[arg(long, value_name = "FILE")]
    pub(crate) nomad: Option<PathBuf>,
    /// Write JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Nomad writes long options with one dash; clap takes two. Only before `--`.
pub(crate) fn with_double_dashes(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut ours = true;
    arguments
        .into_iter()
        .map(|argument| {
            if argument == "--" {
                ours = false;
            }
            let text = argument.to_str().unwrap_or_default();
            let nomads = ["-var", "-var-file", "-volume", "-meta", "-check"];
            let nomads = nomads.iter().any(|name| {
                text.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
            });
            if ours && nomads { OsString::from(format!("-{text}")) } else { argument }
        })
        .collect()
}
