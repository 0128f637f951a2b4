//! The real driver's options under a real client: its schema is accepted, values arrive, mistakes are told.

use crate::agent::{Agent, Plugin, SCRATCH, program};
use crate::face::{diary_line, job, run};
use crate::waiting::{A_WHILE, client_status};
use crate::{api, fake_plugin};
use std::path::Path;

const OPERATOR: &str = r#"
args = ["--name", "fake"]
config {
  allow_caps = ["all"]
  chroot_env {
    "/usr" = "/usr"
    "/bin" = "/bin"
  }
  max_ulimit {
    nofile = "4096"
  }
  allow_mount_paths = ["/srv:ro"]
  max_pids_limit = 200
  allow_root = true
}
"#;

#[test]
fn the_drivers_schema_is_accepted_and_every_shape_arrives() {
    let Ok(nomad) = program().inspect_err(|why| println!("SKIPPED: options: {why}")) else { return };
    let diary = Path::new(SCRATCH).join(format!("bivouac-test-diary-{}-options", std::process::id()));
    let _ = std::fs::remove_file(&diary);
    let text = diary.to_str().expect("a plain path").to_owned();
    let plugin = fake_plugin();
    let plugins = [Plugin { file: "fake", program: &plugin, block: OPERATOR }];
    let agent =
        Agent::start(&nomad, &plugins, "fake", &[("FAKE_DIARY", &text), ("FAKE_DRIVER_OPTIONS", "1")]);
    let configured = diary_line(&diary, "configure").expect("a configuration");
    for piece in [
        r#""chroot_env": TextMap({"/bin": "/bin", "/usr": "/usr"})"#,
        r#""max_ulimit": TextMap({"nofile": "4096"})"#,
        r#""allow_mount_paths": TextList(["/srv:ro"])"#,
        r#""max_pids_limit": Count(200)"#,
        r#""allow_root": Flag(true)"#,
        r#""default_pids_limit": Count(4096)"#,
    ] {
        assert!(configured.contains(piece), "{piece} in {configured}");
    }
    run(&agent, "options");
    agent.api.wait_for_allocation("options", A_WHILE, client_status("complete"));
    let started = diary_line(&diary, "start").expect("a start");
    let options = started.split("options: ").nth(1).expect("the options");
    for piece in [
        r#""args": TextList(["a b", "main"])"#,
        r#""ulimit": TextMap({"core": "0", "nofile": "1024:2048"})"#,
        r#""shm_size": Text("32m")"#,
        r#""size": Text("1048576")"#,
        r#""devices": Blocks([Values({"cgroup_permissions": Text("rwm"), "host_path": Text("/dev/fuse")})])"#,
        r#""servers": TextList(["192.0.2.1"])"#,
        r#""readonly": Flag(true)"#,
    ] {
        assert!(options.contains(piece), "{piece} in {options}");
    }

    // The client itself tells a mistake, before anything starts.
    let wrong = std::fs::read_to_string(job("options")).expect("the job");
    let wrong =
        wrong.replace("pids_limit = 100", "pid_limit = 100").replace("job \"options\"", "job \"mistake\"");
    let file = agent.dir.join("mistake.nomad.hcl");
    std::fs::write(&file, wrong).expect("a job file");
    assert_eq!(agent.nomad(&["job", "run", "-detach", file.to_str().expect("a plain path")]).code, 0);
    let failed = agent.api.wait_for_allocation("mistake", A_WHILE, client_status("failed"));
    let events = api::events(Some(&failed));
    assert!(events.contains("Failed Validation") && events.contains("pid_limit"), "{events}");
    let _ = std::fs::remove_file(diary);
}
