//! The `job` block and what stands directly in it.

use super::group::{read_group, read_lone_task};
use crate::diagnostic::Diagnostic;
use crate::model::{Constraint, Job, JobKind, Operator, Parameterized, Payload, Periodic};
use crate::reader::{Context, Reader};
use crate::support::Feature;
use crate::syntax::ast::{Block, Body};
use crate::{eval::Scope, source::Span};

/// Reads the one job of a file; `None` if there is none (which is reported).
pub(crate) fn read_job<'c>(cx: &'c Context<'_>, body: &'c Body, file: u16) -> Option<Job> {
    const KNOWN: [&str; 4] = ["job", "variable", "variables", "locals"];
    for attr in &body.attrs {
        let message = format!("`{}` cannot stand at the top of a job file", attr.name.text);
        cx.report(Diagnostic::new(attr.name.span, message).help("put shared values into a locals block"));
    }
    let mut jobs: Vec<&Block> = Vec::new();
    for block in &body.blocks {
        match block.kind.text.as_str() {
            "job" => jobs.push(block),
            "variable" | "variables" | "locals" => {}
            other => {
                let message = format!("there is no block `{other}` at the top of a job file");
                cx.report(Diagnostic::new(block.kind.span, message).nearest(other, KNOWN));
            }
        }
    }
    let Some(first) = jobs.first() else {
        if cx.problems.borrow().is_empty() {
            cx.report(
                Diagnostic::new(Span { file, start: 0, end: 0 }, "the file has no job block")
                    .label("expected job \"name\" { ... }"),
            );
        }
        return None;
    };
    for extra in jobs.iter().skip(1) {
        let problem = Diagnostic::new(extra.kind.span, "a file holds one job only");
        cx.report(problem.related(first.kind.span, "the first one"));
    }
    Some(job(&Reader::new(cx, first, Scope::default())))
}

fn job(block: &Reader<'_, '_>) -> Job {
    let label = block.label();
    let id = block.text("id").unwrap_or(label.text);
    check_id(block, &id, label.span);
    let kinds = [
        ("service", JobKind::Service),
        ("batch", JobKind::Batch),
        ("system", JobKind::System),
        ("sysbatch", JobKind::SysBatch),
    ];
    let kind = block.choice("type", &kinds).unwrap_or_default();
    let or = |name, default: &str| block.text(name).unwrap_or_else(|| default.to_owned());
    let mut job = Job {
        name: or("name", &id),
        id,
        kind,
        priority: block.count("priority", 1, 100).and_then(|n| u8::try_from(n).ok()).unwrap_or(50),
        region: or("region", "global"),
        datacenters: block.texts("datacenters").unwrap_or_else(|| vec!["*".into()]),
        namespace: or("namespace", "default"),
        meta: block.text_map("meta"),
        parameterized: block.one("parameterized").map(|inner| parameterized(&inner)),
        periodic: block.one("periodic").map(|inner| periodic(&inner)),
        constraints: constraints(block),
        groups: Vec::new(),
        span: block.span,
    };
    block.ignored(&[
        "all_at_once",
        "node_pool",
        "consul_token",
        "vault_token",
        "consul_namespace",
        "vault_namespace",
    ]);
    block.cluster_only(&["affinity", "spread", "update", "reschedule", "migrate", "multiregion", "ui"]);
    block.elsewhere(&[("vault", "Vault"), ("consul", "Consul")]);
    for inner in block.take("group") {
        let group = read_group(&inner, kind);
        job.groups.push(group);
    }
    for inner in block.take("task") {
        job.groups.push(read_lone_task(&inner, kind));
    }
    block.finish();
    // With other errors about, the missing group is most likely one of them.
    if job.groups.is_empty() && block.cx.problems.borrow().is_empty() {
        block.cx.report(
            Diagnostic::new(block.span, format!("the job `{}` has no group", job.id))
                .label("expected group \"name\" { task \"name\" { ... } }"),
        );
    }
    if job.parameterized.is_some() && !kind.is_batch() {
        block.cx.error(block.place_of("type"), "only batch and sysbatch jobs can be parameterized");
    }
    if job.periodic.is_some() && !kind.is_batch() {
        block.cx.error(block.place_of("type"), "only batch and sysbatch jobs can be periodic");
    }
    job
}

fn check_id(block: &Reader<'_, '_>, id: &str, span: Span) {
    if id.contains([' ', '\0', '/', '\\']) || id == "." || id == ".." {
        block.cx.error(span, format!("the job name {id:?} must not contain spaces, `/`, `\\` or NUL"));
    } else if id.len() > 128 {
        block.cx.error(span, "the job name is longer than 128 bytes");
    }
}

fn parameterized(block: &Reader<'_, '_>) -> Parameterized {
    block.no_label();
    block.cx.uses(Feature::Parameterized, block.span);
    let payloads =
        [("optional", Payload::Optional), ("required", Payload::Required), ("forbidden", Payload::Forbidden)];
    let out = Parameterized {
        payload: block.choice("payload", &payloads).unwrap_or_default(),
        meta_required: block.texts("meta_required").unwrap_or_default(),
        meta_optional: block.texts("meta_optional").unwrap_or_default(),
    };
    for key in out.meta_required.iter().filter(|key| out.meta_optional.contains(key)) {
        block
            .cx
            .error(block.place_of("meta_optional"), format!("the key {key:?} is both required and optional"));
    }
    block.finish();
    out
}

fn periodic(block: &Reader<'_, '_>) -> Periodic {
    block.no_label();
    block.cx.uses(Feature::Periodic, block.span);
    let one = block.text("cron");
    let many = block.texts("crons");
    let (given_one, given_many) = (block.has("cron"), block.has("crons"));
    if given_one && given_many {
        block.cx.error(block.place_of("crons"), "only one of `cron` and `crons` can be used");
    }
    let crons = one.map(|cron| vec![cron]).or(many).unwrap_or_default();
    if crons.is_empty() && !given_one && !given_many {
        block.cx.error(block.span, "this periodic block needs `cron` or `crons`");
    }
    for cron in &crons {
        if let Err(why) = crate::Cron::parse(cron) {
            let at = block.place_of(if given_one { "cron" } else { "crons" });
            block.cx.report(
                Diagnostic::new(at, format!("{cron:?} is not a cron expression: {why}"))
                    .label("expected minute hour day month weekday"),
            );
        }
    }
    let out = Periodic {
        crons,
        prohibit_overlap: block.flag("prohibit_overlap"),
        time_zone: block.text("time_zone").unwrap_or_else(|| "UTC".into()),
        enabled: block.boolean("enabled").unwrap_or(true),
    };
    block.finish();
    out
}

/// All `constraint` blocks of a block; those that compare machines are noted and left out.
pub(super) fn constraints(block: &Reader<'_, '_>) -> Vec<Constraint> {
    block.take("constraint").iter().filter_map(constraint).collect()
}

const OPERATORS: [(&str, Operator); 16] = [
    ("=", Operator::Equal),
    ("==", Operator::Equal),
    ("is", Operator::Equal),
    ("!=", Operator::NotEqual),
    ("not", Operator::NotEqual),
    (">", Operator::Greater),
    (">=", Operator::GreaterOrEqual),
    ("<", Operator::Less),
    ("<=", Operator::LessOrEqual),
    ("version", Operator::Version),
    ("semver", Operator::Semver),
    ("regexp", Operator::Regexp),
    ("set_contains", Operator::SetContains),
    ("set_contains_any", Operator::SetContainsAny),
    ("is_set", Operator::IsSet),
    ("is_not_set", Operator::IsNotSet),
];

fn constraint(block: &Reader<'_, '_>) -> Option<Constraint> {
    block.no_label();
    let cluster = |name: &str| {
        block.cx.note(
            block.span,
            format!("`{name}` compares the machines of a cluster and has no effect on one"),
        );
    };
    let mut attribute = block.text("attribute").unwrap_or_default();
    let mut value = block.text("value").unwrap_or_default();
    let written = block.text("operator");
    let mut operator = None;
    // `version = ">= 1"` is short for operator and value.
    for (name, short) in [
        ("version", Operator::Version),
        ("semver", Operator::Semver),
        ("regexp", Operator::Regexp),
        ("set_contains", Operator::SetContains),
        ("set_contains_any", Operator::SetContainsAny),
    ] {
        if let Some(text) = block.text(name) {
            operator = Some(short);
            value = text;
        }
    }
    for (name, short) in [("is_set", Operator::IsSet), ("is_not_set", Operator::IsNotSet)] {
        if let Some(text) = block.text(name) {
            operator = Some(short);
            attribute = text;
        }
    }
    let property = block.text("distinct_property");
    let hosts = block.boolean("distinct_hosts");
    block.finish();
    let all = written.as_deref() == Some("set_contains_all");
    match written.as_deref() {
        _ if hosts.is_some() || property.is_some() => {
            cluster(if hosts.is_some() { "distinct_hosts" } else { "distinct_property" });
            return None;
        }
        Some(name @ ("distinct_hosts" | "distinct_property")) => {
            cluster(name);
            return None;
        }
        _ => {}
    }
    let operator = match written {
        None => operator.unwrap_or(Operator::Equal),
        Some(_) if all => Operator::SetContains,
        Some(_) => block.choice("operator", &OPERATORS)?,
    };
    let needs_attribute = !matches!(operator, Operator::Equal | Operator::NotEqual);
    if attribute.is_empty() && needs_attribute {
        block.cx.error(block.span, "this constraint needs `attribute`");
    }
    if let Err(message) = crate::constraint::check(operator, &value) {
        block.cx.error(block.span, message);
    }
    Some(Constraint { attribute, operator, value, span: block.span })
}
