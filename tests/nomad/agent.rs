//! One Nomad agent: configuration, start, stop, and what it leaves behind.

use crate::api::Api;
use crate::house::{House, Network};
use crate::leftovers;
use rustix::fs::{FlockOperation, flock};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// Where the tests write: not in `/tmp`, which every agent has of its own.
pub(crate) const SCRATCH: &str = "/var/tmp";
/// Longest time an agent may take until its driver is healthy.
const READY: Duration = Duration::from_secs(90);
/// Longest time an orderly end may take.
const END: Duration = Duration::from_secs(60);

/// The Nomad program, or why there is none.
pub(crate) fn program() -> Result<PathBuf, String> {
    if !rustix::process::geteuid().is_root() {
        return Err("needs root".into());
    }
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache");
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from);
    let cached = cache.join("bivouac-tests/nomad-1.11.2");
    let program = std::env::var_os("BIVOUAC_NOMAD").map_or(cached, PathBuf::from);
    if program.is_file() {
        Ok(program)
    } else {
        Err(format!("there is no {} (`cargo xtask test` builds it)", program.display()))
    }
}

/// Polls a condition; whether it came true in time.
pub(crate) fn deadline(mut done: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + END;
    while !done() {
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

/// A plugin as it stands in an agent's plugin directory.
#[derive(Clone, Copy)]
pub(crate) struct Plugin<'a> {
    /// The file name, which is also the block's label.
    pub(crate) file: &'a str,
    /// The program behind it.
    pub(crate) program: &'a Path,
    /// The inside of the block.
    pub(crate) block: &'a str,
}

/// For the built-in driver one static program is enough.
pub(crate) const ONE_FILE: &str = r#"chroot_env = { "/usr/bin/busybox" = "/bin/busybox" }"#;

/// Without it the client asks no driver for statistics.
const STATISTICS: &str =
    "telemetry {\n  publish_allocation_metrics = true\n  collection_interval = \"1s\"\n}";

/// How an agent differs from others.
#[derive(Clone, Copy)]
pub(crate) struct Setup<'a> {
    pub(crate) plugins: &'a [Plugin<'a>],
    pub(crate) env: &'a [(&'a str, &'a str)],
    /// More of the client's block.
    pub(crate) client: &'a str,
    pub(crate) log_level: &'a str,
    pub(crate) network: Network,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self { plugins: &[], env: &[], client: ONE_FILE, log_level: "DEBUG", network: Network::Host }
    }
}

/// A running agent with its directories.
pub(crate) struct Agent {
    nomad: PathBuf,
    /// Holds everything of this agent.
    pub(crate) dir: PathBuf,
    /// Where it and all it starts run.
    pub(crate) house: House,
    network: Network,
    /// Goes on while the agent restarts, as a server elsewhere would.
    server: Child,
    child: Option<Child>,
    /// How often it had told the server about itself before its present launch.
    registrations: usize,
    ports: Ports,
    env: Vec<(String, String)>,
    /// More of the client's block; takes effect with [`Agent::configure`].
    pub(crate) client: String,
    /// The block of that name.
    pub(crate) telemetry: String,
    /// More of the client's `options`.
    pub(crate) options: String,
    pub(crate) log_level: String,
    /// Held as long as this agent uses the client's control groups.
    in_use: fs::File,
    /// Its HTTP interface.
    pub(crate) api: Api,
}

#[derive(Clone, Copy)]
struct Ports {
    http: u16,
    server_http: u16,
    rpc: u16,
    serf: u16,
}

impl Ports {
    /// Below those that the kernel gives to whoever connects, which agents do all the time: one of them would be taken
    /// again before its agent listens. Below those that Nomad gives to jobs, too.
    const RANGE: std::ops::Range<u16> = 10_000..20_000;

    fn free() -> Self {
        Self { http: Self::next(), server_http: Self::next(), rpc: Self::next(), serf: Self::next() }
    }

    /// One that nobody has now, and that no other agent of these tests gets.
    fn next() -> u16 {
        static GIVEN: AtomicU16 = AtomicU16::new(0);
        let length = u32::from(Self::RANGE.end - Self::RANGE.start);
        for _ in 0..length {
            let place = (std::process::id() * 97 + u32::from(GIVEN.fetch_add(1, Ordering::Relaxed))) % length;
            let port = Self::RANGE.start + u16::try_from(place).expect("less than the range");
            if TcpListener::bind(("127.0.0.1", port)).is_ok() && UdpSocket::bind(("127.0.0.1", port)).is_ok()
            {
                return port;
            }
        }
        panic!("no free port in {:?}", Self::RANGE)
    }
}

impl Agent {
    /// Starts an agent and waits until `driver` is healthy.
    pub(crate) fn start(nomad: &Path, plugins: &[Plugin<'_>], driver: &str, env: &[(&str, &str)]) -> Self {
        let mut agent = Self::prepare(nomad, Setup { plugins, env, ..Setup::default() });
        agent.launch();
        agent.wait_for_driver(driver);
        agent
    }

    /// Makes the directories and the configuration of an agent.
    pub(crate) fn prepare(nomad: &Path, setup: Setup<'_>) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("bivouac-test-nomad-")
            .tempdir_in(SCRATCH)
            .expect("a directory")
            .keep();
        // A lock that leaves no file.
        let in_use = fs::File::open(nomad).expect("the nomad program");
        flock(&in_use, FlockOperation::LockShared).expect("a lock");
        let ports = Ports::free();
        let house = House::open(setup.network);
        let agent = Self {
            nomad: nomad.to_owned(),
            api: Api::new(ports.server_http, house.curl()),
            server: serve(nomad, &dir, &house, ports),
            dir,
            house,
            network: setup.network,
            child: None,
            registrations: 0,
            ports,
            env: setup.env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            client: setup.client.to_owned(),
            telemetry: STATISTICS.to_owned(),
            options: String::new(),
            log_level: setup.log_level.to_owned(),
            in_use,
        };
        agent.configure(setup.plugins);
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
        let Ports { http, rpc, .. } = self.ports;
        let (common, client, log_level) = (common(&self.dir, "client"), &self.client, &self.log_level);
        let (telemetry, options) = (&self.telemetry, &self.options);
        format!(
            r#"{common}
plugin_dir = "{dir}/plugins"
log_level = "{log_level}"
ports {{
  http = {http}
}}
{telemetry}
client {{
  enabled = true
  servers = ["127.0.0.1:{rpc}"]
  network_interface = "lo"
  alloc_dir = "{dir}/alloc"
  gc_max_allocs = 1000
  # Else a disk that others fill takes away what a test is about to look at.
  gc_disk_usage_threshold = 100
  gc_inode_usage_threshold = 100
  {client}
  options = {{
    "fingerprint.denylist" = "env_aws,env_azure,env_gce,env_digitalocean,consul,vault"
    {options}
  }}
}}
"#,
            dir = self.dir.display()
        )
    }

    /// Starts the agent's process.
    pub(crate) fn launch(&mut self) {
        let registered = self.registered();
        let log =
            fs::OpenOptions::new().create(true).append(true).open(self.log_path()).expect("the agent's log");
        let child = self
            .house
            .enter("sh")
            .args([
                "-c",
                "echo 100 > /proc/self/oom_score_adj; echo $$ > \"$2\"; exec \"$0\" agent -config \"$1\"",
            ])
            .arg(&self.nomad)
            .arg(self.dir.join("agent.hcl"))
            .arg(self.dir.join("agent.pid"))
            .envs(self.env.iter().map(|(k, v)| (k, v)))
            .stdout(log.try_clone().expect("a second descriptor"))
            .stderr(log)
            // A signal to the agent must not reach its helpers.
            .process_group(0)
            .spawn();
        self.child = Some(child.expect("nsenter runs"));
        self.registrations = registered;
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join("agent.log")
    }

    fn registered(&self) -> usize {
        if self.log_path().exists() { self.log_lines("node registration complete").len() } else { 0 }
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

    /// Waits until the agent of the present launch registered, and the driver is healthy.
    pub(crate) fn wait_for_driver(&mut self, driver: &str) -> Value {
        let end = Instant::now() + READY;
        loop {
            if self.registered() > self.registrations
                && let Some(node) = self.node()
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

    /// Its last words, less what it says about our own requests.
    fn tail(&self) -> String {
        let mut lines = self.log_lines("");
        lines.retain(|line| !["http: request", "task exec session"].iter().any(|noise| line.contains(noise)));
        lines.get(lines.len().saturating_sub(80)..).unwrap_or_default().join("\n")
    }

    /// The client's own HTTP interface, for what only it knows.
    pub(crate) fn client_api(&self) -> Api {
        Api::new(self.ports.http, self.house.curl())
    }

    /// Runs the `nomad` command.
    pub(crate) fn nomad(&self, args: &[&str]) -> Output {
        self.nomad_with_input(args, "")
    }

    /// The `nomad` command with this agent's address; it gets a minute.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = self.limited();
        command.arg(&self.nomad).args(args);
        command
    }

    /// What runs for a minute at most, where the agent's address is one.
    fn limited(&self) -> Command {
        let mut command = match self.network {
            Network::Host => Command::new("timeout"),
            Network::Own => self.house.enter("timeout"),
        };
        let address = format!("http://127.0.0.1:{}", self.ports.http);
        command
            .args(["-k", "5", "60"])
            .env("NOMAD_ADDR", address)
            .env("NOMAD", &self.nomad)
            .stdin(Stdio::null());
        command
    }

    /// Runs the `nomad` command and writes to it.
    pub(crate) fn nomad_with_input(&self, args: &[&str], input: &str) -> Output {
        self.told(self.command(args), input)
    }

    /// Runs a line of the shell in a terminal of its own, with `$NOMAD` for the program. What is typed is typed once
    /// the line said `ready`.
    pub(crate) fn in_terminal(&self, line: &str, typed: &str) -> Output {
        let mut script = self.limited();
        script.args(["script", "--quiet", "--return", "--command", line, "/dev/null"]);
        let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("script runs");
        // What script(1) reads must not end before the session does.
        let mut stdin = child.stdin.take().expect("its input");
        let mut shown = Vec::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("its output"));
        while !typed.is_empty() && !shown.ends_with(b"ready\r\n") {
            let more = stdout.read_until(b'\n', &mut shown).expect("its output");
            assert!(more > 0, "it never said ready: {:?}", String::from_utf8_lossy(&shown));
        }
        stdin.write_all(typed.as_bytes()).expect("its input");
        stdout.read_to_end(&mut shown).expect("its output");
        let code = child.wait().expect("script runs").code().unwrap_or(-1);
        drop(stdin);
        Output { code, stdout: String::from_utf8_lossy(&shown).into_owned(), stderr: String::new() }
    }

    fn told(&self, mut command: Command, input: &str) -> Output {
        if !input.is_empty() {
            let stdin = self.dir.join(format!("stdin-{:?}", std::thread::current().id()));
            fs::write(&stdin, input).expect("input for nomad");
            command.stdin(fs::File::open(stdin).expect("input for nomad"));
        }
        Output::of(&command.output().expect("nomad runs"))
    }

    /// Ends the agent in order.
    pub(crate) fn stop(&mut self) {
        self.end("TERM");
    }

    /// Ends the agent without giving it a chance.
    pub(crate) fn kill(&mut self) {
        self.end("KILL");
    }

    fn end(&mut self, signal: &str) {
        let Some(mut child) = self.child.take() else { return };
        // Only the agent: its group holds the log collectors and the plugins.
        let pid = fs::read_to_string(self.dir.join("agent.pid")).unwrap_or_default();
        if let Ok(pid) = pid.trim().parse() {
            self.house.signal(signal, pid);
        }
        if !deadline(|| child.try_wait().expect("wait for the agent").is_some()) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// The allocations that have a directory.
    fn allocations(&self) -> Vec<String> {
        let directories = fs::read_dir(self.dir.join("alloc")).into_iter().flatten();
        directories.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
    }
}

/// What both halves of a cluster are told.
fn common(dir: &Path, half: &str) -> String {
    format!(
        r#"
name = "{half}"
data_dir = "{}/{half}"
bind_addr = "127.0.0.1"
disable_update_check = true
advertise {{
  http = "127.0.0.1"
  rpc  = "127.0.0.1"
  serf = "127.0.0.1"
}}
"#,
        dir.display()
    )
}

/// Starts the server and waits until it leads.
fn serve(nomad: &Path, dir: &Path, house: &House, ports: Ports) -> Child {
    let Ports { server_http, rpc, serf, .. } = ports;
    let common = common(dir, "server");
    let text = format!(
        r#"{common}
log_level = "INFO"
ports {{
  http = {server_http}
  rpc  = {rpc}
  serf = {serf}
}}
server {{
  enabled = true
  bootstrap_expect = 1
  raft_multiplier = 1
  heartbeat_grace = "2m"
}}
"#
    );
    fs::write(dir.join("server.hcl"), text).expect("the server's configuration");
    let log = fs::File::create(dir.join("server.log")).expect("the server's log");
    let mut server = house.enter(nomad);
    server.args(["agent", "-config"]).arg(dir.join("server.hcl"));
    server.stdout(log.try_clone().expect("a second descriptor")).stderr(log).process_group(0);
    let server = server.spawn().expect("nsenter runs");
    let said = || fs::read_to_string(dir.join("server.log")).unwrap_or_default();
    assert!(deadline(|| said().contains("cluster leadership acquired")), "no leader:\n{}", said());
    server
}

/// What a `nomad` command said.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    pub(crate) fn of(output: &std::process::Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the agent's log:\n{}", self.tail());
        } else {
            self.stop();
        }
        let allocations = self.allocations();
        self.house.close();
        let _ = self.server.wait();
        let last = flock(&self.in_use, FlockOperation::NonBlockingLockExclusive).is_ok();
        leftovers::remove(&allocations, last);
        let _ = fs::remove_dir_all(&self.dir);
    }
}
