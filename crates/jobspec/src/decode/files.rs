//! `artifact`, `template` and `volume_mount`: what appears in a task's directory.

use crate::diagnostic::Diagnostic;
use crate::model::*;
use crate::reader::Reader;
use crate::support::Feature;
use std::time::Duration;

pub(super) fn artifact(block: &Reader<'_, '_>) -> Artifact {
    block.no_label();
    block.cx.uses(Feature::Artifact, block.span);
    let modes = [("any", ArtifactMode::Any), ("file", ArtifactMode::File), ("dir", ArtifactMode::Dir)];
    let mode = block.choice("mode", &modes).unwrap_or_default();
    let source = block.required_text("source");
    let destination = block.text("destination").filter(|text| !text.is_empty()).unwrap_or_else(|| {
        let base = source.split(['?', '#']).next().unwrap_or("").rsplit('/').next().unwrap_or("");
        if mode == ArtifactMode::File { format!("local/{base}") } else { "local/".into() }
    });
    let out = Artifact {
        source,
        destination,
        mode,
        options: block.text_map("options"),
        headers: block.text_map("headers"),
        insecure: block.flag("insecure"),
        chown: block.flag("chown"),
        span: block.span,
    };
    block.finish();
    check_destination(block, "artifact", &out.destination);
    if let Some(checksum) = out.options.get("checksum")
        && let Err(message) = check_checksum(checksum)
    {
        block.cx.error(block.span, message);
    }
    out
}

/// `type:hex` with a length that fits the type; runtime values are not checked here.
fn check_checksum(text: &str) -> Result<(), String> {
    if text.contains("${") {
        return Ok(());
    }
    let Some((kind, hex)) = text.split_once(':') else {
        return Err(format!("the checksum {text:?} needs a type: \"sha256:<hex>\""));
    };
    let length = match kind {
        "md5" => 32,
        "sha1" => 40,
        "sha256" => 64,
        "sha512" => 128,
        "file" => return Ok(()),
        other => {
            return Err(format!(
                "there is no checksum type {other:?}; use md5, sha1, sha256, sha512 or file"
            ));
        }
    };
    if hex.len() != length || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(format!("a {kind} checksum has {length} hexadecimal digits, this one is {:?}", hex));
    }
    Ok(())
}

/// Paths that leave the allocation's directory, as far as that can be seen before interpolation.
fn check_destination(block: &Reader<'_, '_>, what: &str, path: &str) {
    if path.contains('\0') {
        block.cx.error(block.place_of("destination"), format!("the {what} destination contains a NUL byte"));
        return;
    }
    if path.contains("${") {
        return;
    }
    let mut depth = 0_i32;
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => depth -= 1,
            _ => depth += 1,
        }
        // One step up is the allocation's directory, whose `alloc` is shared.
        if depth < -1 {
            break;
        }
    }
    let shared = path.trim_start_matches("./").starts_with("../alloc/");
    if depth < 0 && !shared || depth < -1 {
        block.cx.error(
            block.place_of("destination"),
            format!("{what} destination path escapes alloc directory: {path:?}"),
        );
    }
}

pub(super) fn template(block: &Reader<'_, '_>) -> Template {
    block.no_label();
    block.cx.uses(Feature::Template, block.span);
    let (data, file) = (block.text("data"), block.text("source").filter(|text| !text.is_empty()));
    let source = match (data, file) {
        (Some(_), Some(file)) => {
            block.cx.error(block.place_of("source"), "a template has either `data` or `source`, not both");
            TemplateSource::File(file)
        }
        (Some(data), None) => TemplateSource::Data(data),
        (None, Some(file)) => TemplateSource::File(file),
        (None, None) => {
            if !block.has("data") && !block.has("source") {
                block.cx.error(block.span, "this template block needs `data` or `source`");
            }
            TemplateSource::Data(String::new())
        }
    };
    let or = |name, default: &str| {
        block.text(name).filter(|text| !text.is_empty()).unwrap_or_else(|| default.to_owned())
    };
    let out = Template {
        source,
        destination: block.required_text("destination"),
        perms: perms(block),
        uid: block.count("uid", 0, u32::MAX - 1),
        gid: block.count("gid", 0, u32::MAX - 1),
        change: change(block),
        splay: block.duration("splay").unwrap_or(Duration::from_secs(5)),
        left_delimiter: or("left_delimiter", "{{"),
        right_delimiter: or("right_delimiter", "}}"),
        env: block.flag("env"),
        once: block.flag("once"),
        error_on_missing_key: block.flag("error_on_missing_key"),
        wait: block.one("wait").map(|inner| wait(&inner)),
        span: block.span,
    };
    block.ignored(&["vault_grace"]);
    block.finish();
    check_destination(block, "template", &out.destination);
    if out.left_delimiter == out.right_delimiter {
        block.cx.error(block.place_of("right_delimiter"), "the two delimiters of a template must differ");
    }
    out
}

fn perms(block: &Reader<'_, '_>) -> u32 {
    let Some(text) = block.text("perms") else { return 0o644 };
    u32::from_str_radix(&text, 8).ok().filter(|bits| *bits <= 0o7777).unwrap_or_else(|| {
        block.cx.report(
            Diagnostic::new(block.place_of("perms"), format!("{text:?} are no permissions"))
                .label("expected octal, \"0644\""),
        );
        0o644
    })
}

fn change(block: &Reader<'_, '_>) -> Change {
    let signal_name = block.text("change_signal");
    let script = block.one("change_script").map(|inner| change_script(&inner));
    let modes = [("restart", 0), ("signal", 1), ("script", 2), ("noop", 3)];
    match block.choice("change_mode", &modes).unwrap_or(0) {
        0 => Change::Restart,
        1 => match signal_name {
            None => {
                block.cx.error(block.place_of("change_mode"), "change_mode \"signal\" needs `change_signal`");
                Change::Noop
            }
            Some(name) => signal(block, "change_signal", &name).map_or(Change::Noop, Change::Signal),
        },
        2 => script.map_or_else(
            || {
                block.cx.error(
                    block.place_of("change_mode"),
                    "change_mode \"script\" needs a `change_script` block",
                );
                Change::Noop
            },
            Change::Script,
        ),
        _ => Change::Noop,
    }
}

/// A signal by name, or a problem with the nearest one.
pub(super) fn signal(block: &Reader<'_, '_>, argument: &str, name: &str) -> Option<Signal> {
    let found = Signal::parse(name);
    if found.is_none() {
        let names = Signal::names();
        let problem = Diagnostic::new(block.place_of(argument), format!("there is no signal {name:?}"));
        block.cx.report(problem.nearest(&name.to_uppercase(), names.iter().map(String::as_str)));
    }
    found
}

fn change_script(block: &Reader<'_, '_>) -> ChangeScript {
    block.no_label();
    let out = ChangeScript {
        command: block.required_text("command"),
        args: block.texts("args").unwrap_or_default(),
        timeout: block.duration("timeout").unwrap_or(Duration::from_secs(5)),
        fail_on_error: block.flag("fail_on_error"),
        run_on_first_render: block.flag("run_on_first_render"),
    };
    block.finish();
    out
}

fn wait(block: &Reader<'_, '_>) -> (Duration, Duration) {
    block.no_label();
    let min = block.duration("min").unwrap_or_default();
    let max = block.duration("max").unwrap_or(min * 4);
    if block.has("max") && max < min {
        block.cx.error(block.place_of("max"), "`max` is shorter than `min`");
    }
    block.finish();
    (min, max)
}

pub(super) fn volume_mount(block: &Reader<'_, '_>) -> VolumeMount {
    block.no_label();
    block.cx.uses(Feature::Volume, block.span);
    let modes = [
        ("private", Propagation::Private),
        ("host-to-task", Propagation::HostToTask),
        ("bidirectional", Propagation::Bidirectional),
    ];
    let out = VolumeMount {
        volume: block.required_text("volume"),
        destination: block.required_text("destination"),
        read_only: block.flag("read_only"),
        propagation: block.choice("propagation_mode", &modes).unwrap_or_default(),
        span: block.span,
    };
    block.ignored(&["selinux_label"]);
    block.finish();
    out
}
