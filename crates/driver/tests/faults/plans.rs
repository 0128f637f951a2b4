//! Perform, then undo: tasks with options drawn at random. Each starts or is refused in words, is entered, stopped or
//! just removed, and afterwards the machine is as it was.

use crate::rig::{Random, Rig, rounds, start};
use bivouac_driver::config::TaskConfig;
use bivouac_driver::options::Value;
use bivouac_driver::request::TaskRequest;
use bivouac_driver::signals::Signal;
use bivouac_sandbox::model::Network;
use std::time::Duration;

/// What one draw of a kind of option adds to a task.
type Draw = fn(&mut Random, &Rig) -> (&'static str, Value);

fn one_of(random: &mut Random, words: &[&str]) -> Value {
    let at = usize::try_from(random.below(words.len() as u64)).unwrap_or(0);
    Value::from(words.get(at).copied().unwrap_or_default())
}

fn mount(random: &mut Random, rig: &Rig) -> Value {
    let target =
        one_of(random, &["/volume", "/local/deep/er", "/etc/app", "/usr/local/x", "/tmp/y", "/proc/z"]);
    let readonly = ("readonly", Value::from(random.below(2) == 0));
    if random.below(2) == 0 {
        let size = one_of(random, &["1m", "64k", "0", "8m"]);
        return Value::map([("type", Value::from("tmpfs")), ("target", target), ("size", size), readonly]);
    }
    let own = rig.directory.path().join("volume");
    let missing = rig.directory.path().join("missing");
    let source =
        [own.to_str().unwrap(), "/etc/hostname", "/usr/share", missing.to_str().unwrap(), "/dev/null"];
    Value::map([("source", one_of(random, &source)), ("target", target), readonly])
}

#[rustfmt::skip]
const DRAWS: &[Draw] = &[
    |r, _| ("work_dir", one_of(r, &["/local", "/local/new/one", "/usr", "/no/such", "/proc/self/fd/3"])),
    |r, _| ("pid_mode", one_of(r, &["private", "host"])),
    |r, _| ("ipc_mode", one_of(r, &["private", "host"])),
    |r, _| ("cgroup_mode", one_of(r, &["private", "host"])),
    |r, _| ("kill_mode", one_of(r, &["process", "group"])),
    |r, _| ("cap_add", Value::List(vec![one_of(r, &["net_raw", "sys_admin", "all", "mknod"])])),
    |r, _| ("cap_drop", Value::List(vec![one_of(r, &["all", "chown", "setuid"])])),
    |r, _| ("readonly_root", Value::from(r.below(2) == 0)),
    |r, _| ("root", one_of(r, &["overlay", "readonly"])),
    |r, _| ("init", Value::from(r.below(2) == 0)),
    |r, _| ("shm_size", one_of(r, &["1m", "64m", "4k"])),
    |r, _| ("hostname", one_of(r, &["a", "a.b.c", "-", "x_y"])),
    |r, _| ("extra_hosts", Value::List(vec![one_of(r, &["a:10.0.0.1", "b:::1", "bad"])])),
    |r, _| ("core", one_of(r, &["host", "off"])),
    |r, _| ("no_new_privs", Value::from(r.below(2) == 0)),
    |r, _| ("ulimit", Value::map([("nofile", one_of(r, &["64", "1024:2048", "8:4", "unlimited"]))])),
    |r, rig| ("mount", Value::List(vec![mount(r, rig), mount(r, rig)])),
    |r, _| ("devices", Value::List(vec![Value::map([
        ("host_path", one_of(r, &["/dev/null", "/dev/zero", "/dev/no-such", "/etc/passwd"])),
        ("container_path", one_of(r, &["/dev/mine", "/dev/null", "/local/dev"])),
    ])])),
];

/// A task, or the sentence with which its options are refused.
fn task(random: &mut Random, rig: &Rig) -> Result<TaskRequest, String> {
    let scripts =
        ["exit 0", "sleep 1000", "sleep 1000 & mkdir -p /tmp/a/b; exit 3", "trap '' TERM; sleep 1000"];
    let args = Value::List(vec![Value::from("-c"), one_of(random, &scripts)]);
    let mut options: Vec<(&str, Value)> = vec![("command", Value::from("/bin/sh")), ("args", args)];
    for _ in 0..random.below(5) {
        let at = usize::try_from(random.below(DRAWS.len() as u64)).unwrap_or(0);
        let drawn = DRAWS.get(at).map(|draw| draw(random, rig));
        // An option stands once.
        let is_new = |name: &str| options.iter().all(|(known, _)| *known != name);
        if let Some(drawn) = drawn.filter(|(name, _)| is_new(name)) {
            options.push(drawn);
        }
    }
    let mut request = rig.request("t", "");
    request.network = if random.below(3) == 0 { Network::Own } else { Network::Host };
    request.user = if random.below(4) == 0 { "root".into() } else { String::new() };
    request.config = TaskConfig::decode(&Value::map(options)).map_err(|error| error.to_string())?;
    Ok(request)
}

/// Covers: 4-every-step
#[test]
fn what_is_performed_is_undone_whatever_the_plan() {
    let Some(rig) = Rig::new("plans") else { return };
    std::fs::create_dir(rig.directory.path().join("volume")).unwrap();
    let seed = std::env::var("BIVOUAC_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(20_261_126);
    let mut random = Random::new(seed);
    let (mut started, mut refused) = (0, 0);
    // With fewer hardly a plan is drawn that is refused.
    for round in 0..rounds(40, 3_000).max(24) {
        let request = match task(&mut random, &rig) {
            Ok(request) => request,
            Err(text) => {
                assert!(text.len() > 15, "round {round}: {text}");
                refused += 1;
                continue;
            }
        };
        let what = format!("seed {seed}, round {round}: {:?}", request.config);
        match start(&rig.engine, &request, None) {
            Err(error) => {
                refused += 1;
                assert!(error.to_string().len() > 15, "{what}: {error}");
            }
            Ok(running) => {
                started += 1;
                match random.below(3) {
                    0 => drop(crate::surprises::enter(&rig.engine, "t", "exit 0")),
                    1 => drop(rig.engine.stop("t", Signal::TERM, Duration::from_millis(20))),
                    _ => {}
                }
                drop(running);
            }
        }
        rig.forget("t");
        // A run that goes wrong is named with everything that it takes to do it again.
        rig.settle_after(&what);
    }
    assert!(started > 10 && refused > 1, "{started} started, {refused} were refused: that proves little");
    rig.finish(format!("{started} plans performed and undone, {refused} refused in words; seed {seed}"));
}
