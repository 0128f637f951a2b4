//! Times the engine as the floor program times the kernel: `launch_loop TINY RUNS [GAP_US]`.
//!
//! One run is what a default task costs: its cgroup with limits and device rules, its directories, the launch,
//! up to the first instruction of TINY, which writes the time of it to its standard output. Prints one row of
//! `case,figure,runs,min,p25,median,p90,p99,mean` in microseconds, as `floor/README.md` says.

#![forbid(unsafe_code)]

use bivouac_cgroup::{
    Bytes, CpuShares, DeviceAccess, DeviceKind, DevicePolicy, DeviceRule, GroupName, GroupPath, Host, Limits,
    Memory, Pids, Placement, Plan,
};
use bivouac_sandbox::capability::CapSet;
use bivouac_sandbox::launch::{Setting, Streams, launch};
use bivouac_sandbox::model::*;
use bivouac_sandbox::seccomp::{Compat32, MountGrant, Profile, Request, compile};
use bivouac_sandbox::{EmptyMounts, HostPath, RootSwitch, Sandbox, TaskPath};
use bivouac_sys::clone::OneThread;
use bivouac_sys::features::KernelFeatures;
use rustix::fd::AsFd;
use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

type Anything<T> = Result<T, Box<dyn Error>>;

fn main() -> Anything<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [tiny, runs, rest @ ..] = arguments.as_slice() else {
        return Err("usage: launch_loop TINY RUNS [GAP_US]".into());
    };
    let runs: u32 = runs.parse()?;
    let gap = Duration::from_micros(rest.first().map_or(Ok(0), |gap| gap.parse())?);
    let base = std::path::PathBuf::from(format!("/var/tmp/bivouac-bench-{}", std::process::id()));
    let proof = OneThread::prove()?;
    let empty = EmptyMounts::make(RootSwitch::Detach)?;
    let features = KernelFeatures::probe()?;
    let host = Host::detect()?;
    let mut times = Vec::new();
    for run in 0..runs + runs / 10 + 5 {
        std::thread::sleep(gap);
        let time = once(run, &base, Path::new(tiny), (&proof, &empty), features, &host)?;
        if run >= runs / 10 + 5 {
            times.push(time);
        }
        // As often as the floor program does it: what is removed is made anew from warm blocks.
        if run % 50 == 49 {
            std::fs::remove_dir_all(&base)?;
        }
    }
    match std::fs::remove_dir_all(&base) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    report(&format!("bivouac/gap{}", gap.as_micros()), &mut times);
    Ok(())
}

fn once(
    run: u32,
    base: &Path,
    tiny: &Path,
    (proof, empty): (&OneThread, &EmptyMounts),
    features: KernelFeatures,
    host: &Host,
) -> Anything<f64> {
    let (mut reader, writer) = std::io::pipe()?;
    let home = base.join(run.to_string());
    let started = monotonic();
    for name in ["task/local", "task/tmp", "task/alloc", "task/secrets", "private"] {
        std::fs::create_dir_all(home.join(name))?;
    }
    let placement = Placement::Ours {
        parent: GroupPath::default(),
        name: GroupName::new(format!("bivouac-bench-{}-{run}", std::process::id()))?,
    };
    let limits = Limits {
        memory: Memory { max: Some(Bytes::from_mib(256)), ..Memory::default() },
        cpu_shares: Some(CpuShares::new(512)),
        pids: Some(Pids::max(512)?),
        ..Limits::default()
    };
    let group = Plan::new(host, &placement, &limits, &DevicePolicy::Allow(rules()))?.create()?;
    let entrance = group.entrance()?;
    let setting = Setting {
        proof,
        features,
        unified: entrance.unified.as_ref().map(AsFd::as_fd),
        tasks: &entrance.tasks,
        init: None,
        deadline: Instant::now() + Duration::from_secs(10),
        failing: None,
    };
    let streams = Streams::Files { stdin: None, stdout: Some(writer.into()), stderr: None };
    let running = launch(&setting, empty, &sandbox(&home, tiny)?, streams)?;
    let mut stamp = [0u8; 16];
    std::io::Read::read_exact(&mut reader, &mut stamp)?;
    bivouac_sys::wait::reap_blocking(running.child.pidfd.as_fd())?;
    drop(running);
    group.remove(Duration::from_secs(5))?;
    let (seconds, nanos) = stamp.split_at(8);
    let first =
        i64::from_ne_bytes(seconds.try_into()?) * 1_000_000_000 + i64::from_ne_bytes(nanos.try_into()?);
    Ok((first - started) as f64 / 1000.0)
}

fn monotonic() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

/// The default set of device rules.
fn rules() -> Vec<DeviceRule> {
    let make = [DeviceKind::Char, DeviceKind::Block].map(|kind| DeviceRule::every(kind, DeviceAccess::MKNOD));
    let nodes = [(1, 3), (1, 5), (1, 7), (5, 0), (1, 8), (1, 9), (5, 2), (10, 200)];
    let nodes = nodes.map(|(major, minor)| DeviceRule::char(major, minor, DeviceAccess::ALL));
    let pts = DeviceRule {
        major: bivouac_cgroup::DeviceNumber::Is(136),
        ..DeviceRule::every(DeviceKind::Char, DeviceAccess::ALL)
    };
    make.into_iter().chain(nodes).chain([pts]).collect()
}

fn sandbox(home: &Path, tiny: &Path) -> Anything<Sandbox> {
    let task = |path: &str| TaskPath::new(path);
    let entries =
        ["/bin", "/etc", "/lib", "/lib32", "/lib64", "/sbin", "/usr"].map(|path| -> Anything<Entry> {
            Ok(Entry {
                source: HostPath::new(path)?,
                target: task(path)?,
                show: Show::Overlay { above: Vec::new() },
            })
        });
    let bind = |source: &Path, target: &str| -> Anything<Mount> {
        let what = MountKind::Bind {
            source: HostPath::new(source)?,
            route: Route::Anywhere,
            access: Access::ReadOnly,
            trust: Trust::Stripped,
            propagation: Propagation::Private,
        };
        Ok(Mount { target: task(target)?, what })
    };
    let bounding = CapSet::from_bits(0xa804_05fb);
    Ok(Sandbox {
        root: Root {
            task_dir: HostPath::new(home.join("task"))?,
            private_dir: HostPath::new(home.join("private"))?,
            entries: entries.into_iter().collect::<Anything<_>>()?,
            access: Access::ReadWrite,
        },
        mounts: vec![bind(&home.join("task/alloc"), "/alloc")?, bind(tiny, "/tiny")?],
        devices: Vec::new(),
        shm_size: 64 << 20,
        namespaces: Namespaces {
            pid: Sharing::Private,
            ipc: Sharing::Private,
            cgroup: Sharing::Host,
            network: Network::Host,
        },
        hostname: None,
        process: Process {
            asked: "/tiny".to_owned(),
            candidates: vec![Candidate { path: task("/tiny")?, execute_bit: ExecuteBit::Leave }],
            arguments: Vec::new(),
            environment: Vec::new(),
            work_dir: task("/")?,
            identity: Identity { uid: 65534, gid: 65534, groups: vec![65534] },
            capabilities: CapabilitySets {
                bounding,
                permitted: bounding,
                effective: bounding,
                inheritable: bounding,
                ambient: bounding,
            },
            confinement: Confinement {
                gain: PrivilegeGain::Possible,
                filter: filter(),
                landlock: Vec::new(),
            },
            rlimits: Vec::new(),
            oom_score_adj: 0,
            umask: 0o022,
            init: Init::Command,
        },
    })
}

/// Compiled once, as a face does it.
fn filter() -> Option<bivouac_sandbox::seccomp::Filter> {
    static ONCE: std::sync::OnceLock<Option<bivouac_sandbox::seccomp::Filter>> = std::sync::OnceLock::new();
    let request = Request {
        profile: Profile::Default,
        granted: CapSet::from_bits(0),
        mount_allowed: MountGrant::Refused,
        compat32: Compat32::NoSocketcall,
    };
    ONCE.get_or_init(|| compile(&request)).clone()
}

#[expect(clippy::print_stdout, reason = "its rows are what this program is for")]
fn report(name: &str, times: &mut [f64]) {
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times.get(((times.len() - 1) as f64 * share) as usize).copied().unwrap_or(0.0);
    let mean = times.iter().sum::<f64>() / times.len() as f64;
    println!(
        "{name},exec_start,{},{:.2},{:.2},{:.2},{:.2},{:.2},{mean:.2}",
        times.len(),
        at(0.0),
        at(0.25),
        at(0.5),
        at(0.9),
        at(0.99)
    );
}
