//! Plan: description and survey become the list of what will be mounted where. Pure, complete and printable.
//!
//! Every refusal that can be known beforehand happens here; after it only the kernel can refuse.

mod entries;
mod show;
#[cfg(test)]
mod tests;

use crate::model::{
    Access, Device, MountKind, Namespaces, Process, Programs, Propagation, Route, Sandbox, Sharing, Trust,
};
use crate::path::{HostPath, PathError, TaskPath};
use crate::survey::{Shape, Survey};
use bivouac_sys::features::{KernelFeatures, OverlayLayers};

pub use entries::upper_name;

/// What launch carries out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The directory that becomes `/`.
    pub task_dir: HostPath,
    /// Where upper layers live.
    pub private_dir: HostPath,
    /// How overlay layers are handed to the kernel.
    pub layers: OverlayLayers,
    /// What fills the root, in order.
    pub fill: Vec<Fill>,
    /// Nodes in `/dev` beside the default set.
    pub devices: Vec<Device>,
    /// What hides or locks parts of `/proc` and `/sys`.
    pub masks: Vec<Mask>,
    /// Whether `/` itself ends up read-only.
    pub access: Access,
    /// What is shared with the host.
    pub namespaces: Namespaces,
    /// The task's host name.
    pub hostname: Option<String>,
    /// The process.
    pub process: Process,
    /// The last capability of this kernel.
    pub last_capability: u32,
    /// Its Landlock ABI.
    pub landlock_abi: u32,
}

/// One thing in the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fill {
    /// Where.
    pub target: TaskPath,
    /// What.
    pub what: What,
}

/// What is put at a place in the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A symbolic link with this content, unless something is there.
    Link(Vec<u8>),
    /// Read-only layers, topmost first, under an upper layer that lives in `private_dir/<name>`.
    Overlay {
        /// Whether the task may write to the upper layer.
        access: Access,
        /// The read-only layers.
        lowers: Vec<HostPath>,
        /// Name of the upper layer's directory.
        name: String,
    },
    /// Something of the host.
    Bind {
        /// What.
        source: HostPath,
        /// How it is reached.
        route: Route,
        /// What the mount point must be.
        shape: Shape,
        /// Whether it may be written.
        access: Access,
        /// Whether its set-user-id bits and devices count.
        trust: Trust,
        /// How later mounts travel.
        propagation: Propagation,
    },
    /// A fresh tmpfs.
    Tmpfs {
        /// Bytes.
        size: Option<u64>,
        /// Mode of its top.
        mode: u32,
        /// Whether programs run from it.
        programs: Programs,
    },
    /// Memory for secrets.
    Secrets {
        /// Bytes.
        size: u64,
    },
    /// The task's own `/dev`, filled before it is attached.
    Dev,
    /// Its own terminals.
    Devpts,
    /// POSIX queues of its ipc namespace.
    Mqueue,
    /// Processes of its pid namespace.
    Proc,
    /// Devices and classes, read-only, as its network namespace sees them.
    Sysfs,
    /// Its own part of the cgroup tree, read-only.
    Cgroup,
}

/// One path of `/proc` or `/sys` that a task must not use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    /// Below which of the two.
    pub below: MaskedTree,
    /// The path from there.
    pub path: String,
    /// How.
    pub how: MaskKind,
}

/// The two kernel trees that need masks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaskedTree {
    /// `/proc`.
    Proc,
    /// `/sys`.
    Sys,
}

/// How a path is taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaskKind {
    /// A null device lies on it.
    NullFile,
    /// An empty read-only directory lies on it.
    EmptyDirectory,
    /// It may be read, not written.
    ReadOnly,
}

/// What Docker and runc hide together, and podman's two. A path that the kernel lacks is skipped.
const MASKS: &[(MaskedTree, &str, MaskKind)] = {
    use MaskKind::{EmptyDirectory, NullFile, ReadOnly};
    use MaskedTree::{Proc, Sys};
    &[
        (Proc, "acpi", EmptyDirectory),
        (Proc, "asound", EmptyDirectory),
        (Proc, "interrupts", NullFile),
        (Proc, "kcore", NullFile),
        (Proc, "keys", NullFile),
        (Proc, "latency_stats", NullFile),
        (Proc, "sched_debug", NullFile),
        (Proc, "scsi", EmptyDirectory),
        (Proc, "timer_list", NullFile),
        (Proc, "timer_stats", NullFile),
        (Proc, "bus", ReadOnly),
        (Proc, "fs", ReadOnly),
        (Proc, "irq", ReadOnly),
        (Proc, "sys", ReadOnly),
        (Proc, "sysrq-trigger", ReadOnly),
        (Sys, "firmware", EmptyDirectory),
        (Sys, "devices/virtual/powercap", EmptyDirectory),
        (Sys, "fs/selinux", EmptyDirectory),
        (Sys, "dev/block", EmptyDirectory),
    ]
};

/// Where nothing of the caller's may be mounted: these are fresh, and ours.
const KERNEL_TREES: [&str; 3] = ["/proc", "/sys", "/dev"];

/// The first Landlock that refuses to cut a file which may only be read: with less, rules would be a promise not kept.
const LANDLOCK_ABI: u32 = 3;

/// A description that cannot be carried out, known before anything is touched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A mount on or below `/proc`, `/sys` or `/dev`.
    #[error(
        "cannot mount at {0}: /proc, /sys and /dev are the task's own and made fresh; use `devices` or `shm_size` for what belongs in /dev"
    )]
    KernelTree(TaskPath),
    /// A mount at `/`.
    #[error("cannot mount at /: the task's directory is there")]
    Top,
    /// No overlay on this kernel.
    #[error("this kernel makes no overlay mounts, which {0} needs; set root = \"readonly\"")]
    NoOverlay(TaskPath),
    /// Two entries at one place.
    #[error("two entries of the chroot environment have the target {0}")]
    Twice(TaskPath),
    /// An entry at `/`.
    #[error("the chroot environment maps {0} to /, where the task's directory is; map its parts instead")]
    EntryAtTop(HostPath),
    /// A device elsewhere.
    #[error("device {0} must be below /dev in the task")]
    DeviceOutside(TaskPath),
    /// A number that the kernel refuses.
    #[error("oom_score_adj {0} is not between -1000 and 1000")]
    OomScore(i16),
    /// A size that is none.
    #[error("{0} must be larger than 0")]
    Zero(&'static str),
    /// No command.
    #[error("the command is empty")]
    NoCommand,
    /// A string that cannot reach the kernel.
    #[error("{what} {value:?} holds a NUL byte")]
    Nul {
        /// Argument or environment variable.
        what: &'static str,
        /// Its text.
        value: String,
    },
    /// A variable without a name or `=`.
    #[error("environment entry {0:?} is not NAME=value")]
    NotAVariable(String),
    /// No Landlock that controls all that the rules are about.
    #[error(
        "landlock rules need a kernel whose Landlock controls truncation (ABI {LANDLOCK_ABI}, Linux 6.2), and this one has {}; leave the option out, or boot with lsm=landlock,... on a newer kernel",
        if *.0 == 0 { "no Landlock".to_owned() } else { format!("ABI {}", .0) }
    )]
    NoLandlock(u32),
    /// A bind that mounts shall travel through, of a source through which none do.
    #[error(
        "cannot mount {0} with propagation: it is on a private mount of the host, through which no mounts travel; run `mount --make-shared` on that mount first"
    )]
    NotShared(HostPath),
    /// A path that is none.
    #[error(transparent)]
    Path(#[from] PathError),
}

impl Plan {
    /// Makes the plan.
    ///
    /// # Errors
    /// [`Refusal`], naming what was asked and why not.
    pub fn for_sandbox(
        sandbox: &Sandbox,
        survey: &Survey,
        features: &KernelFeatures,
    ) -> Result<Plan, Refusal> {
        check_process(&sandbox.process)?;
        if !sandbox.process.confinement.landlock.is_empty() && features.landlock_abi < LANDLOCK_ABI {
            return Err(Refusal::NoLandlock(features.landlock_abi));
        }
        if sandbox.shm_size == 0 {
            return Err(Refusal::Zero("shm_size"));
        }
        if let Some(outside) = sandbox.devices.iter().find(|device| !is_below(&device.target, "/dev")) {
            return Err(Refusal::DeviceOutside(outside.target.clone()));
        }
        let mut fill = entries::fills(sandbox, survey, features)?;
        for mount in &sandbox.mounts {
            fill.push(Fill { target: check_target(&mount.target)?, what: mount_what(&mount.what, survey)? });
        }
        fill.extend(kernel_trees(sandbox)?);
        Ok(Plan {
            task_dir: sandbox.root.task_dir.clone(),
            private_dir: sandbox.root.private_dir.clone(),
            layers: features.overlay,
            fill,
            devices: sandbox.devices.clone(),
            masks: masks(survey),
            access: sandbox.root.access,
            namespaces: sandbox.namespaces.clone(),
            hostname: sandbox.hostname.as_ref().map(|name| name.as_str().to_owned()),
            process: sandbox.process.clone(),
            last_capability: features.last_capability,
            landlock_abi: features.landlock_abi,
        })
    }

    /// Leaves out the view of the task's groups: without a version 2 group of its own it would be of its starter's.
    pub(crate) fn hide_cgroups(&mut self) {
        self.fill.retain(|fill| fill.what != What::Cgroup);
    }
}

/// Refuses what `execve` could not take or the kernel would refuse half-way.
pub(crate) fn check_process(process: &Process) -> Result<(), Refusal> {
    if process.candidates.is_empty() {
        return Err(Refusal::NoCommand);
    }
    if !(-1000..=1000).contains(&process.oom_score_adj) {
        return Err(Refusal::OomScore(process.oom_score_adj));
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if let Some(bad) = process.arguments.iter().find(|argument| argument.contains(&0)) {
        return Err(Refusal::Nul { what: "argument", value: text(bad) });
    }
    for entry in &process.environment {
        if entry.contains(&0) {
            return Err(Refusal::Nul { what: "environment entry", value: text(entry) });
        }
        if entry.iter().position(|byte| *byte == b'=').is_none_or(|at| at == 0) {
            return Err(Refusal::NotAVariable(text(entry)));
        }
    }
    Ok(())
}

fn is_below(path: &TaskPath, tree: &str) -> bool {
    path.as_path().starts_with(tree) && path.as_path() != std::path::Path::new(tree)
}

fn check_target(target: &TaskPath) -> Result<TaskPath, Refusal> {
    if target.components().next().is_none() {
        return Err(Refusal::Top);
    }
    if KERNEL_TREES.iter().any(|tree| target.as_path().starts_with(tree)) {
        return Err(Refusal::KernelTree(target.clone()));
    }
    Ok(target.clone())
}

fn mount_what(what: &MountKind, survey: &Survey) -> Result<What, Refusal> {
    Ok(match what {
        MountKind::Bind { source, propagation, .. }
            if *propagation != Propagation::Private && survey.unshared.contains(source) =>
        {
            return Err(Refusal::NotShared(source.clone()));
        }
        MountKind::Bind { source, route, access, trust, propagation } => What::Bind {
            source: source.clone(),
            route: route.clone(),
            shape: survey.binds.get(source).copied().unwrap_or(Shape::Directory),
            access: *access,
            trust: *trust,
            propagation: *propagation,
        },
        MountKind::Tmpfs { size: Some(0), .. } | MountKind::Secrets { size: 0 } => {
            return Err(Refusal::Zero("the size of a tmpfs"));
        }
        MountKind::Tmpfs { size, mode, programs } => {
            What::Tmpfs { size: *size, mode: *mode, programs: *programs }
        }
        MountKind::Secrets { size } => What::Secrets { size: *size },
    })
}

/// Last, so that nothing mounted before can lie in their way.
fn kernel_trees(sandbox: &Sandbox) -> Result<Vec<Fill>, Refusal> {
    let shm = What::Tmpfs { size: Some(sandbox.shm_size), mode: 0o1777, programs: Programs::Refused };
    let mut trees = vec![
        ("/dev", What::Dev),
        ("/dev/pts", What::Devpts),
        ("/dev/shm", shm),
        ("/dev/mqueue", What::Mqueue),
        ("/proc", What::Proc),
        ("/sys", What::Sysfs),
    ];
    if sandbox.namespaces.cgroup == Sharing::Private {
        trees.push(("/sys/fs/cgroup", What::Cgroup));
    }
    trees.into_iter().map(|(target, what)| Ok(Fill { target: TaskPath::new(target)?, what })).collect()
}

fn masks(survey: &Survey) -> Vec<Mask> {
    let fixed =
        MASKS.iter().map(|(below, path, how)| Mask { below: *below, path: (*path).to_owned(), how: *how });
    let throttles = (0..survey.throttled_processors).map(|number| Mask {
        below: MaskedTree::Sys,
        path: format!("devices/system/cpu/cpu{number}/thermal_throttle"),
        how: MaskKind::EmptyDirectory,
    });
    fixed.chain(throttles).collect()
}
