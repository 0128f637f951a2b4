//! Golden frames: the bytes of every message, per version, so that a change which an older shim or face would not
//! understand is seen in review.
//!
//! `BIVOUAC_BLESS=1 cargo test -p bivouac-shim golden` writes the files of the current version. After a release the
//! files of its version are never written again: a test that fails then needs a new version, not a blessing.

use super::frame::{HEADER, LAUNCH_LIMIT, VERSION, decode, encode};
use super::*;
use crate::status::tests::{exit, saved, status};
use bivouac_sandbox::model::*;
use bivouac_sandbox::path::TaskPath;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::path::PathBuf;

fn process() -> Process {
    Process {
        asked: "sleep".into(),
        candidates: vec![Candidate {
            path: TaskPath::new("/bin/sleep").unwrap(),
            execute_bit: ExecuteBit::Leave,
        }],
        arguments: vec![serde_bytes::ByteBuf::from(b"1".to_vec())],
        environment: vec![serde_bytes::ByteBuf::from(b"A=\xff".to_vec())],
        work_dir: TaskPath::new("/").unwrap(),
        identity: Identity { uid: 65534, gid: 65534, groups: vec![65534] },
        capabilities: CapabilitySets::default(),
        confinement: Confinement { gain: PrivilegeGain::Never, filter: None, landlock: Vec::new() },
        rlimits: vec![Rlimit { resource: 7, soft: 1024, hard: u64::MAX }],
        oom_score_adj: 0,
        umask: 0o22,
        init: Init::Command,
    }
}

fn sandbox() -> Sandbox {
    Sandbox {
        root: Root {
            task_dir: HostPath::new("/srv/task").unwrap(),
            private_dir: HostPath::new("/srv/private").unwrap(),
            entries: vec![],
            access: Access::ReadWrite,
        },
        mounts: vec![],
        devices: vec![],
        shm_size: 64 << 20,
        namespaces: Namespaces {
            pid: Sharing::Private,
            ipc: Sharing::Private,
            cgroup: Sharing::Host,
            network: Network::Host,
        },
        hostname: None,
        process: process(),
    }
}

fn size() -> TerminalSize {
    TerminalSize { rows: 24, columns: 80 }
}

fn files() -> StreamsKind {
    StreamsKind::Files { stdin: Stream::Null, stdout: Stream::Given, stderr: Stream::Given }
}

pub(crate) fn launch() -> Launch {
    Launch {
        task: "alloc/web".into(),
        run_dir: HostPath::new("/run/bivouac/tasks/a").unwrap(),
        sandbox: sandbox(),
        cgroup: saved(),
        features: KernelFeatures::OLDEST.into(),
        streams: TaskStreams::Files { stdin: Stream::Null, stdout: Output::Given, stderr: Output::Given },
        on_starter_gone: OnStarterGone::Stop,
        kill_mode: KillMode::Process,
        deadline_ms: 30_000,
    }
}

fn log(name: &str) -> Output {
    Output::Log(LogFiles {
        name: LogName::new(name.into()).unwrap(),
        most_files: NonZeroU32::MIN,
        most_bytes: NonZeroU64::MAX,
        times: LogTimes::None,
    })
}

fn launch_with_logs() -> Launch {
    let (stdout, stderr) = (log("web.stdout"), log("web.stderr"));
    Launch { streams: TaskStreams::Files { stdin: Stream::Given, stdout, stderr }, ..launch() }
}

fn launch_with_times() -> Launch {
    let mut launch = launch_with_logs();
    if let TaskStreams::Files { stdout: Output::Log(files), .. } = &mut launch.streams {
        files.times = LogTimes::Kept;
    }
    launch
}

/// The body of a request with most kinds of value in it.
pub(crate) fn exec_request() -> Vec<u8> {
    let exec = Exec { process: process(), streams: StreamsKind::Terminal(size()), deadline_ms: Some(5) };
    encode(&Request::Exec(Box::new(exec)), LAUNCH_LIMIT).unwrap().split_off(HEADER)
}

fn requests() -> Vec<(&'static str, Request)> {
    let exec = Exec { process: process(), streams: files(), deadline_ms: Some(5_000) };
    vec![
        ("launch", Request::Launch(Box::new(launch()))),
        ("launch_with_logs", Request::Launch(Box::new(launch_with_logs()))),
        ("launch_with_times", Request::Launch(Box::new(launch_with_times()))),
        ("state", Request::State),
        ("wait", Request::Wait),
        ("wait_oom", Request::WaitOom { seen: 3 }),
        ("signal", Request::Signal { signal: 15 }),
        ("stop", Request::Stop { signal: 2, grace_ms: 5_000 }),
        ("exec", Request::Exec(Box::new(exec))),
        ("resize", Request::Resize(size())),
        ("terminal", Request::Terminal),
        ("stats", Request::Stats),
        ("destroy", Request::Destroy(Leftovers::Kill)),
    ]
}

fn refusals() -> Vec<(&'static str, Refusal)> {
    vec![
        ("not_started", Refusal::NotStarted { text: "command x not found".into(), exit_code: 127 }),
        ("not_running", Refusal::NotRunning),
        ("still_running", Refusal::StillRunning),
        ("stuck", Refusal::Stuck { seconds: 15 }),
        ("too_many", Refusal::TooMany { what: "exec sessions".into(), most: 64 }),
        ("no_terminal", Refusal::NoTerminal),
        ("paused", Refusal::Paused),
        ("failed", Refusal::Failed { what: "kill the group".into(), answer: "EPERM".into() }),
        ("not_understood", Refusal::NotUnderstood { version: 1, text: "what?".into() }),
    ]
}

fn responses() -> Vec<(&'static str, Response)> {
    let started = Started { pid: 7, command: "/bin/sleep".into() };
    let end = ExecEnd { ending: crate::status::Ending::Exited { code: 43 }, cause: ExecCause::Deadline };
    let mut all = vec![
        ("launched", Response::Launched(started.clone())),
        ("state", Response::State(Box::new(status()))),
        ("exited", Response::Exited(exit())),
        ("oom", Response::Oom { kills: 4 }),
        ("done", Response::Done),
        ("started", Response::Started(started)),
        ("ended", Response::Ended(end)),
        ("stats", Response::Stats(Box::new(TaskStats { group: Stats::default(), oom_kills: 1 }))),
    ];
    all.extend(refusals().into_iter().map(|(name, refusal)| (name, Response::Refused(refusal))));
    all
}

fn golden(kind: &str, name: &str) -> PathBuf {
    let folder = format!("{}/golden/v{VERSION}", env!("CARGO_MANIFEST_DIR"));
    PathBuf::from(folder).join(format!("{kind}-{name}.frame"))
}

fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(kind: &str, name: &str, message: &T) {
    let frame = encode(message, LAUNCH_LIMIT).unwrap();
    let path = golden(kind, name);
    if std::env::var_os("BIVOUAC_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &frame).unwrap();
    }
    let kept = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(frame, kept, "{} is written differently", path.display());
    let body = kept.get(HEADER..).unwrap();
    assert_eq!(&decode::<T>(body).unwrap(), message, "{} reads differently", path.display());
}

#[test]
fn golden_requests() {
    for (name, request) in requests() {
        check("request", name, &request);
    }
}

#[test]
fn golden_responses() {
    for (name, response) in responses() {
        check("response", name, &response);
    }
}

/// Shims outlive upgrades: what one of any earlier version says is understood, and what it is asked is what it knows.
/// (A launch is only ever sent to a shim of this version.)
///
/// Covers: 4-upgrade
#[test]
fn shims_of_every_earlier_version_are_understood() {
    for version in 1..VERSION {
        let folder = format!("{}/golden/v{version}", env!("CARGO_MANIFEST_DIR"));
        let kept = |kind: &str, name: &str| std::fs::read(format!("{folder}/{kind}-{name}.frame")).ok();
        let mut seen = 0;
        for (name, response) in responses() {
            let Some(frame) = kept("response", name) else { continue };
            let body = frame.get(HEADER..).unwrap();
            let mut expected = response;
            // The frames name the version of the shim that said them.
            if let Response::State(status) = &mut expected {
                status.protocol = version;
            }
            assert_eq!(decode::<Response>(body).unwrap(), expected, "v{version} {name}");
            seen += 1;
        }
        for (name, request) in requests().into_iter().filter(|(name, _)| !name.starts_with("launch")) {
            let Some(frame) = kept("request", name) else { continue };
            let today = encode(&request, LAUNCH_LIMIT).unwrap();
            assert_eq!(frame.get(HEADER..), today.get(HEADER..), "v{version} {name}");
            seen += 1;
        }
        assert!(seen >= 20, "only {seen} frames of version {version}");
    }
}

/// Whatever a face of tomorrow adds to a message is passed over today.
///
/// Covers: 4-upgrade
#[test]
fn unknown_fields_are_passed_over_and_missing_options_are_defaulted() {
    #[derive(Serialize)]
    enum Tomorrow {
        Stop { signal: i32, of_tomorrow: Vec<u8>, grace_ms: u64 },
        Ended { ending: crate::status::Ending },
    }
    let stop = Tomorrow::Stop { signal: 2, of_tomorrow: vec![1, 2], grace_ms: 7 };
    let body = encode(&stop, LAUNCH_LIMIT).unwrap().split_off(HEADER);
    assert_eq!(decode::<Request>(&body).unwrap(), Request::Stop { signal: 2, grace_ms: 7 });
    let ended = Tomorrow::Ended { ending: crate::status::Ending::Exited { code: 1 } };
    let body = encode(&ended, LAUNCH_LIMIT).unwrap().split_off(HEADER);
    let end = ExecEnd { ending: crate::status::Ending::Exited { code: 1 }, cause: ExecCause::Own };
    assert_eq!(decode::<Response>(&body).unwrap(), Response::Ended(end));
}

#[test]
fn a_request_of_tomorrow_is_refused_by_its_name() {
    #[derive(Serialize)]
    enum Tomorrow {
        Hibernate,
    }
    let body = encode(&Tomorrow::Hibernate, LAUNCH_LIMIT).unwrap().split_off(HEADER);
    let error = decode::<Request>(&body).unwrap_err().to_string();
    assert!(error.contains("Hibernate"), "{error}");
}

#[test]
fn every_cut_of_every_message_is_an_error() {
    for (name, request) in requests() {
        let body = encode(&request, LAUNCH_LIMIT).unwrap().split_off(HEADER);
        for cut in 0..body.len() {
            assert!(decode::<Request>(body.get(..cut).unwrap()).is_err(), "{name} cut at {cut}");
        }
    }
}

#[test]
fn features_travel_unchanged() {
    for features in [KernelFeatures::OLDEST, KernelFeatures::NEWEST] {
        assert_eq!(KernelFeatures::from(Features::from(features)), features);
    }
}
