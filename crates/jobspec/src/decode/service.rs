//! `service`, `check` and `check_restart`.

use crate::diagnostic::Diagnostic;
use crate::model::{Check, CheckKind, CheckRestart, Service};
use crate::reader::Reader;
use crate::support::Feature;
use crate::value::Value;
use std::collections::BTreeMap;
use std::time::Duration;

pub(super) fn services(outer: &Reader<'_, '_>) -> Vec<Service> {
    outer.take("service").iter().map(service).collect()
}

fn service(block: &Reader<'_, '_>) -> Service {
    block.cx.uses(Feature::Service, block.span);
    let label = block.optional_label().map(|label| label.text);
    let providers = [("nomad", ()), ("consul", ())];
    block.choice("provider", &providers);
    let port = block.text("port");
    let common = block.one("check_restart").map(|inner| check_restart(&inner));
    let task = block.text("task");
    let name = block.text("name").or(label).unwrap_or_else(|| "${JOB}-${TASKGROUP}".into());
    let mut checks = Vec::new();
    for inner in block.take("check") {
        checks.extend(check(&inner, &name, common.as_ref(), task.as_deref(), port.as_deref()));
    }
    let out = Service {
        name,
        port,
        tags: block.texts("tags").unwrap_or_default(),
        meta: block.text_map("meta"),
        task,
        checks,
        span: block.span,
    };
    block.ignored(&[
        "id",
        "address",
        "address_mode",
        "canary_tags",
        "enable_tag_override",
        "on_update",
        "cluster",
        "namespace",
        "kind",
    ]);
    block.text_map("canary_meta");
    block.text_map("tagged_addresses");
    block.cluster_only(&["weights"]);
    block.take("identity");
    block.elsewhere(&[("connect", "Consul")]);
    block.finish();
    out
}

fn check(
    block: &Reader<'_, '_>,
    service: &str,
    common: Option<&CheckRestart>,
    task: Option<&str>,
    service_port: Option<&str>,
) -> Option<Check> {
    block.cx.uses(Feature::Check, block.span);
    let kind = check_kind(block);
    let common_fields = common_fields(block);
    let out = Check {
        name: block.text("name").unwrap_or_else(|| format!("service: {service:?} check")),
        kind: kind.clone().unwrap_or(CheckKind::Tcp),
        port: block.text("port"),
        interval: common_fields.0,
        timeout: common_fields.1,
        task: block.text("task").or_else(|| task.map(str::to_owned)),
        success_before_passing: block.count("success_before_passing", 0, 1_000_000).unwrap_or(0),
        failures_before_critical: block.count("failures_before_critical", 0, 1_000_000).unwrap_or(0),
        restart: block.one("check_restart").map(|inner| check_restart(&inner)).or_else(|| common.cloned()),
        span: block.span,
    };
    block.ignored(&[
        "id",
        "initial_status",
        "address_mode",
        "expose",
        "on_update",
        "grpc_service",
        "grpc_use_tls",
        "failures_before_warning",
        "advertise",
        "notes",
    ]);
    block.finish();
    let asks_a_port = !matches!(out.kind, CheckKind::Script { .. });
    if kind.is_some() && asks_a_port && out.port.is_none() && service_port.is_none() {
        block.cx.error(block.span, "the check needs a `port`, its own or its service's");
    }
    kind.map(|_| out)
}

/// What is done to learn how things stand; the fields of all types are taken, so that none is an unknown one.
fn check_kind(block: &Reader<'_, '_>) -> Option<CheckKind> {
    let kind = block.required_text("type");
    let (command, args) = (block.text("command"), block.texts("args").unwrap_or_default());
    let http = CheckKind::Http {
        method: block.text("method").unwrap_or_else(|| "GET".into()),
        path: block.text("path").unwrap_or_default(),
        protocol: block.choice("protocol", &[("http", "http"), ("https", "https")]).unwrap_or("http").into(),
        headers: headers(block),
        body: block.text("body"),
        tls_skip_verify: block.flag("tls_skip_verify"),
        tls_server_name: block.text("tls_server_name"),
    };
    match kind.as_str() {
        "script" => {
            if command.is_none() {
                block.cx.error(block.span, "a script check needs `command`");
            }
            Some(CheckKind::Script { command: command.unwrap_or_default(), args })
        }
        "tcp" => Some(CheckKind::Tcp),
        "http" => {
            if matches!(&http, CheckKind::Http { path, .. } if path.is_empty()) {
                block.cx.error(block.span, "an http check needs `path`");
            }
            Some(http)
        }
        "" => None,
        other => {
            let problem = Diagnostic::new(
                block.place_of("type"),
                format!("checks of type {other:?} are not available"),
            );
            block.cx.report(
                problem
                    .label("expected \"http\", \"tcp\" or \"script\"")
                    .nearest(other, ["http", "tcp", "script"]),
            );
            None
        }
    }
}

/// Interval and timeout, both required and at least a second.
fn common_fields(block: &Reader<'_, '_>) -> (Duration, Duration) {
    let read = |name: &'static str| {
        let Some(value) = block.duration(name) else {
            if !block.has(name) {
                block.cx.error(block.span, format!("this check block needs `{name}`"));
            }
            return Duration::from_secs(10);
        };
        if value < Duration::from_secs(1) {
            block.cx.error(block.place_of(name), format!("`{name}` of a check must be at least 1s"));
        }
        value
    };
    (read("interval"), read("timeout"))
}

/// `header { Name = ["value"] }`.
fn headers(block: &Reader<'_, '_>) -> BTreeMap<String, Vec<String>> {
    let mut out = BTreeMap::new();
    for inner in block.take("header") {
        let tree = inner.tree();
        let crate::model::ConfigValue::Map(items) = tree.value else { continue };
        for (name, span, item) in items {
            let values = match item.value {
                crate::model::ConfigValue::List(items) => {
                    items.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
                }
                _ => None,
            };
            match values {
                Some(values) => {
                    out.insert(name, values);
                }
                None => block.cx.error(span, format!("the header {name:?} needs a list of strings")),
            }
        }
    }
    if let Some(found) = block.value("header")
        && let Value::Map(items) = &found.value
    {
        for (name, value) in items.iter() {
            let values = value.elements().unwrap_or_default().iter().filter_map(Value::to_text);
            out.insert(name.to_string(), values.map(|text| text.to_string()).collect());
        }
    }
    out
}

fn check_restart(block: &Reader<'_, '_>) -> CheckRestart {
    block.no_label();
    let out = CheckRestart {
        limit: block.count("limit", 0, 1_000_000).unwrap_or(0),
        grace: block.duration("grace").unwrap_or(Duration::from_secs(1)),
        ignore_warnings: block.flag("ignore_warnings"),
    };
    block.finish();
    out
}
