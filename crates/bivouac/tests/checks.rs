//! Checks as they reach a service: over TLS, with a private authority, another name, any certificate, and a server that
//! nobody vouches for; and by a script in the task, with no more than the task has.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests, outside of test functions")]

mod support;

use std::path::Path;
use std::process::Command;
use support::{Bivouac, wait_for};

/// An authority, and a server's key and certificate for the name `service.test` and nothing else.
fn certificates(directory: &Path) {
    let script = "
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=bivouac-test \
          -keyout authority.key -out authority.pem
        openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=service.test -keyout server.key -out server.csr
        printf 'subjectAltName=DNS:service.test\\nbasicConstraints=CA:FALSE\\n' > extensions
        openssl x509 -req -in server.csr -CA authority.pem -CAkey authority.key -CAcreateserial -days 2 \
          -extfile extensions -out server.pem
        chmod 644 server.key authority.pem";
    let output = Command::new("sh").args(["-ec", script]).current_dir(directory).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// Covers: W14
#[test]
fn w14_https_checks_verify_certificates_unless_told_not_to() {
    let Some(bivouac) = Bivouac::new("https-checks") else { return };
    std::fs::create_dir_all(&bivouac.state).unwrap();
    certificates(&bivouac.state);
    let check = |name: &str, more: &str| {
        format!(
            "check {{\n type = \"http\"\n protocol = \"https\"\n name = \"{name}\"\n path = \"/\"\n interval = \"1s\"\n timeout = \"30s\"\n {more}\n}}\n"
        )
    };
    let named = check("named", "tls_server_name = \"service.test\"");
    let (by_address, any) = (check("by-address", ""), check("any", "tls_skip_verify = true"));
    let text = format!(
        "job \"j\" {{\n group \"g\" {{\n network {{\n port \"p\" {{}}\n}}\n task \"t\" {{\n driver = \"exec\"\n service {{\n port = \"p\"\n{named}{by_address}{any}}}\n config {{\n command = \"/usr/bin/openssl\"\n args = [\"s_server\", \"-quiet\", \"-www\", \"-port\", \"${{NOMAD_PORT_p}}\", \"-key\", \"/keys/server.key\", \"-cert\", \"/keys/server.pem\"]\n}}\n volume_mount {{\n volume = \"keys\"\n destination = \"/keys\"\n}}\n}}\n volume \"keys\" {{\n type = \"host\"\n source = \"keys\"\n}}\n}}\n}}\n"
    );
    let file = bivouac.state.join("j.nomad.hcl");
    std::fs::write(&file, text).unwrap();
    let volume = format!("keys={}", bivouac.state.display());
    for (authority, expected) in [
        (Some("authority.pem"), ["passing", "critical", "passing"]),
        (None, ["critical", "critical", "passing"]),
    ] {
        let mut command = bivouac.command(&["run", "-d", "-volume", &volume, file.to_str().unwrap()]);
        command.env_remove("SSL_CERT_FILE").env_remove("SSL_CERT_DIR");
        command.envs(authority.map(|name| ("SSL_CERT_FILE", bivouac.state.join(name))));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let id = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        let state = bivouac.state.join("state").join(&id).join("state.json");
        let health = || -> [String; 3] {
            let state: serde_json::Value = serde_json::from_slice(&std::fs::read(&state).unwrap()).unwrap();
            ["named", "by-address", "any"]
                .map(|name| state["tasks"][0]["checks"][name].as_str().unwrap_or_default().to_owned())
        };
        wait_for("the answers of all checks", || (health() == expected).then_some(()));
        assert_eq!(bivouac.told(&["stop", "--timeout", "0", "j"]).2, Some(0));
        wait_for("gc", || bivouac.told(&["gc"]).1.contains(&id).then_some(()));
    }
}

/// The bounding, permitted, effective, inheritable and ambient sets in a `/proc/PID/status`.
fn sets(status: &str) -> [u64; 5] {
    ["CapBnd:", "CapPrm:", "CapEff:", "CapInh:", "CapAmb:"].map(|name| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    })
}

/// User, options, and the sets that a task then has.
type Row = (&'static str, &'static str, [u64; 5]);

/// The rows of `all_five_capability_sets_in_start_and_exec` in the driver's attacks; `held` is what this machine gives
/// to anybody.
fn rows(held: u64) -> [Row; 12] {
    let (default, net_raw, bind, chown) = (0xa804_05fb, 1 << 13, 1 << 10, 1);
    let everybody = |set: u64| [set; 5];
    let root = |set: u64| [set & held, set & held, set & held, 0, 0];
    [
        ("", "", everybody(default)),
        ("", "cap_drop = [\"all\"]", everybody(0)),
        ("", "cap_drop = [\"all\"]\n cap_add = [\"net_bind_service\"]", everybody(bind)),
        ("", "ambient = \"asked\"", [default, 0, 0, 0, 0]),
        (
            "",
            "ambient = \"asked\"\n cap_add = [\"net_raw\"]",
            [default | net_raw, net_raw, net_raw, net_raw, net_raw],
        ),
        ("", "cap_add = [\"all\"]", everybody(held)),
        ("", "no_new_privs = true", everybody(default)),
        ("root", "", root(0x3f_ffff_ffff)),
        ("root", "cap_drop = [\"all\"]", root(0)),
        ("root", "cap_drop = [\"all\"]\n cap_add = [\"chown\"]", root(chown)),
        ("root", "cap_add = [\"all\"]", root(u64::MAX)),
        ("root", "no_new_privs = true", root(0x3f_ffff_ffff)),
    ]
}

/// A script that a check runs has the five sets, the ids and the filter of the task's first process.
///
/// Covers: CVE-2022-29162
#[test]
fn a_script_check_has_what_the_tasks_first_process_has() {
    let Some(bivouac) = Bivouac::new("script-checks") else { return };
    std::fs::create_dir_all(&bivouac.state).unwrap();
    let held = sets(&std::fs::read_to_string("/proc/self/status").unwrap())[0];
    // By the check's own process; whole, or not there.
    let own = "while read -r line; do echo \\\"$line\\\"; done </proc/self/status >/local/new";
    let script = format!(
        "[ -e /local/check ] || {{ {own}; cp /proc/1/status /local/first; mv /local/new /local/check; }}"
    );
    let task = |(number, (user, options, _)): (usize, &Row)| {
        let user = if user.is_empty() { String::new() } else { format!("user = \"{user}\"\n") };
        let check = format!(
            "check {{\n type = \"script\"\n name = \"status\"\n interval = \"1s\"\n timeout = \"30s\"\n command = \"/bin/sh\"\n args = [\"-c\", \"{script}\"]\n}}\n"
        );
        format!(
            "task \"t{number}\" {{\n driver = \"exec\"\n {user} kill_timeout = \"1ms\"\n service {{\n name = \"s{number}\"\n{check}}}\n config {{\n command = \"/bin/sleep\"\n args = [\"1000\"]\n {options}\n}}\n resources {{\n memory = 32\n}}\n}}\n"
        )
    };
    let rows = rows(held);
    let tasks: String = rows.iter().enumerate().map(task).collect();
    let (file, config) = (bivouac.state.join("j.nomad.hcl"), bivouac.state.join("config.hcl"));
    std::fs::write(&file, format!("job \"j\" {{\n group \"g\" {{\n{tasks}}}\n}}\n")).unwrap();
    std::fs::write(&config, "allow_root = true\nallow_caps = [\"all\"]\n").unwrap();
    let arguments = ["--config", config.to_str().unwrap(), "run", "-d", file.to_str().unwrap()];
    let (stdout, stderr, code) = bivouac.told(&arguments);
    assert_eq!(code, Some(0), "{stderr}");
    let id = stdout.trim();
    for (number, (user, options, expected)) in rows.iter().enumerate() {
        let local = bivouac.state.join("allocs").join(id).join(format!("t{number}/local"));
        let read = |name: &str| std::fs::read_to_string(local.join(name));
        let check = wait_for("the check's own words", || read("check").ok());
        let first = read("first").unwrap();
        for (whose, status) in [("check", &check), ("first", &first)] {
            assert_eq!(sets(status), *expected, "{user} {options}: {whose}");
        }
        for name in ["Uid:", "Gid:", "Groups:", "NoNewPrivs:", "Seccomp:"] {
            let line = |status: &str| -> Vec<String> {
                let line = status.lines().find_map(|line| line.strip_prefix(name));
                line.unwrap().split_whitespace().map(str::to_owned).collect()
            };
            assert_eq!(line(&check), line(&first), "{user} {options}: {name}");
        }
    }
    assert_eq!(bivouac.told(&["stop", "--timeout", "0", "j"]).2, Some(0));
    wait_for("gc", || bivouac.told(&["gc"]).1.contains(id).then_some(()));
    // A process that inherited one is told from one that did not.
    let inherits =
        Command::new("setpriv").args(["--inh-caps", "+chown", "cat", "/proc/self/status"]).output();
    let inherits = String::from_utf8(inherits.unwrap().stdout).unwrap();
    assert_eq!(sets(&inherits)[3], 1, "{inherits}");
}
