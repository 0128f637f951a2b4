//! One Nomad agent: configuration, start, stop, and what it leaves behind.

use crate::api::Api;
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest time an agent may take until its driver is healthy.
const READY: Duration = Duration::from_secs(90);
/// Longest time an orderly end may take.
const END: Duration = Duration::from_secs(60);

/// The Nomad program, or why there is none.
pub(crate) fn program() -> Result<PathBuf, String> {
    if !rustix::process::geteuid().is_root() {
        return Err("needs root".into());
    }
    let home = std::env::var_os("HOME").unwrap_or_default();
    let cached = Path::new(&home).join(".cache/bivouac-tests/nomad-1.11.2");
    let program = std::env::var_os("BIVOUAC_NOMAD").map_or(cached, PathBuf::from);
    if program.is_file() { Ok(program) } else { Err(format!("there is no {}", program.display())) }
}

/// A plugin as it stands in an agent's plugin directory.
pub(crate) struct Plugin<'a> {
    /// The file name, which is also the block's label.
    pub(crate) file: &'a str,
    /// The program behind it.
    pub(crate) program: &'a Path,
    /// The inside of the block.
    pub(crate) block: &'a str,
}

/// A running agent with its directories.
pub(crate) struct Agent {
    nomad: PathBuf,
    /// Holds everything of this agent.
    pub(crate) dir: PathBuf,
    child: Option<Child>,
    ports: [u16; 3],
    env: Vec<(String, String)>,
    /// Its HTTP interface.
    pub(crate) api: Api,
}

fn free_ports() -> [u16; 3] {
    let listeners = [0; 3].map(|_| TcpListener::bind(("127.0.0.1", 0)).expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("an address").port())
}

impl Agent {
    /// Starts an agent and waits until `driver` is healthy.
    pub(crate) fn start(nomad: &Path, plugins: &[Plugin<'_>], driver: &str, env: &[(&str, &str)]) -> Self {
        let mut agent = Self::prepare(nomad, plugins, env);
        agent.launch();
        agent.wait_for_driver(driver);
        agent
    }

    /// Makes the directories and the configuration of an agent.
    pub(crate) fn prepare(nomad: &Path, plugins: &[Plugin<'_>], env: &[(&str, &str)]) -> Self {
        let dir =
            tempfile::Builder::new().prefix("bivouac-test-nomad-").tempdir().expect("a directory").keep();
        let ports = free_ports();
        let agent = Self {
            nomad: nomad.to_owned(),
            api: Api::new(ports[0]),
            dir,
            child: None,
            ports,
            env: env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        };
        agent.configure(plugins);
        agent
    }

    /// Writes the configuration anew, for the next launch.
    pub(crate) fn configure(&self, plugins: &[Plugin<'_>]) {
        let plugin_dir = self.dir.join("plugins");
        let _ = fs::remove_dir_all(&plugin_dir);
        fs::create_dir_all(&plugin_dir).expect("the plugin directory");
        let mut text = self.settings();
        for plugin in plugins {
            std::os::unix::fs::symlink(plugin.program, plugin_dir.join(plugin.file))
                .expect("a link to the plugin");
            text.push_str(&format!("plugin \"{}\" {{\n{}\n}}\n", plugin.file, plugin.block));
        }
        fs::write(self.dir.join("agent.hcl"), text).expect("the agent's configuration");
    }

    fn settings(&self) -> String {
        let [http, rpc, serf] = self.ports;
        let dir = self.dir.display();
        format!(
            r#"
data_dir = "{dir}/data"
plugin_dir = "{dir}/plugins"
bind_addr = "127.0.0.1"
disable_update_check = true
log_level = "DEBUG"
ports {{
  http = {http}
  rpc  = {rpc}
  serf = {serf}
}}
advertise {{
  http = "127.0.0.1"
  rpc  = "127.0.0.1"
  serf = "127.0.0.1"
}}
telemetry {{
  publish_allocation_metrics = true
  collection_interval = "1s"
}}
server {{
  enabled = true
  bootstrap_expect = 1
}}
client {{
  enabled = true
  servers = ["127.0.0.1:{rpc}"]
  network_interface = "lo"
  gc_max_allocs = 1000
  # For the built-in driver: one static program is enough.
  chroot_env = {{ "/usr/bin/busybox" = "/bin/busybox" }}
  options = {{
    "fingerprint.denylist" = "env_aws,env_azure,env_gce,env_digitalocean,consul,vault"
  }}
}}
"#
        )
    }

    /// Starts the agent's process.
    pub(crate) fn launch(&mut self) {
        let log =
            fs::OpenOptions::new().create(true).append(true).open(self.log_path()).expect("the agent's log");
        let child = Command::new(&self.nomad)
            .arg("agent")
            .arg("-config")
            .arg(self.dir.join("agent.hcl"))
            .envs(self.env.iter().map(|(k, v)| (k, v)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second descriptor"))
            .stderr(log)
            // A signal to the agent must not reach its helpers.
            .process_group(0)
            .spawn();
        self.child = Some(child.expect("nomad runs"));
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join("agent.log")
    }

    /// The lines of the agent's log that hold `word`.
    pub(crate) fn log_lines(&self, word: &str) -> Vec<String> {
        let file = fs::File::open(self.log_path()).expect("the agent's log");
        BufReader::new(file).lines().map_while(Result::ok).filter(|line| line.contains(word)).collect()
    }

    /// This node as the API shows it.
    pub(crate) fn node(&self) -> Option<Value> {
        let nodes = self.api.get("/v1/nodes").ok()?;
        let id = nodes.get(0)?.get("ID")?.as_str()?.to_owned();
        self.api.get(&format!("/v1/node/{id}")).ok()
    }

    /// Waits until the node is ready and the driver healthy.
    pub(crate) fn wait_for_driver(&mut self, driver: &str) -> Value {
        let end = Instant::now() + READY;
        loop {
            if let Some(node) = self.node()
                && node["Status"] == "ready"
                && node["Drivers"][driver]["Healthy"] == true
            {
                return node;
            }
            let over = self.child.as_mut().and_then(|child| child.try_wait().expect("wait for the agent"));
            assert!(over.is_none(), "the agent ended: {over:?}; its last words:\n{}", self.tail());
            assert!(
                Instant::now() < end,
                "{driver} is not healthy; the agent's last words:\n{}",
                self.tail()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until the agent ended by itself, and tells what it wrote.
    pub(crate) fn wait_for_end(&mut self) -> String {
        let end = Instant::now() + END;
        while self.child.as_mut().is_some_and(|child| child.try_wait().expect("wait").is_none()) {
            assert!(Instant::now() < end, "the agent goes on:\n{}", self.tail());
            std::thread::sleep(Duration::from_millis(50));
        }
        self.child = None;
        fs::read_to_string(self.log_path()).expect("the agent's log")
    }

    fn tail(&self) -> String {
        let lines = self.log_lines("");
        lines.get(lines.len().saturating_sub(40)..).unwrap_or_default().join("\n")
    }

    /// Runs the `nomad` command.
    pub(crate) fn nomad(&self, args: &[&str]) -> Output {
        self.nomad_with_input(args, "")
    }

    /// Runs the `nomad` command and writes to it; it gets a minute.
    pub(crate) fn nomad_with_input(&self, args: &[&str], input: &str) -> Output {
        let address = format!("http://127.0.0.1:{}", self.ports[0]);
        let stdin = self.dir.join("stdin");
        fs::write(&stdin, input).expect("input for nomad");
        let output = Command::new("timeout")
            .args(["-k", "5", "60"])
            .arg(&self.nomad)
            .args(args)
            .env("NOMAD_ADDR", address)
            .stdin(fs::File::open(stdin).expect("input for nomad"))
            .output()
            .expect("nomad runs");
        Output {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Ends the agent in order.
    pub(crate) fn stop(&mut self) {
        self.end(rustix::process::Signal::TERM);
    }

    /// Ends the agent without giving it a chance.
    pub(crate) fn kill(&mut self) {
        self.end(rustix::process::Signal::KILL);
    }

    fn end(&mut self, signal: rustix::process::Signal) {
        let Some(mut child) = self.child.take() else { return };
        let pid = rustix::process::Pid::from_child(&child);
        // Only the agent: its group holds the log collectors and the plugins.
        let _ = rustix::process::kill_process(pid, signal);
        let end = Instant::now() + END;
        while child.try_wait().expect("wait for the agent").is_none() {
            if Instant::now() > end {
                let _ = child.kill();
                let _ = child.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// What a `nomad` command said.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Processes whose command line or environment-free arguments name this directory.
pub(crate) fn processes_of(dir: &Path) -> Vec<i32> {
    let needle = dir.as_os_str().as_encoded_bytes();
    let all = fs::read_dir("/proc")
        .expect("proc")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    all.filter(|pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.windows(needle.len()).any(|part| part == needle)
    })
    .collect()
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stop();
        for pid in processes_of(&self.dir) {
            if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        if std::thread::panicking() {
            eprintln!("the agent's directory stays: {}\n{}", self.dir.display(), self.tail());
        }
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let below = self.dir.display().to_string();
        let mut points: Vec<&str> = mounts.lines().filter_map(|line| line.split(' ').nth(1)).collect();
        points.retain(|point| point.starts_with(&below));
        for point in points.iter().rev() {
            let _ = rustix::mount::unmount(*point, rustix::mount::UnmountFlags::DETACH);
        }
        let still = fs::read_to_string("/proc/self/mounts").unwrap_or_default().contains(&below);
        if !still && !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}
