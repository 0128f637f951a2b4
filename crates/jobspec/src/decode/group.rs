//! The `group` block: network, disk, volumes, and its tasks.

use super::job::constraints;
use super::service::services;
use super::task::read_task;
use crate::diagnostic::Diagnostic;
use crate::model::*;
use crate::reader::Reader;
use crate::support::Feature;
use std::time::Duration;

const CLUSTER: &[&str] = &["affinity", "spread", "update", "reschedule", "migrate", "scaling", "disconnect"];

pub(super) fn default_restart(kind: JobKind) -> Restart {
    let (attempts, interval) = if kind.is_batch() { (3, 24 * 3600) } else { (2, 30 * 60) };
    Restart {
        attempts,
        interval: Duration::from_secs(interval),
        delay: Duration::from_secs(15),
        mode: RestartMode::Fail,
        render_templates: false,
    }
}

pub(super) fn read_group(block: &Reader<'_, '_>, kind: JobKind) -> Group {
    let label = block.label();
    let count = block.count("count", 0, 10_000).unwrap_or(1);
    if count > 1 {
        block.cx.uses(Feature::Count, block.place_of("count"));
    }
    let restart = restart(block, &default_restart(kind));
    let max_run_duration = block.duration("max_run_duration");
    if max_run_duration.is_some() {
        block.cx.uses(Feature::MaxRunDuration, block.place_of("max_run_duration"));
        if !kind.is_batch() {
            block.cx.error(
                block.place_of("max_run_duration"),
                "`max_run_duration` is for batch and sysbatch jobs only",
            );
        }
    }
    let mut group = Group {
        name: label.text,
        count,
        meta: block.text_map("meta"),
        constraints: constraints(block),
        network: network(block),
        ephemeral_disk: block.one("ephemeral_disk").map_or(default_disk(), |inner| ephemeral_disk(&inner)),
        volumes: block.take("volume").iter().filter_map(volume).collect(),
        services: services(block),
        max_run_duration,
        shutdown_delay: shutdown_delay(block),
        tasks: Vec::new(),
        span: label.span,
    };
    block.ignored(&["stop_after_client_disconnect", "max_client_disconnect", "prevent_reschedule_on_lost"]);
    block.cluster_only(CLUSTER);
    block.elsewhere(&[("vault", "Vault"), ("consul", "Consul")]);
    for inner in block.take("task") {
        group.tasks.push(read_task(&inner, &restart));
    }
    block.finish();
    group
}

/// A task directly in the job: a group of its own name around it.
pub(super) fn read_lone_task(block: &Reader<'_, '_>, kind: JobKind) -> Group {
    let task = read_task(block, &default_restart(kind));
    Group {
        name: task.name.clone(),
        count: 1,
        meta: Default::default(),
        constraints: Vec::new(),
        network: Network::default(),
        ephemeral_disk: default_disk(),
        volumes: Vec::new(),
        services: Vec::new(),
        max_run_duration: None,
        shutdown_delay: Duration::ZERO,
        span: task.span,
        tasks: vec![task],
    }
}

pub(super) fn shutdown_delay(block: &Reader<'_, '_>) -> Duration {
    let delay = block.duration("shutdown_delay").unwrap_or_default();
    if !delay.is_zero() {
        block.cx.uses(Feature::ShutdownDelay, block.place_of("shutdown_delay"));
    }
    delay
}

/// The `restart` block of a group or task; what it leaves out comes from `base`.
pub(super) fn restart(outer: &Reader<'_, '_>, base: &Restart) -> Restart {
    let Some(block) = outer.one("restart") else { return base.clone() };
    block.no_label();
    block.cx.uses(Feature::Restart, block.span);
    let modes = [("fail", RestartMode::Fail), ("delay", RestartMode::Delay)];
    let out = Restart {
        attempts: block.count("attempts", 0, 1_000_000).unwrap_or(base.attempts),
        interval: block.duration("interval").unwrap_or(base.interval),
        delay: block.duration("delay").unwrap_or(base.delay),
        mode: block.choice("mode", &modes).unwrap_or(base.mode),
        render_templates: block.boolean("render_templates").unwrap_or(base.render_templates),
    };
    if out.interval < Duration::from_secs(5) {
        block.cx.error(block.place_of("interval"), "the restart interval must be at least 5s");
    } else if out.delay.checked_mul(out.attempts).is_none_or(|total| total > out.interval) {
        block.cx.report(
            Diagnostic::new(
                block.span,
                format!(
                    "{} restarts with a delay of {:?} do not fit into {:?}",
                    out.attempts, out.delay, out.interval
                ),
            )
            .help("attempts x delay must not be longer than interval"),
        );
    }
    if out.attempts == 0 && out.mode == RestartMode::Delay {
        block.cx.error(block.place_of("mode"), "mode \"delay\" makes no sense with 0 attempts");
    }
    block.finish();
    out
}

fn default_disk() -> EphemeralDisk {
    EphemeralDisk { size_mb: 300, sticky: false, migrate: false }
}

fn ephemeral_disk(block: &Reader<'_, '_>) -> EphemeralDisk {
    block.no_label();
    let migrate = block.flag("migrate");
    let out = EphemeralDisk {
        size_mb: block.int("size", 10, i64::MAX >> 20).map_or(300, i64::unsigned_abs),
        sticky: block.flag("sticky") || migrate,
        migrate,
    };
    if out.sticky {
        block.cx.uses(Feature::StickyDisk, block.span);
    }
    block.finish();
    out
}

fn volume(block: &Reader<'_, '_>) -> Option<Volume> {
    let label = block.label();
    block.cx.uses(Feature::Volume, block.span);
    let kind = block.text("type").unwrap_or_else(|| "host".into());
    let out = Volume {
        name: label.text.clone(),
        kind: VolumeKind::Host,
        source: block.text("source").unwrap_or_default(),
        read_only: block.flag("read_only"),
        per_alloc: block.flag("per_alloc"),
        sticky: block.flag("sticky"),
        access_mode: block.text("access_mode"),
        span: label.span,
    };
    block.ignored(&["attachment_mode"]);
    block.cluster_only(&["mount_options"]);
    block.finish();
    match kind.as_str() {
        "host" => {}
        "csi" => {
            block.cx.error(
                block.place_of("type"),
                format!(
                    "the volume `{}` needs a CSI plugin, which one machine alone does not have",
                    out.name
                ),
            );
            return None;
        }
        other => {
            block.cx.report(
                Diagnostic::new(block.place_of("type"), format!("there is no volume type {other:?}"))
                    .label("expected \"host\""),
            );
            return None;
        }
    }
    if out.source.is_empty() {
        block.cx.error(block.span, format!("the volume `{}` needs `source`", out.name));
    }
    const MODES: [&str; 4] = [
        "single-node-reader-only",
        "single-node-writer",
        "single-node-single-writer",
        "single-node-multi-writer",
    ];
    if let Some(mode) = &out.access_mode {
        if !MODES.contains(&mode.as_str()) {
            block.cx.report(
                Diagnostic::new(
                    block.place_of("access_mode"),
                    format!("host volumes have no access mode {mode:?}"),
                )
                .label(format!("expected {}", MODES.join(", "))),
            );
        } else if mode == MODES[0] && !out.read_only {
            block
                .cx
                .error(block.place_of("access_mode"), "a reader-only volume must also be `read_only = true`");
        }
    }
    Some(out)
}

fn network(outer: &Reader<'_, '_>) -> Network {
    let mut blocks = outer.take("network").into_iter();
    let Some(block) = blocks.next() else { return Network::default() };
    for extra in blocks {
        let problem = Diagnostic::new(extra.span, "a second `network` block in this group");
        block.cx.report(problem.related(block.span, "the first one"));
    }
    block.no_label();
    let mode = network_mode(&block);
    let out = Network {
        hostname: block.text("hostname"),
        ports: block.take("port").iter().map(|inner| port(inner, &mode)).collect(),
        dns: block.one("dns").map(|inner| dns(&inner)),
        cni_args: block.one("cni").map(|inner| cni_args(&inner)).unwrap_or_default(),
        span: Some(block.span),
        mode,
    };
    // An old argument that Nomad still accepts.
    block.ignored(&["mbits"]);
    block.finish();
    check_ports(&block, &out);
    if let Some(name) = &out.hostname {
        block.cx.uses(Feature::Hostname, block.place_of("hostname"));
        if out.mode == NetworkMode::Host {
            block.cx.error(block.place_of("hostname"), "`hostname` cannot be set with network mode \"host\"");
        } else if !name.contains("${") && !is_host_name(name) {
            block.cx.error(block.place_of("hostname"), format!("{name:?} is not a valid DNS name"));
        }
    }
    out
}

fn network_mode(block: &Reader<'_, '_>) -> NetworkMode {
    let text = block.text("mode").unwrap_or_default();
    let at = block.place_of("mode");
    match text.as_str() {
        "" | "host" => NetworkMode::Host,
        "none" => {
            block.cx.uses(Feature::NetworkNone, at);
            NetworkMode::None
        }
        "bridge" => {
            block.cx.uses(Feature::NetworkBridge, at);
            NetworkMode::Bridge
        }
        other => {
            match other.strip_prefix("cni/").filter(|name| !name.is_empty() && !name.contains(['/', '\0'])) {
                Some(name) => {
                    block.cx.uses(Feature::NetworkCni, at);
                    NetworkMode::Cni(name.to_owned())
                }
                None => {
                    let problem = Diagnostic::new(at, format!("there is no network mode {other:?}"));
                    block.cx.report(
                        problem
                            .label("expected \"host\", \"none\", \"bridge\" or \"cni/<name>\"")
                            .nearest(other, ["host", "none", "bridge"]),
                    );
                    NetworkMode::Host
                }
            }
        }
    }
}

fn port(block: &Reader<'_, '_>, mode: &NetworkMode) -> Port {
    let label = block.label();
    block.cx.uses(Feature::Port, block.span);
    let number = block.int("static", 1, 65_535).and_then(|port| u16::try_from(port).ok());
    let to = match block.int("to", -1, 65_535) {
        None | Some(0) => PortTarget::Unset,
        Some(port) => u16::try_from(port).map_or(PortTarget::SameAsHost, PortTarget::Port),
    };
    let ignore_collision = block.flag("ignore_collision");
    if ignore_collision && (*mode != NetworkMode::Host || number.is_none()) {
        block.cx.error(
            block.place_of("ignore_collision"),
            format!(
                "the collision of port `{}` may be ignored only for static ports of network mode \"host\"",
                label.text
            ),
        );
    }
    let out = Port {
        label: label.text,
        number: number.map_or(PortNumber::Dynamic, PortNumber::Static),
        to,
        host_network: block.text("host_network"),
        ignore_collision,
        span: label.span,
    };
    block.finish();
    out
}

fn check_ports(block: &Reader<'_, '_>, network: &Network) {
    for (at, port) in network.ports.iter().enumerate() {
        let before = network.ports.iter().take(at);
        if let Some(other) = before.clone().find(|other| other.label == port.label) {
            let problem =
                Diagnostic::new(port.span, format!("the port label `{}` is used twice", port.label));
            block.cx.report(problem.related(other.span, "the first time"));
        }
        let clash = before.clone().find(|other| {
            other.number == port.number
                && matches!(port.number, PortNumber::Static(_))
                && other.host_network == port.host_network
                && !(other.ignore_collision || port.ignore_collision)
        });
        if let (Some(other), PortNumber::Static(number)) = (clash, port.number) {
            let problem = Diagnostic::new(port.span, format!("the static port {number} is used twice"));
            block.cx.report(problem.related(other.span, "the first time"));
        }
    }
}

fn dns(block: &Reader<'_, '_>) -> Dns {
    block.no_label();
    block.cx.uses(Feature::Dns, block.span);
    let out = Dns {
        servers: block.texts("servers").unwrap_or_default(),
        searches: block.texts("searches").unwrap_or_default(),
        options: block.texts("options").unwrap_or_default(),
    };
    for server in out.servers.iter().filter(|server| !server.contains("${")) {
        if server.parse::<std::net::IpAddr>().is_err() {
            block
                .cx
                .error(block.place_of("servers"), format!("the name server {server:?} is not an IP address"));
        }
    }
    block.finish();
    out
}

fn cni_args(block: &Reader<'_, '_>) -> std::collections::BTreeMap<String, String> {
    block.no_label();
    let args = block.text_map("args");
    for (key, value) in &args {
        if key.contains([';', '=']) || value.contains(';') {
            block.cx.error(block.span, format!("the CNI argument {key:?} must not contain `;`"));
        }
    }
    block.finish();
    args
}

fn is_host_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}
