//! A command after `--` with Docker's flags becomes the same request that a job file makes.

use crate::cli::{Adhoc, Mode, NetworkMode, Run};
use anyhow::{Context, Result, bail};
use bivouac_driver::config::{DeviceAsked, DeviceUse};
use bivouac_driver::options::{Value, parse_size};
use bivouac_driver::resources::{MemoryMax, Resources};
use bivouac_jobspec::{Logs, Restart, RestartMode, Role};
use bivouac_runner::allocation::{Allocation, Order, PlanError, PlannedTask, SecretsLast};
use bivouac_runner::inputs::Inputs;
use bivouac_runner::lifecycle::Member;
use bivouac_runner::restart::{OnSuccess, Tracker};
use bivouac_sandbox::capability::CapSet;
use bivouac_sandbox::model::{Access, Mount, MountKind, Network, Propagation, Route, Trust};
use bivouac_sandbox::{HostPath, TaskPath};
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

/// Makes the allocation of one command.
///
/// # Errors
/// Names the flag and what is wrong with it.
pub(crate) fn allocation(run: &Run, id: &str, state_dir: &Path) -> Result<Allocation, Usage> {
    read(run, id, state_dir).map_err(Usage)
}

/// The options that flags become, where their names differ from the flag's.
const FLAGS: &[(&str, &str)] = &[
    ("mount[", "--tmpfs"),
    ("ulimit", "--ulimit"),
    ("pids_limit", "--pids-limit"),
    ("seccomp", "--seccomp"),
    ("work_dir", "--workdir"),
    ("hostname", "--hostname"),
    ("cap_add", "--cap-add"),
    ("cap_drop", "--cap-drop"),
];

/// What an option is refused for, with the name of the flag that set it.
fn with_flag(error: PlanError) -> anyhow::Error {
    let text = error.to_string();
    match FLAGS.iter().find(|(option, _)| text.starts_with(option)) {
        Some((_, flag)) => anyhow::anyhow!("{flag}: {text}"),
        None => error.into(),
    }
}

/// A name that can stand in paths and groups.
fn name(text: &str) -> Result<()> {
    if text == "." || text == ".." || text.contains('/') || text.chars().any(char::is_control) {
        bail!("--name {text:?}: a name holds no slash and no control character, and is neither . nor ..");
    }
    Ok(())
}

/// Capabilities that there are, or all of them.
fn capabilities(flag: &str, names: &[String]) -> Result<()> {
    let unknown = |name: &&String| CapSet::parse(std::slice::from_ref(*name), CapSet::up_to(63)).is_err();
    match names.iter().find(unknown) {
        Some(name) => bail!("{flag} {name:?} is no capability; capabilities(7) lists them"),
        None => Ok(()),
    }
}

/// A flag that holds nonsense.
#[derive(Debug)]
pub(crate) struct Usage(anyhow::Error);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#}", self.0)
    }
}

impl std::error::Error for Usage {}

fn read(run: &Run, id: &str, state_dir: &Path) -> Result<Allocation> {
    let flags = &run.adhoc;
    name(&flags.name)?;
    capabilities("--cap-add", &flags.cap_add)?;
    capabilities("--cap-drop", &flags.cap_drop)?;
    let order = Order {
        name: flags.name.clone(),
        config: config(flags, &run.command)?,
        env: environment(&flags.env)?,
        user: flags.user.clone().unwrap_or_default(),
        resources: resources(flags)?,
        cores: 0,
        network: if flags.net == NetworkMode::None { Network::Own } else { Network::Host },
        hostname: None,
        dns: None,
        mounts: run.volume.iter().map(|text| volume(text)).collect::<Result<_>>()?,
        devices: flags.device.iter().map(|text| device(text)).collect::<Result<_>>()?,
    };
    let task = PlannedTask {
        label: flags.name.clone(),
        member: Member {
            name: flags.name.clone(),
            role: Role::Main,
            leader: false,
            grace: flags.stop_timeout,
            shutdown_delay: Duration::ZERO,
            tracker: Tracker::new(NEVER, OnSuccess::Done),
        },
        kill_signal: flags.stop_signal.clone(),
        logs: LOGS,
        actions: Vec::new(),
        planted: Vec::new(),
        secrets: Vec::new(),
        secrets_mib: bivouac_runner::secrets::DEFAULT_SIZE,
        secrets_last: SecretsLast::Run,
        checks: Vec::new(),
        inputs: Inputs::default(),
        order,
    };
    task.kill_signal().with_context(|| "--stop-signal")?;
    let allocation = Allocation::for_command(id, state_dir, task);
    // Refused here, with the option's own words, rather than at the start.
    allocation.request(0).map_err(with_flag)?;
    Ok(allocation)
}

/// A command runs once.
const NEVER: Restart = Restart {
    attempts: 0,
    interval: Duration::from_secs(60),
    delay: Duration::ZERO,
    mode: RestartMode::Fail,
    render_templates: false,
};

/// As for a job file that says nothing about logs.
const LOGS: Logs = Logs { max_files: 10, max_file_size_mb: 10, disabled: false };

fn config(flags: &Adhoc, command: &[OsString]) -> Result<Value> {
    let words = command.iter().map(|word| utf8(word, "the command")).collect::<Result<Vec<_>>>()?;
    let Some((first, rest)) = words.split_first() else { bail!("no command after `--`") };
    let mut options: Vec<(&str, Value)> =
        vec![("command", (*first).into()), ("args", Value::texts(rest.iter().copied()))];
    let mut set = |name, value: Option<Value>| {
        if let Some(value) = value {
            options.push((name, value));
        }
    };
    let mode = |mode: Option<Mode>| {
        mode.map(|mode| Value::from(if mode == Mode::Host { "host" } else { "private" }))
    };
    let texts = |list: &[String]| (!list.is_empty()).then(|| Value::texts(list.iter().cloned()));
    set("work_dir", flags.workdir.clone().map(Value::from));
    set("cap_add", texts(&flags.cap_add));
    set("cap_drop", texts(&flags.cap_drop));
    set("pid_mode", mode(flags.pid));
    set("ipc_mode", mode(flags.ipc));
    set("readonly_root", flags.read_only.then_some(Value::Bool(true)));
    set("no_new_privs", flags.no_new_privs.then_some(Value::Bool(true)));
    set("init", flags.init.then_some(Value::Bool(true)));
    set("pids_limit", flags.pids_limit.map(Value::Integer));
    set("hostname", flags.hostname.clone().map(Value::from));
    set("seccomp", flags.seccomp.clone().map(Value::from));
    set("cpu_hard_limit", flags.cpus.map(|_| Value::Bool(true)));
    set("ulimit", pairs(&flags.ulimit, "--ulimit")?);
    set("mount", blocks(&flags.tmpfs, tmpfs)?);
    Ok(Value::map(options))
}

fn utf8<'a>(word: &'a OsString, what: &str) -> Result<&'a str> {
    word.to_str().with_context(|| format!("{what} {word:?} is not UTF-8"))
}

fn pairs(list: &[String], flag: &str) -> Result<Option<Value>> {
    let split = |text: &String| match text.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), Value::from(value))),
        None => bail!("{flag} {text:?} is not NAME=VALUE"),
    };
    let pairs = list.iter().map(split).collect::<Result<Vec<_>>>()?;
    Ok((!pairs.is_empty()).then(|| Value::map(pairs)))
}

fn blocks(list: &[String], block: fn(&str) -> Result<Value>) -> Result<Option<Value>> {
    let blocks = list.iter().map(|text| block(text)).collect::<Result<Vec<_>>>()?;
    Ok((!blocks.is_empty()).then_some(Value::List(blocks)))
}

fn tmpfs(text: &str) -> Result<Value> {
    let (target, settings) = text.split_once(':').unwrap_or((text, ""));
    let mut block = vec![("type", Value::from("tmpfs")), ("target", Value::from(target))];
    for setting in settings.split(',').filter(|setting| !setting.is_empty()) {
        match setting.split_once('=') {
            Some(("size", size)) => block.push(("size", size.into())),
            Some(("mode", mode)) => block.push(("mode", mode.into())),
            None if setting == "exec" => block.push(("exec", Value::Bool(true))),
            _ => bail!("--tmpfs {text:?}: {setting:?} is none of size=SIZE, mode=MODE and exec"),
        }
    }
    Ok(Value::map(block))
}

fn device(text: &str) -> Result<DeviceAsked> {
    let mut parts = text.split(':');
    let host = parts.next().unwrap_or_default();
    let (target, access) = match (parts.next(), parts.next()) {
        (None, _) => (host, "rwm"),
        (Some(only), None) if !only.starts_with('/') => (host, only),
        (Some(target), access) => (target, access.unwrap_or("rwm")),
    };
    let context = || format!("--device {text:?}");
    Ok(DeviceAsked {
        host: HostPath::new(host).with_context(context)?,
        target: TaskPath::new(target).with_context(context)?,
        access: DeviceUse::parse(access).map_err(|error| anyhow::anyhow!("--device {text:?} {error}"))?,
    })
}

/// What root itself names on the command line needs nobody's leave.
fn volume(text: &str) -> Result<Mount> {
    let mut parts = text.split(':');
    let (Some(host), Some(target)) = (parts.next(), parts.next()) else {
        bail!("--volume {text:?} is not HOST:TASK[:ro]");
    };
    let access = match (parts.next(), parts.next()) {
        (None, _) | (Some("rw"), None) => Access::ReadWrite,
        (Some("ro"), None) => Access::ReadOnly,
        _ => bail!("--volume {text:?}: the third part must be ro or rw"),
    };
    let source = std::path::absolute(host).with_context(|| format!("--volume {text:?}"))?;
    let what = MountKind::Bind {
        source: HostPath::new(source).with_context(|| format!("--volume {text:?}"))?,
        route: Route::Anywhere,
        access,
        trust: Trust::Stripped,
        propagation: Propagation::Private,
    };
    Ok(Mount { target: TaskPath::new(target).with_context(|| format!("--volume {text:?}"))?, what })
}

fn environment(list: &[String]) -> Result<Vec<(String, String)>> {
    let mut all = Vec::new();
    for text in list {
        match text.split_once('=') {
            Some(("", _)) => bail!("--env {text:?} names no variable"),
            Some((name, value)) => all.push((name.to_owned(), value.to_owned())),
            None => match std::env::var(text) {
                Ok(value) => all.push((text.clone(), value)),
                Err(std::env::VarError::NotPresent) => {}
                Err(error) => bail!("--env {text}: {error}"),
            },
        }
    }
    Ok(all)
}

/// One processor counts as so many MHz; only the ratio matters.
const PROCESSOR_MHZ: f64 = 1000.0;

fn resources(flags: &Adhoc) -> Result<Resources> {
    // Of the whole machine, as the driver counts it: this process may be bound to a part of it.
    let processors = bivouac_driver::host::processors();
    let cpus = flags.cpus.unwrap_or(0.0);
    if !(0.0..=4096.0).contains(&cpus) || flags.cpus == Some(0.0) {
        bail!("--cpus {cpus} must be above 0 and at most 4096");
    }
    let memory = match &flags.memory {
        None => None,
        Some(text) => {
            let bytes = parse_size(text)
                .with_context(|| format!("--memory {text:?} is no size such as 256m or 1g"))?;
            if bytes < 1 << 20 {
                bail!("--memory {text} is less than 1 MiB");
            }
            Some(bytes >> 20)
        }
    };
    Ok(Resources {
        cpu_mhz: (cpus * PROCESSOR_MHZ) as u64,
        total_mhz: processors * PROCESSOR_MHZ as u64,
        memory_mib: memory,
        memory_max: MemoryMax::Same,
        ..Resources::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_read_as_docker_reads_them() {
        let mount = volume("/srv/data:/data:ro").unwrap();
        assert_eq!(mount.target.to_string(), "/data");
        assert!(matches!(mount.what, MountKind::Bind { access: Access::ReadOnly, .. }));
        for wrong in ["/srv", "/srv:/data:rx", "/srv:data", "/srv:/../x"] {
            assert!(volume(wrong).is_err(), "{wrong}");
        }
    }
}
