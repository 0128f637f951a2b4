//! Checks over TLS: a private authority, another name, any certificate, and a server that nobody vouches for.

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
