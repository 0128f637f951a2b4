//! Prepare: the plan's paths are opened, once, and everything the child needs is laid out in memory.
//!
//! The last place that may fail at leisure. Mounts that need none of the task's namespaces are made here,
//! detached; they hang on descriptors of this process and vanish with them.

use super::devices;
use super::failure::{Failure, advice};
use super::find::Place;
use super::landlock::{Ruleset, rulesets};
use super::{Lent, Streams};
use crate::memory::Memory;
use crate::model::{Access, Network, PrivilegeGain, Process, Programs, Propagation, Route, Sharing, Trust};
use crate::path::{HostPath, TaskPath};
use crate::plan::{MaskKind, MaskedTree, Plan, What};
use crate::survey::{Shape, open_source};
use bivouac_sys::credentials::CapabilityMasks;
use bivouac_sys::exec::StringArray;
use bivouac_sys::features::OverlayLayers;
use bivouac_sys::mount::{Propagation as Kernel, Reach, mount_setattr};
use bivouac_sys::seccomp::SockFilter;
use bivouac_sys::{Errno, credentials};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, fchmod, fchown, fstat, makedev, mkdirat, mknodat, openat, statat,
};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_fd,
    fsconfig_set_string, fsmount, fsopen, open_tree,
};
use rustix::process::{Gid, Uid};
use std::ffi::CString;

/// All that a step may touch.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// The namespace that the child copies.
    pub(crate) empty: OwnedFd,
    pub(crate) tasks: Vec<OwnedFd>,
    pub(crate) spaces: Spaces,
    pub(crate) network: Option<OwnedFd>,
    pub(crate) hostname: Option<String>,
    pub(crate) root: OwnedFd,
    pub(crate) scratch: OwnedFd,
    pub(crate) fills: Vec<Ready>,
    pub(crate) masks: Vec<ReadyMask>,
    /// The fresh proc and sysfs, once the child has attached them.
    pub(crate) proc: Option<OwnedFd>,
    pub(crate) sys: Option<OwnedFd>,
    pub(crate) access: Access,
    pub(crate) streams: [OwnedFd; 3],
    pub(crate) terminal: Option<OwnedFd>,
    pub(crate) held: Held,
    pub(crate) person: Person,
    pub(crate) status: OwnedFd,
    /// Number of the parent's end of the status pipe, to be closed in the child.
    pub(crate) parent_end: i32,
}

/// Which namespaces are the task's own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spaces {
    pub(crate) cgroup: Sharing,
    pub(crate) own_network: Sharing,
}

/// Who the process becomes and what it runs; the part that `enter` needs too.
#[derive(Debug)]
pub(crate) struct Person {
    pub(crate) places: Vec<Place>,
    pub(crate) found: usize,
    pub(crate) arguments: StringArray,
    pub(crate) environment: StringArray,
    pub(crate) init: Option<OwnedFd>,
    pub(crate) work_dir: Target,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) bounding: u64,
    pub(crate) last_capability: u32,
    pub(crate) launcher: CapabilityMasks,
    pub(crate) masks: CapabilityMasks,
    pub(crate) ambient: u64,
    pub(crate) gain: PrivilegeGain,
    pub(crate) filter: Vec<SockFilter>,
    pub(crate) landlock: Vec<Ruleset>,
    pub(crate) rlimits: Vec<(u32, u64, u64)>,
    pub(crate) oom_score: CString,
    pub(crate) umask: u32,
}

/// What must outlive the telling of the exit status: dropping it may sync a whole disk.
#[derive(Debug, Default)]
pub struct Held {
    pub(crate) overlays: Vec<OwnedFd>,
    pub(crate) devpts: Option<OwnedFd>,
}

impl Held {
    /// The same, under numbers from `lowest` on.
    ///
    /// # Errors
    /// `EINVAL`, `EMFILE`: that number is above the limit of this process.
    pub fn copy_above(&self, lowest: i32) -> Result<Held, Errno> {
        let copy = |fd: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(fd, lowest);
        let overlays = self.overlays.iter().map(copy).collect::<Result<_, _>>()?;
        Ok(Held { overlays, devpts: self.devpts.as_ref().map(copy).transpose()? })
    }
}

/// A place in the root, cut into the strings that the child needs to open or make it.
#[derive(Debug)]
pub(crate) struct Target {
    /// From the root, without the first `/`; `.` for the root.
    pub(crate) path: CString,
    /// Each directory above it and the name to make there, from the top.
    pub(crate) parts: Vec<(CString, CString)>,
    pub(crate) shape: Shape,
    pub(crate) links: Links,
}

/// Whether links on the way are followed (within the root).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Links {
    Follow,
    Refuse,
}

/// One row of the fill, ready for the child.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) target: Target,
    pub(crate) what: ReadyWhat,
}

/// What the child does there.
#[derive(Debug)]
pub(crate) enum ReadyWhat {
    Link(CString),
    Attach(OwnedFd),
    Tmpfs { size: Option<CString>, mode: CString, attributes: MountAttrFlags },
    Fresh(&'static std::ffi::CStr, Keep),
}

/// What a fresh kernel file system is kept for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    Nothing,
    Proc,
    Sys,
}

/// A mask, ready for the child.
#[derive(Debug)]
pub(crate) struct ReadyMask {
    pub(crate) tree: MaskedTree,
    pub(crate) path: CString,
    pub(crate) how: MaskKind,
}

const SAFE: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NODEV);
/// `argv[0]` by which the shim's program knows that it is a reaper in front of a command.
pub const INIT_NAME: &str = "bivouac-init";
/// The group `tty`, whose number every distribution shares.
const TTY_GROUP: u32 = 5;

impl Prepared {
    pub(crate) fn new(
        plan: &Plan,
        Lent { empty, tasks, init }: Lent,
        streams: Streams,
        (parent_end, status): (&OwnedFd, OwnedFd),
    ) -> Result<Prepared, Failure> {
        let scratch = scratch().map_err(|errno| {
            Failure::preparing("make the null device and empty directory that masks are cut from", errno)
        })?;
        let mut held = Held::default();
        let mut fills = Vec::with_capacity(plan.fill.len());
        for fill in &plan.fill {
            let goal = || format!("make ready {} for {}", fill.what, fill.target);
            let ready = ready(&fill.target, &fill.what, plan, &mut held)
                .map_err(|errno| Failure::preparing(goal(), errno).advise(advice(&fill.what, errno)))?;
            fills.push(ready);
        }
        let person = Person::new(&plan.process, (plan.last_capability, plan.landlock_abi), init)?;
        let (streams, terminal) = place_streams(streams, &scratch, held.devpts.as_ref(), &person)
            .map_err(|errno| Failure::preparing("set up the standard streams", errno))?;
        Ok(Prepared {
            empty,
            tasks,
            spaces: Spaces {
                cgroup: plan.namespaces.cgroup,
                own_network: if plan.namespaces.network == Network::Own {
                    Sharing::Private
                } else {
                    Sharing::Host
                },
            },
            network: join_network(&plan.namespaces.network)?,
            hostname: plan.hostname.clone(),
            root: task_root(&plan.task_dir).map_err(|errno| {
                Failure::preparing(format!("make {} the task's root", plan.task_dir), errno)
            })?,
            scratch,
            fills,
            masks: plan
                .masks
                .iter()
                .map(|mask| ReadyMask {
                    tree: mask.below,
                    path: c_string(mask.path.as_bytes()),
                    how: mask.how,
                })
                .collect(),
            proc: None,
            sys: None,
            access: plan.access,
            streams,
            terminal,
            held,
            person,
            parent_end: parent_end.as_raw_fd(),
            status,
        })
    }

    pub(crate) fn cgroup_namespace(&self) -> bool {
        self.spaces.cgroup == Sharing::Private
    }
    pub(crate) fn own_network(&self) -> bool {
        self.spaces.own_network == Sharing::Private
    }
    pub(crate) fn has_terminal(&self) -> bool {
        self.terminal.is_some()
    }
    pub(crate) fn locks_root(&self) -> bool {
        self.access == Access::ReadOnly
    }
    pub(crate) fn has_landlock(&self) -> bool {
        !self.person.landlock.is_empty()
    }
    pub(crate) fn is_sealed(&self) -> bool {
        self.person.gain == PrivilegeGain::Never
    }
    pub(crate) fn filter_is_open(&self) -> bool {
        !self.person.filter.is_empty() && !self.is_sealed()
    }
    pub(crate) fn filter_is_sealed(&self) -> bool {
        !self.person.filter.is_empty() && self.is_sealed()
    }
}

impl Person {
    pub(crate) fn new(
        process: &Process,
        (last_capability, landlock_abi): (u32, u32),
        init: Option<OwnedFd>,
    ) -> Result<Person, Failure> {
        let places = process.candidates.iter().map(|candidate| Place {
            relative: relative(&candidate.path),
            absolute: candidate.path.to_c(),
            execute_bit: candidate.execute_bit,
        });
        // The child puts the path that it finds first; behind a reaper the command is the reaper's argument.
        let mut arguments = vec![CString::default()];
        if init.is_some() {
            arguments.insert(0, c_string(INIT_NAME.as_bytes()));
        }
        arguments.extend(process.arguments.iter().map(|argument| c_string(argument)));
        let sets = &process.capabilities;
        let launcher = credentials::capget()
            .map_err(|errno| Failure::preparing("read the launcher's capabilities", errno))?;
        Ok(Person {
            places: places.collect(),
            found: 0,
            arguments: StringArray::new(arguments),
            environment: StringArray::new(process.environment.iter().map(|entry| c_string(entry)).collect()),
            init,
            work_dir: Target::new(&process.work_dir, Shape::Directory, Links::Follow),
            uid: process.identity.uid,
            gid: process.identity.gid,
            groups: process.identity.groups.clone(),
            bounding: sets.bounding.bits(),
            last_capability,
            launcher,
            masks: CapabilityMasks {
                effective: sets.effective.bits(),
                permitted: sets.permitted.bits(),
                inheritable: sets.inheritable.bits(),
            },
            ambient: sets.ambient.bits(),
            gain: process.confinement.gain,
            filter: process.confinement.filter.as_ref().map(to_kernel).unwrap_or_default(),
            landlock: rulesets(&process.confinement.landlock, landlock_abi),
            rlimits: process.rlimits.iter().map(|limit| (limit.resource, limit.soft, limit.hard)).collect(),
            oom_score: c_string(process.oom_score_adj.to_string().as_bytes()),
            umask: process.umask,
        })
    }
}

fn to_kernel(filter: &crate::seccomp::Filter) -> Vec<SockFilter> {
    let convert = |i: &crate::seccomp::Instruction| SockFilter { code: i.code, jt: i.jt, jf: i.jf, k: i.k };
    filter.instructions.iter().map(convert).collect()
}

impl Target {
    pub(crate) fn new(path: &TaskPath, shape: Shape, links: Links) -> Target {
        let mut parts = Vec::new();
        let mut above = b".".to_vec();
        for name in path.components() {
            parts.push((c_string(&above), c_string(name)));
            if above == b"." {
                above.clear();
            } else {
                above.push(b'/');
            }
            above.extend_from_slice(name);
        }
        Target { path: relative(path), parts, shape, links }
    }
}

pub(crate) fn relative(path: &TaskPath) -> CString {
    let bytes = path.as_bytes().strip_prefix(b"/").unwrap_or_default();
    c_string(if bytes.is_empty() { b"." } else { bytes })
}

/// Text that was checked for NUL when the plan was made; cut there all the same.
fn c_string(bytes: &[u8]) -> CString {
    let until = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    CString::new(bytes.get(..until).unwrap_or_default()).unwrap_or_default()
}

fn ready(target: &TaskPath, what: &What, plan: &Plan, held: &mut Held) -> Result<Ready, Errno> {
    let at = |shape, links| Target::new(target, shape, links);
    let fresh = |kind, keep| Ready {
        target: at(Shape::Directory, Links::Refuse),
        what: ReadyWhat::Fresh(kind, keep),
    };
    Ok(match what {
        What::Link(content) => {
            Ready { target: at(Shape::File, Links::Follow), what: ReadyWhat::Link(c_string(content)) }
        }
        What::Overlay { access, lowers, name } => {
            let mount = overlay(lowers, &plan.private_dir, name, plan.layers)?;
            if *access == Access::ReadOnly {
                let read_only = u64::from(MountAttrFlags::MOUNT_ATTR_RDONLY.bits());
                mount_setattr(mount.as_fd(), Reach::One, read_only, Kernel::Keep)?;
            }
            held.overlays.push(mount.try_clone().map_err(from_std)?);
            Ready { target: at(Shape::Directory, Links::Follow), what: ReadyWhat::Attach(mount) }
        }
        What::Bind { source, route, shape, access, trust, propagation } => {
            let mut attributes = if *trust == Trust::Stripped { SAFE } else { MountAttrFlags::empty() };
            if *access == Access::ReadOnly {
                attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
            }
            let mount = bind(&open_source(source, route)?, attributes, *propagation)?;
            Ready { target: at(*shape, Links::Follow), what: ReadyWhat::Attach(mount) }
        }
        What::Tmpfs { size, mode, programs } => {
            let attributes = match programs {
                Programs::Run => SAFE,
                Programs::Refused => SAFE | MountAttrFlags::MOUNT_ATTR_NOEXEC,
            };
            let size = size.map(|bytes| c_string(bytes.to_string().as_bytes()));
            let mode = c_string(format!("{mode:o}").as_bytes());
            Ready {
                target: at(Shape::Directory, Links::Follow),
                what: ReadyWhat::Tmpfs { size, mode, attributes },
            }
        }
        What::Secrets { size } => {
            let mount = Memory::for_secrets(*size).make()?;
            Ready { target: at(Shape::Directory, Links::Follow), what: ReadyWhat::Attach(mount) }
        }
        What::Dev => {
            let mount = devices::dev(&plan.devices)?;
            Ready { target: at(Shape::Directory, Links::Refuse), what: ReadyWhat::Attach(mount) }
        }
        What::Devpts => {
            let mount = devpts()?;
            held.devpts = Some(mount.try_clone().map_err(from_std)?);
            Ready { target: at(Shape::Directory, Links::Refuse), what: ReadyWhat::Attach(mount) }
        }
        What::Mqueue => fresh(c"mqueue", Keep::Nothing),
        What::Proc => fresh(c"proc", Keep::Proc),
        What::Sysfs => fresh(c"sysfs", Keep::Sys),
        What::Cgroup => fresh(c"cgroup2", Keep::Nothing),
    })
}

fn from_std(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

fn task_root(directory: &HostPath) -> Result<OwnedFd, Errno> {
    bind(&open_source(directory, &Route::Anywhere)?, SAFE, Propagation::Private)
}

fn bind(source: &OwnedFd, attributes: MountAttrFlags, propagation: Propagation) -> Result<OwnedFd, Errno> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_EMPTY_PATH;
    let mount = open_tree(source, c"", flags)?;
    let propagation = match propagation {
        Propagation::Private => Kernel::Private,
        Propagation::HostToTask => Kernel::Slave,
        Propagation::Bidirectional => Kernel::Keep,
    };
    mount_setattr(mount.as_fd(), Reach::Tree, u64::from(attributes.bits()), propagation)?;
    Ok(mount)
}

fn overlay(
    lowers: &[HostPath],
    private: &HostPath,
    name: &str,
    layers: OverlayLayers,
) -> Result<OwnedFd, Errno> {
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut opened = Vec::with_capacity(lowers.len());
    for lower in lowers {
        opened.push(openat(CWD, lower.as_path(), directory, Mode::empty())?);
    }
    let private = openat(CWD, private.as_path(), directory | OFlags::NOFOLLOW, Mode::empty())?;
    let base = made_directory(private.as_fd(), name, None)?;
    let source = lowers.last().map(|lower| statat(CWD, lower.as_path(), AtFlags::empty())).transpose()?;
    let upper =
        made_directory(base.as_fd(), "upper", source.map(|stat| (stat.st_mode, stat.st_uid, stat.st_gid)))?;
    let work = made_directory(base.as_fd(), "work", None)?;
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let context = context.as_fd();
    let named = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
    match layers {
        OverlayLayers::Descriptors => {
            for lower in &opened {
                fsconfig_set_fd(context, c"lowerdir+", lower.as_fd())?;
            }
            fsconfig_set_fd(context, c"upperdir", upper.as_fd())?;
            fsconfig_set_fd(context, c"workdir", work.as_fd())?;
        }
        OverlayLayers::ProcPaths | OverlayLayers::Unavailable => {
            let names: Vec<String> = opened.iter().map(named).collect();
            fsconfig_set_string(context, c"lowerdir", names.join(":"))?;
            fsconfig_set_string(context, c"upperdir", named(&upper))?;
            fsconfig_set_string(context, c"workdir", named(&work))?;
        }
    }
    // Plain features only: a lower that changes under us, or attributes planted in an upper, mean nothing.
    for (key, value) in [(c"redirect_dir", c"nofollow"), (c"metacopy", c"off"), (c"index", c"off")] {
        fsconfig_set_string(context, key, value)?;
    }
    fsconfig_create(context)?;
    fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, SAFE)
}

/// Opens a directory of ours, making it first if need be: 0700, or with the mode and owner given.
fn made_directory(
    parent: BorrowedFd<'_>,
    name: &str,
    like: Option<(u32, u32, u32)>,
) -> Result<OwnedFd, Errno> {
    let made = match mkdirat(parent, name, Mode::RWXU) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(errno) => return Err(errno),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = openat(parent, name, flags, Mode::empty())?;
    if made && let Some((mode, uid, gid)) = like {
        fchown(&directory, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        fchmod(&directory, Mode::from_raw_mode(mode & 0o7777))?;
    }
    Ok(directory)
}

fn devpts() -> Result<OwnedFd, Errno> {
    let context = fsopen("devpts", FsOpenFlags::FSOPEN_CLOEXEC)?;
    // Terminals are few on a host (pty.max): without a limit one task takes them all.
    for (key, value) in [("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5"), ("max", "256")] {
        fsconfig_set_string(context.as_fd(), key, value)?;
    }
    fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// A read-only tmpfs with a null device and an empty directory: the sources of masks and of a silent stdin,
/// never the host's own inodes.
pub(crate) fn scratch() -> Result<OwnedFd, Errno> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(context.as_fd(), "mode", "0555")?;
    fsconfig_set_string(context.as_fd(), "nr_inodes", "4")?;
    fsconfig_create(context.as_fd())?;
    let mount = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    mknodat(&mount, "null", FileType::CharacterDevice, Mode::from_raw_mode(0o666), makedev(1, 3))?;
    rustix::fs::chmodat(&mount, "null", Mode::from_raw_mode(0o666), AtFlags::empty())?;
    mkdirat(&mount, "empty", Mode::from_raw_mode(0o555))?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    mount_setattr(mount.as_fd(), Reach::One, u64::from(attributes.bits()), Kernel::Keep)?;
    Ok(mount)
}

fn join_network(network: &Network) -> Result<Option<OwnedFd>, Failure> {
    let Network::Join(path) = network else { return Ok(None) };
    let goal = || format!("join the network namespace {path}");
    let fd = openat(CWD, path.as_path(), OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Failure::preparing(goal(), errno))?;
    if bivouac_sys::net::is_network_namespace(fd.as_fd()) {
        Ok(Some(fd))
    } else {
        Err(Failure::preparing(goal(), Errno::INVAL).advise("the path does not lead to a network namespace"))
    }
}

pub(crate) type Placed = ([OwnedFd; 3], Option<OwnedFd>);

/// The three streams, and the master of the terminal if there is one.
pub(crate) fn place_streams(
    streams: Streams,
    scratch: &OwnedFd,
    devpts: Option<&OwnedFd>,
    person: &Person,
) -> Result<Placed, Errno> {
    match streams {
        Streams::Files { stdin, stdout, stderr } => {
            let null =
                || openat(scratch, "null", OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty());
            let or_null = |stream: Option<OwnedFd>| stream.map_or_else(null, Ok);
            let streams = [or_null(stdin)?, or_null(stdout)?, or_null(stderr)?];
            for stream in &streams {
                // So that the task can open /dev/stdout again. Nobody else's file or device changes hands.
                if FileType::from_raw_mode(fstat(stream)?.st_mode) == FileType::Fifo {
                    fchown(stream, Some(Uid::from_raw(person.uid)), None)?;
                }
            }
            Ok((streams, None))
        }
        Streams::Terminal(size) => {
            let devpts = devpts.ok_or(Errno::NODEV)?;
            let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
            let master = openat(devpts, "ptmx", flags, Mode::empty())?;
            rustix::pty::unlockpt(&master)?;
            let open = rustix::pty::OpenptFlags::RDWR
                | rustix::pty::OpenptFlags::NOCTTY
                | rustix::pty::OpenptFlags::CLOEXEC;
            let slave = rustix::pty::ioctl_tiocgptpeer(&master, open)?;
            fchown(&slave, Some(Uid::from_raw(person.uid)), Some(Gid::from_raw(TTY_GROUP)))?;
            let size = rustix::termios::Winsize {
                ws_row: size.rows,
                ws_col: size.columns,
                ws_xpixel: 0,
                ws_ypixel: 0,
            };
            rustix::termios::tcsetwinsize(&master, size)?;
            let copy = || slave.try_clone().map_err(from_std);
            Ok(([copy()?, copy()?, slave], Some(master)))
        }
    }
}
