//! Rules that concern more than one block: names, leaders, log budgets, volumes, template destinations.

use crate::diagnostic::Diagnostic;
use crate::model::{Group, Job, Role, Task};
use crate::reader::Context;
use std::collections::BTreeMap;

/// Names that a task's directory would collide with.
const RESERVED: [&str; 7] = ["alloc", ".", "..", "local", "secrets", "private", "tmp"];

pub(crate) fn validate(cx: &Context<'_>, job: &Job) {
    unique(cx, "group", "job", job.groups.iter().map(|group| (&group.name, group.span)));
    for group in &job.groups {
        check_group(cx, group);
        if group.tasks.iter().any(|task| task.dispatch_payload.is_some()) && job.parameterized.is_none() {
            let task = group.tasks.iter().find(|task| task.dispatch_payload.is_some());
            let at = task.map_or(group.span, |task| task.span);
            cx.error(at, "`dispatch_payload` needs a `parameterized` block in the job");
        }
    }
}

fn unique<'a>(
    cx: &Context<'_>,
    what: &str,
    within: &str,
    names: impl Iterator<Item = (&'a String, crate::source::Span)>,
) {
    let mut seen = BTreeMap::new();
    for (name, span) in names {
        if let Some(first) = seen.insert(name, span) {
            let problem = Diagnostic::new(span, format!("two {what}s of this {within} are named `{name}`"));
            cx.report(problem.related(first, "the first one"));
        }
    }
}

fn check_group(cx: &Context<'_>, group: &Group) {
    check_name(cx, "group", &group.name, group.span);
    unique(cx, "task", "group", group.tasks.iter().map(|task| (&task.name, task.span)));
    unique(cx, "volume", "group", group.volumes.iter().map(|volume| (&volume.name, volume.span)));
    if group.tasks.is_empty() && cx.problems.borrow().is_empty() {
        cx.report(
            Diagnostic::new(group.span, format!("the group `{}` has no task", group.name))
                .label("expected task \"name\" { ... } within"),
        );
    } else if !group.tasks.is_empty() && !group.tasks.iter().any(|task| task.role == Role::Main) {
        cx.report(
            Diagnostic::new(group.span, format!("the group `{}` has no main task", group.name))
                .help("at least one task must have no lifecycle block"),
        );
    }
    let mut leaders = group.tasks.iter().filter(|task| task.leader);
    if let (Some(first), Some(second)) = (leaders.next(), leaders.next()) {
        let problem =
            Diagnostic::new(second.span, format!("the group `{}` has more than one leader", group.name));
        cx.report(problem.related(first.span, "the first one"));
    }
    for task in &group.tasks {
        check_task(cx, task);
    }
    check_logs(cx, group);
    check_mounts(cx, group);
    check_ports(cx, group);
}

/// A name that becomes a directory and part of other names.
fn check_name(cx: &Context<'_>, what: &str, name: &str, span: crate::source::Span) {
    if name.contains(['/', '\\', '\0']) {
        cx.error(span, format!("the {what} name {name:?} must not contain `/`, `\\` or NUL"));
    } else if name.chars().any(char::is_control) {
        cx.error(span, format!("the {what} name {name:?} must not contain control characters"));
    } else if name.len() > 128 {
        cx.error(span, format!("the {what} name is longer than 128 bytes"));
    } else if name.contains("${") {
        cx.error(span, format!("the {what} name {name:?} must be known before the job runs"));
    }
}

fn check_task(cx: &Context<'_>, task: &Task) {
    check_name(cx, "task", &task.name, task.span);
    if RESERVED.contains(&task.name.as_str()) {
        cx.error(
            task.span,
            format!("a task cannot be named {:?}: it is a directory of every allocation", task.name),
        );
    }
    if task.leader && task.role != Role::Main {
        cx.error(task.span, format!("the task `{}` has a lifecycle and cannot be the leader", task.name));
    }
    let mut seen = BTreeMap::new();
    for template in &task.templates {
        if let Some(first) = seen.insert(template.destination.trim_start_matches("./"), template.span) {
            let problem =
                Diagnostic::new(template.span, format!("two templates write {:?}", template.destination));
            cx.report(problem.related(first, "the first one"));
        }
    }
    let names = task.actions.iter().map(|action| (&action.name, task.span));
    unique(cx, "action", "task", names);
}

/// As Nomad: each task's logs alone must fit.
fn check_logs(cx: &Context<'_>, group: &Group) {
    let disk = group.ephemeral_disk.size_mb;
    for task in group.tasks.iter().filter(|task| !task.logs.disabled) {
        let logs = u64::from(task.logs.max_files) * u64::from(task.logs.max_file_size_mb);
        if logs >= disk {
            cx.report(
                Diagnostic::new(
                    task.span,
                    format!("log storage ({logs} MB) must be less than requested disk capacity ({disk} MB)"),
                )
                .help(
                    "make max_files or max_file_size in `logs` smaller, or size in `ephemeral_disk` larger",
                ),
            );
        }
    }
}

fn check_mounts(cx: &Context<'_>, group: &Group) {
    for task in &group.tasks {
        for mount in task.volume_mounts.iter().filter(|mount| !mount.volume.contains("${")) {
            if !mount.volume.is_empty() && !group.volumes.iter().any(|volume| volume.name == mount.volume) {
                let message = format!("the group `{}` has no volume `{}`", group.name, mount.volume);
                let names = group.volumes.iter().map(|volume| volume.name.as_str());
                cx.report(Diagnostic::new(mount.span, message).nearest(&mount.volume, names));
            }
        }
    }
}

/// Services must name ports that the network has.
fn check_ports(cx: &Context<'_>, group: &Group) {
    let services = group.services.iter().chain(group.tasks.iter().flat_map(|task| &task.services));
    let labels = || group.network.ports.iter().map(|port| port.label.as_str());
    for service in services {
        let ports = service.port.iter().map(|port| (port, service.span));
        let checks =
            service.checks.iter().filter_map(|check| check.port.as_ref().map(|port| (port, check.span)));
        for (port, span) in ports.chain(checks) {
            let known =
                port.contains("${") || port.parse::<u16>().is_ok() || labels().any(|label| label == port);
            if !known && !port.is_empty() {
                let message = format!("the network of group `{}` has no port `{port}`", group.name);
                cx.report(Diagnostic::new(span, message).nearest(port, labels()));
            }
        }
    }
}
