//! kill -9 of whoever makes a task's inputs, and of its supervisor meanwhile: the next try goes well, and nothing stays.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests, outside of test functions")]

#[path = "support/request.rs"]
mod request;
mod support;

use rustix::process::{Pid, Signal, kill_process};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use support::{Bivouac, wait_for};

/// Serves one file. The first answers stop after as many bytes as are listed here, head included, and wait.
struct Server {
    port: u16,
    /// How many answers wait or have waited.
    stuck: Arc<AtomicUsize>,
}

impl Server {
    fn new(content: Vec<u8>, stops: &'static [usize]) -> Server {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let stuck = Arc::new(AtomicUsize::new(0));
        let counted = stuck.clone();
        let content = Arc::new(content);
        std::thread::spawn(move || {
            for (at, stream) in listener.incoming().flatten().enumerate() {
                let (counted, content) = (counted.clone(), content.clone());
                std::thread::spawn(move || answer(stream, &content, stops.get(at), &counted));
            }
        });
        Server { port, stuck }
    }

    fn url(&self, file: &str) -> String {
        format!("http://127.0.0.1:{}/{file}", self.port)
    }

    fn wait_stuck(&self, count: usize) {
        wait_for("an answer that stops", || (self.stuck.load(Ordering::Relaxed) == count).then_some(()));
    }
}

fn answer(mut stream: TcpStream, content: &[u8], stop: Option<&usize>, stuck: &AtomicUsize) {
    let mut reader = request::heard(&stream);
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", content.len());
    let all = [head.as_bytes(), content].concat();
    let _ = stream.write_all(&all[..stop.map_or(all.len(), |stop| all.len().min(*stop))]);
    if stop.is_some() {
        stuck.fetch_add(1, Ordering::Relaxed);
        // Until whoever asked is gone.
        let _ = reader.read(&mut [0]);
    }
}

fn job(bivouac: &Bivouac, task: &str) -> PathBuf {
    let text = format!(
        "job \"killed\" {{\n type = \"batch\"\n group \"g\" {{\n restart {{\n attempts = 3\n interval = \"10m\"\n delay = \"1ms\"\n mode = \"fail\"\n}}\n task \"t\" {{\n driver = \"exec\"\n{task}\n}}\n}}\n}}\n"
    );
    std::fs::create_dir_all(&bivouac.state).unwrap();
    let path = bivouac.state.join("killed.nomad.hcl");
    std::fs::write(&path, text).unwrap();
    path
}

/// A run that is being started, and that nobody waits for.
struct Begun<'a> {
    bivouac: &'a Bivouac,
    child: Child,
    id: String,
}

impl Begun<'_> {
    fn new<'a>(bivouac: &'a Bivouac, flags: &[&str], task: &str) -> Begun<'a> {
        let file = job(bivouac, task);
        let arguments = [&["run"], flags, &[file.to_str().unwrap()]].concat();
        let child =
            bivouac.command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let states = bivouac.state.join("state");
        let id = wait_for("its state", || {
            let entry = std::fs::read_dir(&states).ok()?.flatten().next()?;
            entry.path().join("state.json").exists().then(|| entry.file_name().into_string().unwrap())
        });
        Begun { bivouac, child, id }
    }

    fn state(&self) -> serde_json::Value {
        let path = self.bivouac.state.join("state").join(&self.id).join("state.json");
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    fn supervisor(&self) -> i32 {
        wait_for("the supervisor", || i32::try_from(self.state()["supervisor"]["pid"].as_i64()?).ok())
    }

    fn directory(&self) -> PathBuf {
        self.bivouac.state.join("allocs").join(&self.id)
    }

    fn staging(&self) -> PathBuf {
        self.directory().join(".fetching")
    }

    /// Waits for the end of all.
    fn wait_complete(&self) {
        wait_for("the end", || (self.state()["status"] == "complete").then_some(()));
    }

    /// Processes that fetch or unpack: nobody else works in a private directory.
    fn fetchers(&self) -> Vec<i32> {
        let staging = self.staging();
        processes(|process| {
            std::fs::read_link(process.join("cwd")).is_ok_and(|directory| directory.starts_with(&staging))
        })
    }

    /// Waits for the process that unpacks, when it has made so many entries.
    fn unpacker(&self, entries: usize) -> i32 {
        wait_for("the process that unpacks", || {
            let private = std::fs::read_dir(self.staging()).ok()?.flatten().next()?.path();
            let made = std::fs::read_dir(private.join("tree")).ok()?.take(entries + 1).count();
            (made >= entries).then(|| self.fetchers().first().copied()).flatten()
        })
    }

    /// Waits for a process that renders, when it has worked so many hundredths of a second.
    fn renderer(&self, worked: u64, not: i32) -> i32 {
        wait_for("the process that renders", || {
            // Another one when it has just been taken over.
            let supervisor = self.supervisor();
            let mut all = processes(|process| {
                let text = |name: &str| std::fs::read_to_string(process.join(name)).unwrap_or_default();
                let stat = text("stat");
                let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
                text("cmdline").contains("template-helper")
                    && fields.get(1) == Some(&supervisor.to_string().as_str())
                    && fields.get(11).and_then(|ticks| ticks.parse().ok()).is_some_and(|t: u64| t >= worked)
            });
            all.retain(|pid| *pid != not);
            all.first().copied()
        })
    }

    /// The run ends well, and neither processes nor private directories stay.
    fn ends_well(&mut self, output: &str) {
        self.wait_complete();
        let (stdout, stderr, _) = self.bivouac.told(&["logs", "--raw", "--stdout", &self.id]);
        assert_eq!(stdout, output, "{stderr}");
        assert_eq!(self.fetchers(), [0; 0]);
        let staged = std::fs::read_dir(self.staging()).map_or(0, Iterator::count);
        assert_eq!(staged, 0, "private directories are left in {}", self.staging().display());
        self.is_collected();
    }

    /// `gc` leaves nothing.
    fn is_collected(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        wait_for("gc", || {
            self.bivouac.told(&["gc"]);
            (!self.bivouac.state.join("state").join(&self.id).exists()).then_some(())
        });
        assert!(!self.directory().exists());
        assert!(!Path::new("/run/bivouac/secrets").join(&self.id).exists());
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&self.id), "{mounts}");
    }

    /// All that happened; the state keeps the last events only.
    fn events(&self) -> String {
        std::fs::read_to_string(self.bivouac.state.join("state").join(&self.id).join("supervisor.log"))
            .unwrap()
    }
}

/// Processes whose directory in /proc is so.
fn processes(fits: impl Fn(&Path) -> bool) -> Vec<i32> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let numbers = all.filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())));
    numbers.filter(|(_, path)| fits(path)).map(|(pid, _)| pid).collect()
}

fn kill(pid: i32) {
    let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
}

fn gone(pid: i32) {
    // A process that has ended and waits for its parent is gone as well.
    let zombie = |stat: String| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['Z', 'X']));
    wait_for("the end of a process", || {
        std::fs::read_to_string(format!("/proc/{pid}/stat"))
            .map_or(Some(()), |stat| zombie(stat).then_some(()))
    });
}

/// A task that shows the end of a file, fetched from an address.
fn fetching(source: &str, show: &str) -> String {
    format!(
        "artifact {{\n source = \"{source}\"\n destination = \"local/in\"\n}}\n config {{\n command = \"/bin/sh\"\n args = [\"-c\", \"{show}\"]\n}}\n"
    )
}

const BYTES: usize = 300_000;
const COUNT: &str = "wc -c < local/in/file";
/// Nothing at all, a part of the head, the head, a part of the body.
const STOPS: &[usize] = &[0, 20, 100, 200_000];

/// An archive of so many empty files and one that says `last`.
fn archive(bivouac: &Bivouac) -> Vec<u8> {
    let directory = bivouac.state.join("archive");
    std::fs::create_dir_all(&directory).unwrap();
    let line =
        "mkdir f; cd f; seq 1 20000 | xargs touch; echo last > zlast; tar -czf ../a.tar.gz --sort=name *";
    let made = Command::new("sh").args(["-ec", line]).current_dir(&directory).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    std::fs::read(directory.join("a.tar.gz")).unwrap()
}

const UNPACKED: &str = "ls local/in | wc -l; cat local/in/zlast";

/// Takes about a second to render.
fn rendering() -> String {
    "template {\n data = \"{{ range loop 300 }}{{ range loop 1000 }}{{ $x := sha256Hex `a` }}{{ end }}{{ end }}made\\n\"\n destination = \"local/page\"\n}\n config {\n command = \"/bin/cat\"\n args = [\"local/page\"]\n}\n".to_owned()
}

#[test]
fn a_killed_fetcher_is_followed_by_another() {
    let Some(bivouac) = Bivouac::new("fetcher") else { return };
    let server = Server::new(vec![b'x'; BYTES], STOPS.split_at(3).0);
    let mut run = Begun::new(&bivouac, &["-d"], &fetching(&server.url("file"), COUNT));
    for at in 1..=3 {
        server.wait_stuck(at);
        let fetchers = run.fetchers();
        assert_eq!(fetchers.len(), 1, "{fetchers:?}");
        fetchers.iter().for_each(|pid| kill(*pid));
        fetchers.iter().for_each(|pid| gone(*pid));
    }
    run.wait_complete();
    assert_eq!(run.events().matches("its process died").count(), 3, "{}", run.events());
    run.ends_well("300000\n");
}

#[test]
fn a_killed_unpacker_is_followed_by_another() {
    let Some(bivouac) = Bivouac::new("unpacker") else { return };
    let server = Server::new(archive(&bivouac), &[]);
    let mut run = Begun::new(&bivouac, &["-d"], &fetching(&server.url("a.tar.gz"), UNPACKED));
    for entries in [0, 50, 1000] {
        let pid = run.unpacker(entries);
        kill(pid);
        gone(pid);
    }
    run.wait_complete();
    assert_eq!(run.events().matches("its process died").count(), 3, "{}", run.events());
    run.ends_well("20001\nlast\n");
}

#[test]
fn a_killed_renderer_is_followed_by_another() {
    let Some(bivouac) = Bivouac::new("renderer") else { return };
    let mut run = Begun::new(&bivouac, &["-d"], &rendering());
    let mut last = 0;
    for worked in [0, 1, 10] {
        last = run.renderer(worked, last);
        kill(last);
        gone(last);
    }
    run.wait_complete();
    assert_eq!(run.events().matches("the process that renders died").count(), 3, "{}", run.events());
    run.ends_well("made\n");
}

/// Kills the supervisor, then sees who worked for it gone, and the run go on with the next one.
fn supervisor_dies(run: &Begun<'_>, helpers: &[i32]) {
    assert!(!helpers.is_empty());
    let supervisor = run.supervisor();
    kill(supervisor);
    gone(supervisor);
    helpers.iter().for_each(|pid| gone(*pid));
    // Its lock goes with the last of its threads.
    wait_for("what gc says", || run.bivouac.told(&["gc"]).1.contains("bivouac resume").then_some(()));
    let mut resume = run.bivouac.command(&["resume"]);
    drop(resume.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    wait_for("another supervisor", || (run.supervisor() != supervisor).then_some(()));
}

#[test]
fn a_supervisor_killed_while_it_fetches_is_followed_by_another() {
    let Some(bivouac) = Bivouac::new("sup-fetches") else { return };
    let server = Server::new(vec![b'x'; BYTES], STOPS);
    let mut run = Begun::new(&bivouac, &["-d"], &fetching(&server.url("file"), COUNT));
    for at in 1..=STOPS.len() {
        server.wait_stuck(at);
        supervisor_dies(&run, &run.fetchers());
    }
    run.ends_well("300000\n");
}

#[test]
fn a_supervisor_killed_while_it_unpacks_is_followed_by_another() {
    let Some(bivouac) = Bivouac::new("sup-unpacks") else { return };
    let server = Server::new(archive(&bivouac), &[]);
    let mut run = Begun::new(&bivouac, &["-d"], &fetching(&server.url("a.tar.gz"), UNPACKED));
    for entries in [0, 50, 1000] {
        let pid = run.unpacker(entries);
        supervisor_dies(&run, &[pid]);
    }
    run.ends_well("20001\nlast\n");
}

#[test]
fn a_supervisor_killed_while_it_renders_is_followed_by_another() {
    let Some(bivouac) = Bivouac::new("sup-renders") else { return };
    let mut run = Begun::new(&bivouac, &["-d"], &rendering());
    // As one leaves it that is killed between writing and putting in place.
    let left = run.directory().join("t/local").join(".bivouac-0123456789abcdef01234567");
    for worked in [0, 1, 10] {
        let pid = run.renderer(worked, 0);
        std::fs::write(&left, "half a pa").unwrap();
        supervisor_dies(&run, &[pid]);
        wait_for("its half to go", || (!left.exists()).then_some(()));
    }
    run.ends_well("made\n");
}

/// Git is a program of its own with children of its own, which a death signal does not reach by itself.
#[test]
fn a_supervisor_killed_while_git_works_leaves_no_git() {
    let Some(bivouac) = Bivouac::new("sup-git") else { return };
    for scheme in ["git", "http"] {
        let server = Server::new(Vec::new(), &[0]);
        let source = format!("git::{scheme}://127.0.0.1:{}/repository", server.port);
        let mut run = Begun::new(&bivouac, &["-d"], &fetching(&source, "true"));
        wait_for("git", || {
            let all = run.fetchers();
            let name = |pid: &i32| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            all.iter().any(|pid| name(pid).starts_with("git")).then_some(())
        });
        if scheme == "http" {
            server.wait_stuck(1);
        }
        let helpers = run.fetchers();
        assert!(helpers.len() > 1, "{helpers:?}");
        supervisor_dies(&run, &helpers);
        assert_eq!(bivouac.told(&["stop", &run.id]).2, Some(0));
        run.is_collected();
    }
}

/// A run in the foreground that is killed has nobody to go on with it: `gc` removes it.
#[test]
fn a_killed_run_in_the_foreground_is_collected() {
    let Some(bivouac) = Bivouac::new("foreground") else { return };
    let server = Server::new(vec![b'x'; BYTES], STOPS);
    for at in 1..=STOPS.len() {
        let source = server.url("file");
        let mut run = Begun::new(&bivouac, &[], &fetching(&source, COUNT));
        server.wait_stuck(at);
        let helpers = run.fetchers();
        assert!(!helpers.is_empty());
        run.child.kill().unwrap();
        helpers.iter().for_each(|pid| gone(*pid));
        run.is_collected();
    }
    let mut run = Begun::new(&bivouac, &[], &rendering());
    let pid = run.renderer(1, 0);
    run.child.kill().unwrap();
    gone(pid);
    run.is_collected();
}

/// Whoever is killed while it puts a file into the cache leaves it under a name of its own.
#[test]
fn what_was_on_its_way_into_the_cache_is_collected() {
    let Some(bivouac) = Bivouac::new("cache") else { return };
    let cache = bivouac.state.join("cache/artifacts");
    std::fs::create_dir_all(&cache).unwrap();
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    for name in [".bivouac-0123456789abcdef01234567", "sha256-00"] {
        std::fs::File::create(cache.join(name)).unwrap().set_modified(long_ago).unwrap();
    }
    assert_eq!(bivouac.told(&["gc"]).2, Some(0));
    let left: Vec<_> = std::fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["sha256-00"]);
}
