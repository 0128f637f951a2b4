//! The `task` block.

use super::files::{artifact, signal, template, volume_mount};
use super::group::{restart, shutdown_delay};
use super::job::constraints;
use super::service::services;
use crate::diagnostic::Diagnostic;
use crate::model::*;
use crate::reader::Reader;
use crate::support::Feature;
use std::time::Duration;

pub(super) fn read_task(block: &Reader<'_, '_>, base: &Restart) -> Task {
    let label = block.label();
    let leader = block.flag("leader");
    if leader {
        block.cx.uses(Feature::Leader, block.place_of("leader"));
    }
    let kill_signal = block.text("kill_signal").filter(|name| !name.is_empty());
    let task = Task {
        driver: driver(block),
        config: block.one("config").map_or_else(ConfigTree::default, |inner| inner.tree()),
        env: block.text_map("env"),
        meta: block.text_map("meta"),
        user: block.text("user").filter(|user| !user.is_empty()),
        role: block.one("lifecycle").map_or(Role::Main, |inner| lifecycle(&inner)),
        leader,
        resources: block.one("resources").map_or_else(default_resources, |inner| resources(&inner)),
        kill_signal: kill_signal.and_then(|name| signal(block, "kill_signal", &name)),
        kill_timeout: block.duration("kill_timeout").unwrap_or(Duration::from_secs(5)),
        shutdown_delay: shutdown_delay(block),
        restart: restart(block, base),
        logs: block.one("logs").map_or_else(default_logs, |inner| logs(&inner)),
        artifacts: block.take("artifact").iter().map(artifact).collect(),
        templates: block.take("template").iter().map(template).collect(),
        volume_mounts: block.take("volume_mount").iter().map(volume_mount).collect(),
        constraints: constraints(block),
        dispatch_payload: block.one("dispatch_payload").map(|inner| dispatch_payload(&inner)),
        actions: block.take("action").iter().map(action).collect(),
        services: services(block),
        identities: block.take("identity").iter().map(identity).collect(),
        secrets: block.take("secret").iter().map(secret).collect(),
        schedule: block.one("schedule").map(|inner| schedule(&inner)),
        name: label.text,
        span: label.span,
    };
    block.ignored(&["kind"]);
    block.cluster_only(&["affinity", "scaling"]);
    block.elsewhere(&[("vault", "Vault"), ("consul", "Consul"), ("csi_plugin", "a CSI storage system")]);
    block.finish();
    task
}

fn driver(block: &Reader<'_, '_>) -> Driver {
    let name = block.required_text("driver");
    if !matches!(name.as_str(), "exec" | "bivouac" | "") {
        let problem =
            Diagnostic::new(block.place_of("driver"), format!("the driver {name:?} is not available"));
        block
            .cx
            .report(problem.label("expected \"exec\" or \"bivouac\"").nearest(&name, ["exec", "bivouac"]));
    }
    Driver::Exec
}

fn lifecycle(block: &Reader<'_, '_>) -> Role {
    block.no_label();
    block.cx.uses(Feature::Lifecycle, block.span);
    let sidecar = block.flag("sidecar");
    if !block.has("hook") {
        block.cx.error(block.span, "this lifecycle block needs `hook`");
    }
    let hooks = [
        ("prestart", Role::Prestart { sidecar }),
        ("poststart", Role::Poststart { sidecar }),
        ("poststop", Role::Poststop),
    ];
    let role = block.choice("hook", &hooks).unwrap_or_default();
    block.finish();
    role
}

fn default_resources() -> Resources {
    Resources {
        cpu: Cpu::Mhz(100),
        memory_mb: 300,
        memory_max: MemoryMax::Same,
        secrets_mb: None,
        devices: Vec::new(),
        numa: NumaAffinity::None,
    }
}

/// Largest memory that can be written, in MB: 2^63 bytes.
const MAX_MB: i64 = i64::MAX >> 20;

fn resources(block: &Reader<'_, '_>) -> Resources {
    block.no_label();
    let cx = block.cx;
    let mhz = block.count("cpu", 1, 100_000_000);
    let cores = block.count("cores", 1, 4096);
    if cores.is_some() {
        cx.uses(Feature::Cores, block.place_of("cores"));
        if mhz.is_some() {
            cx.error(block.place_of("cores"), "only one of `cpu` and `cores` can be used");
        }
    }
    let memory_mb = block.int("memory", 10, MAX_MB).map_or(300, i64::unsigned_abs);
    let memory_max = match block.int("memory_max", -1, MAX_MB) {
        None | Some(0) => MemoryMax::Same,
        Some(-1) => MemoryMax::Unlimited,
        Some(mb) if mb.unsigned_abs() < memory_mb => {
            let message = format!("`memory_max` ({mb} MB) is less than `memory` ({memory_mb} MB)");
            cx.error(block.place_of("memory_max"), message);
            MemoryMax::Same
        }
        Some(mb) => MemoryMax::Mb(mb.unsigned_abs()),
    };
    let secrets_mb = block.int("secrets", 1, MAX_MB).map(i64::unsigned_abs);
    if let Some(secrets) = secrets_mb {
        cx.uses(Feature::SecretsMemory, block.place_of("secrets"));
        if secrets > memory_mb {
            cx.error(
                block.place_of("secrets"),
                format!("`secrets` ({secrets} MB) is more than `memory` ({memory_mb} MB)"),
            );
        }
    }
    for name in ["disk", "iops"] {
        if block.has(name) {
            let message = format!("`{name}` is no longer a resource of a task");
            cx.report(Diagnostic::new(block.place_of(name), message).help("use ephemeral_disk in the group"));
        }
    }
    block.ignored(&["disk", "iops"]);
    for old in block.take("network") {
        cx.report(
            Diagnostic::new(old.span, "`network` within `resources` is an old form")
                .help("move the network block into the group"),
        );
    }
    let out = Resources {
        cpu: cores.map_or(Cpu::Mhz(mhz.unwrap_or(100)), Cpu::Cores),
        memory_mb,
        memory_max,
        secrets_mb,
        devices: block.take("device").iter().map(device).collect(),
        numa: block.one("numa").map(|inner| numa(&inner)).unwrap_or_default(),
    };
    block.finish();
    out
}

fn device(block: &Reader<'_, '_>) -> Device {
    let label = block.label();
    block.cx.uses(Feature::Device, block.span);
    let out = Device {
        name: label.text,
        count: block.count("count", 1, 10_000).unwrap_or(1),
        constraints: constraints(block),
    };
    block.cluster_only(&["affinity"]);
    block.finish();
    out
}

fn numa(block: &Reader<'_, '_>) -> NumaAffinity {
    block.no_label();
    block.cx.uses(Feature::Numa, block.span);
    let kinds =
        [("none", NumaAffinity::None), ("prefer", NumaAffinity::Prefer), ("require", NumaAffinity::Require)];
    let out = block.choice("affinity", &kinds).unwrap_or_default();
    block.ignored(&["devices"]);
    block.finish();
    out
}

fn default_logs() -> Logs {
    Logs { max_files: 10, max_file_size_mb: 10, disabled: false }
}

fn logs(block: &Reader<'_, '_>) -> Logs {
    block.no_label();
    block.cx.uses(Feature::Logs, block.span);
    let out = Logs {
        max_files: block.count("max_files", 1, 1_000_000).unwrap_or(10),
        max_file_size_mb: block.count("max_file_size", 1, 1_000_000).unwrap_or(10),
        disabled: block.flag("disabled"),
    };
    block.ignored(&["enabled"]);
    block.finish();
    out
}

fn dispatch_payload(block: &Reader<'_, '_>) -> String {
    block.no_label();
    block.cx.uses(Feature::Parameterized, block.span);
    let file = block.required_text("file");
    if file.starts_with('/') || file.split('/').any(|part| part == "..") {
        block
            .cx
            .error(block.place_of("file"), format!("the payload file {file:?} leaves the task's directory"));
    }
    block.finish();
    file
}

fn action(block: &Reader<'_, '_>) -> Action {
    let label = block.label();
    block.cx.uses(Feature::Action, block.span);
    let out = Action {
        name: label.text,
        command: block.required_text("command"),
        args: block.texts("args").unwrap_or_default(),
    };
    block.finish();
    out
}

fn identity(block: &Reader<'_, '_>) -> Identity {
    block.cx.uses(Feature::Identity, block.span);
    let out = Identity {
        name: block
            .text("name")
            .or_else(|| block.optional_label().map(|label| label.text))
            .unwrap_or_else(|| "default".into()),
        audience: block.texts("aud").unwrap_or_default(),
        env: block.flag("env"),
        file: block.flag("file"),
        filepath: block.text("filepath"),
    };
    block.ignored(&["ttl", "change_mode", "change_signal", "service_name"]);
    block.text_map("extra_claims");
    block.finish();
    out
}

fn secret(block: &Reader<'_, '_>) -> Secret {
    let label = block.label();
    block.cx.uses(Feature::Secret, block.span);
    let out = Secret {
        name: label.text,
        provider: block.required_text("provider"),
        path: block.required_text("path"),
        config: block.text_map("config"),
        env: block.text_map("env"),
        span: block.span,
    };
    block.finish();
    out
}

fn schedule(block: &Reader<'_, '_>) -> Schedule {
    block.no_label();
    block.cx.uses(Feature::Schedule, block.span);
    let mut out = Schedule { start: String::new(), end: String::new(), time_zone: "UTC".into() };
    match block.one("cron") {
        Some(cron) => {
            out.start = cron.required_text("start");
            out.end = cron.required_text("end");
            out.time_zone = cron.text("timezone").unwrap_or_else(|| "UTC".into());
            cron.finish();
        }
        None => block.cx.error(block.span, "this schedule block needs a `cron` block"),
    }
    block.finish();
    out
}
