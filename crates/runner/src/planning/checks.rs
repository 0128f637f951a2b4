//! Which checks of a group's services concern which task.

use crate::allocation::PlanError;
use crate::checks::{Check, Door, Limit, Probe, Tls, Warnings};
use crate::environment::{HostPort, Instance};
use bivouac_artifact::order::Certificates;
use bivouac_jobspec::{CheckKind, PortTarget, Service};
use std::collections::BTreeMap;

/// The checks of one task: its own services', and those of the group that name it, or that concern nobody else and
/// it is the group's first task.
///
/// # Errors
/// [`PlanError::Other`]: a port that the group does not have.
pub(crate) fn of_task(
    instance: &Instance<'_>,
    interpolated: &dyn Fn(&String) -> String,
) -> Result<Vec<Check>, PlanError> {
    let (group, task) = (instance.group, instance.task);
    let is_first = group.tasks.first().is_some_and(|first| first.name == task.name);
    let own =
        task.services.iter().flat_map(|service| service.checks.iter().map(move |check| (service, check)));
    let shared =
        group.services.iter().flat_map(|service| service.checks.iter().map(move |check| (service, check)));
    let shared = shared.filter(|(service, check)| {
        let named = check.task.as_ref().or(service.task.as_ref());
        named.map_or(is_first, |named| *named == task.name)
    });
    own.chain(shared).map(|(service, check)| planned(instance, interpolated, service, check)).collect()
}

fn planned(
    instance: &Instance<'_>,
    interpolated: &dyn Fn(&String) -> String,
    service: &Service,
    check: &bivouac_jobspec::Check,
) -> Result<Check, PlanError> {
    let port = || {
        let label = check.port.as_ref().or(service.port.as_ref()).map(interpolated).unwrap_or_default();
        door(instance, &label).ok_or_else(|| {
            PlanError::Other(format!("check {:?}: no port {label:?} in the group", check.name))
        })
    };
    let probe = match &check.kind {
        CheckKind::Script { command, args } => {
            Probe::Script(std::iter::once(command).chain(args).map(interpolated).collect())
        }
        CheckKind::Tcp => Probe::Tcp(port()?),
        CheckKind::Http { method, path, headers, body, protocol, tls_skip_verify, tls_server_name } => {
            let body = body.as_ref().map(interpolated).unwrap_or_default();
            let request = request(method, &interpolated(path), headers, &body);
            let certificates = if *tls_skip_verify { Certificates::Any } else { Certificates::Verified };
            let name = tls_server_name.as_ref().map(interpolated);
            let tls = (protocol == "https").then_some(Tls { certificates, name });
            Probe::Http { door: port()?, request, tls }
        }
    };
    Ok(Check {
        name: check.name.clone(),
        probe,
        interval: check.interval,
        timeout: check.timeout,
        restart: check.restart.as_ref().map(|restart| Limit {
            failures: restart.limit,
            grace: restart.grace,
            warnings: if restart.ignore_warnings { Warnings::Ignored } else { Warnings::Count },
        }),
    })
}

/// A whole HTTP request. A line break in a value would begin another header: it becomes a space.
fn request(method: &str, path: &str, headers: &BTreeMap<String, Vec<String>>, body: &str) -> String {
    let plain = |text: &str| text.replace(['\r', '\n'], " ");
    let has = |name: &str| headers.keys().any(|key| key.eq_ignore_ascii_case(name));
    let mut text = format!("{} {} HTTP/1.1\r\n", plain(method), plain(path).replace(' ', "%20"));
    if !has("host") {
        text.push_str("Host: localhost\r\n");
    }
    for (name, values) in headers {
        for value in values {
            text.push_str(&format!("{}: {}\r\n", plain(name), plain(value)));
        }
    }
    if !body.is_empty() {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    text.push_str(&format!("Connection: close\r\n\r\n{body}"));
    text
}

/// A port by its label or number.
fn door(instance: &Instance<'_>, label: &str) -> Option<Door> {
    if let Ok(number) = label.parse::<u16>() {
        return Some(Door { host: number, inside: number, on: None });
    }
    let port = instance.group.network.ports.iter().find(|port| port.label == label)?;
    let HostPort { number: host, address: on } = *instance.ports.get(label)?;
    let inside = match port.to {
        PortTarget::Port(number) => number,
        PortTarget::Unset | PortTarget::SameAsHost => host,
    };
    Some(Door { host, inside, on })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_one_request_whatever_is_in_it() {
        let headers = BTreeMap::from([("X-A".to_owned(), vec!["b\r\nEvil: 1".to_owned()])]);
        let text = request("GET", "/a b\r\nEvil: 2", &headers, "");
        assert_eq!(
            text,
            "GET /a%20b%20%20Evil:%202 HTTP/1.1\r\nHost: localhost\r\nX-A: b  Evil: 1\r\nConnection: close\r\n\r\n"
        );
        assert!(
            request("POST", "/", &BTreeMap::new(), "abc")
                .ends_with("Content-Length: 3\r\nConnection: close\r\n\r\nabc")
        );
    }
}
