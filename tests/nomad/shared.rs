//! One agent for many tests: the first that asks starts it, the last of those that this program was told to run
//! ends it.

use crate::agent::{Agent, Plugin, Setup, program};
use crate::real_plugin;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

/// An agent that tests of some modules share.
pub(crate) struct Shared {
    /// The modules whose tests use it, each test once.
    modules: &'static [&'static str],
    start: fn(&Path) -> Agent,
    state: Mutex<State>,
}

struct State {
    /// How many tests are still to come or under way; unknown before the first.
    left: Option<usize>,
    agent: Option<Arc<Agent>>,
}

impl Shared {
    pub(crate) const fn new(modules: &'static [&'static str], start: fn(&Path) -> Agent) -> Self {
        Self { modules, start, state: Mutex::new(State { left: None, agent: None }) }
    }

    /// Runs a test with the agent.
    pub(crate) fn lend(&'static self, test: impl FnOnce(&Agent)) {
        let name = std::thread::current().name().unwrap_or("a test").to_owned();
        let nomad = match program() {
            Ok(nomad) => nomad,
            Err(why) => return println!("SKIPPED: {name}: {why}"),
        };
        let _turn = Turn(self);
        let agent = {
            let mut state = self.state.lock().expect("the shared agent started");
            state.left.get_or_insert_with(|| self.expected());
            Arc::clone(state.agent.get_or_insert_with(|| Arc::new((self.start)(&nomad))))
        };
        test(&agent);
    }

    /// How many tests of these modules the harness was told to run: it lists them itself.
    fn expected(&self) -> usize {
        let this = std::env::current_exe().expect("this program");
        let list = Command::new(this)
            .args(std::env::args().skip(1))
            .arg("--list")
            .output()
            .expect("a list of tests");
        let list = String::from_utf8_lossy(&list.stdout).into_owned();
        let tests = list.lines().filter_map(|line| line.strip_suffix(": test"));
        tests.filter(|name| self.modules.iter().any(|module| name.starts_with(module))).count()
    }
}

/// One test's turn, ended in whatever way.
struct Turn(&'static Shared);

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(left) = &mut state.left {
            *left = left.saturating_sub(1);
            if *left == 0 {
                state.agent = None;
            }
        }
    }
}

/// Under which name each configuration of ours stands in the shared agent, beside the built-in `exec`.
const OURS: &[(&str, &str)] = &[
    ("bivouac", r#"config { allow_devices = ["/dev/random"] }"#),
    ("bivouac-chroot", r#"config { fs_isolation = "chroot" }"#),
    (
        "bivouac-some",
        r#"config {
  no_pivot_root    = true
  allow_caps       = ["fowner", "CAP_MKNOD"]
  denied_host_uids = "1"
  denied_host_gids = "3-4"
}"#,
    ),
    ("bivouac-all", "config {\n  no_pivot_root = true\n  allow_caps = [\"all\"]\n  allow_root = true\n}"),
    (
        "bivouac-bare",
        r#"config {
  chroot_env = {
    "/usr/bin/busybox" = "/bin/busybox"
    "/etc/passwd"      = "/etc/passwd"
    "@DIR@/plain-script" = "@DIR@/plain-script"
  }
}"#,
    ),
    ("bivouac-logs", r#"config { log_collection = "bivouac" }"#),
    ("bivouac-users", "config { dynamic_workload_users = true }"),
    ("bivouac-host", "config {\n  default_pid_mode = \"host\"\n  default_ipc_mode = \"host\"\n}"),
];

/// What a root of the built-in driver holds here.
const APPLETS: &[&str] = &[
    "sh", "cat", "echo", "sleep", "id", "ls", "stat", "tail", "head", "dd", "env", "hostname", "stty", "ps",
    "sort", "touch", "wc", "printf", "date", "mktemp", "pwd", "true", "false", "test", "tr", "grep", "cut",
    "readlink", "rm", "mkdir", "chmod", "uname", "seq", "nc",
];

/// A small root for the built-in driver, whose price is counted in files, and the host volume `data`.
pub(crate) fn furnish(dir: &Path) -> String {
    let root = dir.join("root");
    for below in ["bin", "etc", "usr/bin"] {
        std::fs::create_dir_all(root.join(below)).expect("a root");
    }
    std::fs::copy("/usr/bin/busybox", root.join("bin/busybox")).expect("busybox");
    for applet in APPLETS {
        std::fs::hard_link(root.join("bin/busybox"), root.join("bin").join(applet)).expect("an applet");
    }
    for file in ["passwd", "group", "resolv.conf"] {
        std::fs::copy(Path::new("/etc").join(file), root.join("etc").join(file)).expect("a file of etc");
    }
    std::fs::create_dir_all(dir.join("volume/bar")).expect("a volume");
    std::fs::create_dir_all(dir.join("shared")).expect("a volume");
    secrets_plugin(&dir.join("common/secrets"));
    std::fs::write(dir.join("volume/tmp4.txt"), "#!/bin/sh\necho \"$0\"\n").expect("a file");
    std::fs::write(dir.join("volume/bar/tmp5.txt"), "#!/bin/sh\necho \"$0\"\n").expect("a file");
    // Readable by its owner alone, and not executable.
    std::fs::write(dir.join("plain-script"), "#!/bin/busybox sh\necho hello world\n").expect("a file");
    let few = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(dir.join("plain-script"), few).expect("a mode");
    let all = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(dir.join("volume"), all).expect("a mode");
    format!(
        r#"chroot_env = {{ "{root}" = "/" }}
  artifact {{
    decompression_size_limit = "20MB"
  }}
  host_volume "data" {{
    path = "{dir}/volume"
  }}
  host_volume "shared" {{
    path = "{dir}/shared"
  }}
  common_plugin_dir = "{dir}/common""#,
        root = root.display(),
        dir = dir.display()
    )
}

/// A provider of secrets as operators write them.
fn secrets_plugin(directory: &Path) {
    let script = r#"#!/bin/sh
case "$1" in
  fingerprint) echo '{"type": "secrets", "version": "1.0.0"}' ;;
  fetch) echo "{\"result\": {\"word\": \"from $2\"}}" ;;
esac
"#;
    std::fs::create_dir_all(directory).expect("a directory");
    let file = directory.join("test-secrets");
    std::fs::write(&file, script).expect("a plugin");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&file, mode).expect("a mode");
}

/// The device plugin of the tests, if it was built.
pub(crate) fn device_plugin() -> Option<std::path::PathBuf> {
    let program = program().ok()?.with_file_name("nomad-device-1.11.2");
    program.is_file().then_some(program)
}

fn start_ours(nomad: &Path) -> Agent {
    let (plugin, shim) = real_plugin();
    let shim = shim.to_str().expect("a plain path").to_owned();
    let env = [("BIVOUAC_SHIM", shim.as_str()), ("PATH", PATH), ("MARKED", "by the agent")];
    let mut agent = Agent::prepare(nomad, Setup { env: &env, ..Setup::default() });
    agent.client = furnish(&agent.dir);
    let blocks: Vec<String> = OURS
        .iter()
        .map(|(_, block)| block.replace("@DIR@", agent.dir.to_str().expect("a plain path")))
        .collect();
    let mut plugins: Vec<Plugin<'_>> =
        OURS.iter().zip(&blocks).map(|((file, _), block)| Plugin { file, program: &plugin, block }).collect();
    let device = device_plugin();
    plugins.extend(device.iter().map(|program| Plugin { file: "test-device", program, block: "" }));
    agent.configure(&plugins);
    // What is mounted below it later shows in tasks that ask for that.
    let shared = agent.dir.join("shared");
    let shared = shared.to_str().expect("a plain path");
    agent.house.ask("mount", &["--bind", shared, shared]);
    agent.house.ask("mount", &["--make-shared", shared]);
    agent.launch();
    for (name, _) in OURS {
        agent.wait_for_driver(name);
    }
    let oversubscribe = serde_json::json!({"MemoryOversubscriptionEnabled": true});
    agent
        .api
        .put("/v1/operator/scheduler/configuration", &oversubscribe)
        .expect("a scheduler that oversubscribes");
    agent
}

/// What agents run with, and what tasks inherit.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs a test with the agent that has the drivers of [`OURS`] and the built-in ones.
pub(crate) fn ours(test: impl FnOnce(&Agent)) {
    static AGENT: Shared = Shared::new(&["rows::", "compliance::as_bivouac"], start_ours);
    AGENT.lend(test);
}
