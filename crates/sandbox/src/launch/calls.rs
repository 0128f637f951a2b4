//! What each step of a launch does: system calls on what was prepared, nothing else. No allocation, no lock,
//! no panic: this runs in a cloned child.

use super::prepare::{Keep, Links, Prepared, ReadyWhat, Target};
use super::report::Report;
use super::{find, landlock};
use crate::empty_mounts::enter_mounts;
use crate::plan::{MaskKind, MaskedTree};
use crate::survey::Shape;
use bivouac_sys::exec::OnExec;
use bivouac_sys::mount::{Propagation, Reach, mount_setattr, unshare_mounts};
use bivouac_sys::{Errno, credentials, exec, signal};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, fstatfs, mkdirat, openat, openat2, symlinkat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};
use std::ffi::CStr;

/// Where the status pipe is once the streams are placed, and the init program after it.
const STATUS: i32 = 3;
const INIT: i32 = 4;
const SIGKILL: i32 = 9;

const IN_ROOT: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);
const API: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID
    .union(MountAttrFlags::MOUNT_ATTR_NODEV)
    .union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

pub(crate) fn death_signal(prepared: &mut Prepared, _: &Report) -> Result<(), Errno> {
    credentials::set_parent_death_signal(SIGKILL)?;
    // The parent's end of the pipe is closed here first (by a copy of our own end), so that a parent that died
    // before the line above shows as an error on it.
    let status = if prepared.parent_end >= 0 {
        exec::place(prepared.status.as_fd(), prepared.parent_end, OnExec::Close)?;
        prepared.parent_end = -1;
        prepared.status.as_fd()
    } else {
        exec::borrow(STATUS)?
    };
    let mut poll = [rustix::event::PollFd::from_borrowed_fd(status, rustix::event::PollFlags::empty())];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut poll, Some(&now))?;
    let gone = poll.first().is_some_and(|fd| fd.revents().contains(rustix::event::PollFlags::ERR));
    if gone { Err(Errno::PIPE) } else { Ok(()) }
}

pub(crate) fn reset_signals(prepared: &mut Prepared, _: &Report) -> Result<(), Errno> {
    signal::reset_all()?;
    if prepared.person.init.is_some() {
        // A signal that comes before the reaper listens must wait for it: what the first process of a namespace
        // neither handles nor blocks is dropped. The command itself blocks none.
        signal::block_all()?;
    }
    Ok(())
}

pub(crate) fn session(_: &mut Prepared, _: &Report) -> Result<(), Errno> {
    // Modes of what the set-up makes are exactly those it says.
    rustix::process::umask(Mode::empty());
    match rustix::process::setsid() {
        Ok(_) => Ok(()),
        Err(errno) => Err(errno),
    }
}

pub(crate) fn join_cgroup(prepared: &mut Prepared, _: &Report) -> Result<(), Errno> {
    join_tasks(&prepared.tasks)
}

pub(crate) fn join_tasks(tasks: &[OwnedFd]) -> Result<(), Errno> {
    tasks.iter().try_for_each(|file| rustix::io::write(file, b"0").map(drop))
}

pub(crate) fn unshare_cgroup(_: &mut Prepared, _: &Report) -> Result<(), Errno> {
    bivouac_sys::clone::unshare_cgroup_namespace()
}

pub(crate) fn join_network(prepared: &mut Prepared, _: &Report) -> Result<(), Errno> {
    let Some(network) = &prepared.network else { return Ok(()) };
    let kind = Some(rustix::thread::LinkNameSpaceType::Network);
    rustix::thread::move_into_link_name_space(network.as_fd(), kind)
}

pub(crate) fn loopback(_: &mut Prepared, _: &Report) -> Result<(), Errno> {
    bivouac_sys::net::bring_loopback_up()
}

pub(crate) fn hostname(prepared: &mut Prepared, _: &Report) -> Result<(), Errno> {
    prepared.hostname.as_ref().map_or(Ok(()), |name| rustix::system::sethostname(name.as_bytes()))
}

pub(crate) fn leave_host(prepared: &mut Prepared, _: &Report) -> Result<(), Errno> {
    enter_mounts(prepared.empty.as_fd())?;
    unshare_mounts()
}

pub(crate) fn attach_root(prepared: &mut Prepared, _: &Report) -> Result<(), Errno> {
    // Masks are cut from the scratch tree, which must be attached for that; it stays below the task's root.
    move_mount(&prepared.scratch, c"", CWD, c"/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    move_mount(&prepared.root, c"", CWD, c"/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

pub(crate) fn fill_root(prepared: &mut Prepared, report: &Report) -> Result<(), Errno> {
    let Prepared { fills, root, proc, sys, .. } = prepared;
    for (index, fill) in fills.iter().enumerate() {
        report.item(index);
        let target = &fill.target;
        match &fill.what {
            ReadyWhat::Link(content) => make_link(root.as_fd(), target, content)?,
            ReadyWhat::Attach(mount) => attach(mount, root.as_fd(), target)?,
            ReadyWhat::Tmpfs { size, mode, attributes } => {
                let context = fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
                if let Some(size) = size {
                    fsconfig_set_string(context.as_fd(), c"size", size.as_c_str())?;
                }
                fsconfig_set_string(context.as_fd(), c"mode", mode.as_c_str())?;
                attach(&mounted(&context, *attributes)?, root.as_fd(), target)?;
            }
            ReadyWhat::Fresh(kind, keep) => {
                let context = fsopen(*kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
                let read_only = if *keep == Keep::Sys || *kind == c"cgroup2" {
                    MountAttrFlags::MOUNT_ATTR_RDONLY
                } else {
                    MountAttrFlags::empty()
                };
                let mount = mounted(&context, API | read_only)?;
                attach(&mount, root.as_fd(), target)?;
                match keep {
                    Keep::Proc => *proc = Some(mount),
                    Keep::Sys => *sys = Some(mount),
                    Keep::Nothing => {}
                }
            }
        }
    }
    Ok(())
}

fn mounted(context: &OwnedFd, attributes: MountAttrFlags) -> Result<OwnedFd, Errno> {
    fsconfig_create(context.as_fd())?;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

fn attach(mount: &OwnedFd, root: BorrowedFd<'_>, target: &Target) -> Result<(), Errno> {
    let place = open_or_make(root, target)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, c"", &place, c"", flags)
}

fn resolve(target: &Target) -> ResolveFlags {
    if target.links == Links::Refuse { IN_ROOT | ResolveFlags::NO_SYMLINKS } else { IN_ROOT }
}

/// Opens a place in the root; what is missing on the way is made, by descriptor, as root's and 0755.
pub(crate) fn open_or_make(root: BorrowedFd<'_>, target: &Target) -> Result<OwnedFd, Errno> {
    let kind = if target.shape == Shape::Directory { OFlags::DIRECTORY } else { OFlags::empty() };
    let open = || {
        openat2(
            root,
            target.path.as_c_str(),
            OFlags::PATH | OFlags::CLOEXEC | kind,
            Mode::empty(),
            resolve(target),
        )
    };
    match open() {
        Err(Errno::NOENT) => {}
        other => return other,
    }
    let last = target.parts.len().saturating_sub(1);
    for (index, (above, name)) in target.parts.iter().enumerate() {
        let made = in_parent(root, above, resolve(target), |parent| {
            if index == last && target.shape == Shape::File {
                let flags =
                    OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                openat(parent, name.as_c_str(), flags, Mode::from_raw_mode(0o644)).map(drop)
            } else {
                mkdirat(parent, name.as_c_str(), Mode::from_raw_mode(0o755))
            }
        });
        there(made)?;
    }
    open()
}

/// Does something in a directory of the root. Most targets stand in the root itself, which is open already.
fn in_parent(
    root: BorrowedFd<'_>,
    above: &CStr,
    resolve: ResolveFlags,
    act: impl FnOnce(BorrowedFd<'_>) -> Result<(), Errno>,
) -> Result<(), Errno> {
    if above == c"." {
        return act(root);
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = openat2(root, above, flags, Mode::empty(), resolve)?;
    act(parent.as_fd())
}

/// What is there already need not be made.
fn there(made: Result<(), Errno>) -> Result<(), Errno> {
    if made == Err(Errno::EXIST) { Ok(()) } else { made }
}

fn make_link(root: BorrowedFd<'_>, target: &Target, content: &CStr) -> Result<(), Errno> {
    let Some(((above, name), parents)) = target.parts.split_last() else { return Err(Errno::INVAL) };
    let link = || in_parent(root, above, IN_ROOT, |parent| symlinkat(content, parent, name.as_c_str()));
    // What is there is the task's own work.
    match there(link()) {
        Err(Errno::NOENT) => {}
        answer => return answer,
    }
    let directory = Mode::from_raw_mode(0o755);
    for (above, name) in parents {
        there(in_parent(root, above, IN_ROOT, |parent| mkdirat(parent, name.as_c_str(), directory)))?;
    }
    there(link())
}

pub(crate) fn mask_paths(prepared: &mut Prepared, report: &Report) -> Result<(), Errno> {
    for (index, mask) in prepared.masks.iter().enumerate() {
        report.item(index);
        let tree = match mask.tree {
            MaskedTree::Proc => &prepared.proc,
            MaskedTree::Sys => &prepared.sys,
        };
        let Some(tree) = tree else { continue };
        match put_mask(tree.as_fd(), prepared.scratch.as_fd(), &mask.path, mask.how) {
            // This kernel has no such path.
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn put_mask(tree: BorrowedFd<'_>, scratch: BorrowedFd<'_>, path: &CStr, how: MaskKind) -> Result<(), Errno> {
    let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let no_links = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let target = openat2(tree, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), no_links)?;
    let source = match how {
        MaskKind::NullFile => open_tree(scratch, c"null", clone)?,
        MaskKind::EmptyDirectory => open_tree(scratch, c"empty", clone)?,
        MaskKind::ReadOnly => {
            let mount = open_tree(&target, c"", clone | OpenTreeFlags::AT_EMPTY_PATH)?;
            let attributes = API | MountAttrFlags::MOUNT_ATTR_RDONLY;
            mount_setattr(mount.as_fd(), Reach::One, u64::from(attributes.bits()), Propagation::Keep)?;
            mount
        }
    };
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(&source, c"", &target, c"", flags)
}

pub(crate) fn oom_score(prepared: &mut Prepared, _: &Report) -> Result<(), Errno> {
    let proc = prepared.proc.as_ref().ok_or(Errno::NOENT)?;
    write_oom_score(proc.as_fd(), prepared.person.oom_score.to_bytes())
}

/// Through a proc that is known to be one: see proc_pid_oom_score_adj(5).
pub(crate) fn write_oom_score(proc: BorrowedFd<'_>, score: &[u8]) -> Result<(), Errno> {
    const PROC_SUPER_MAGIC: u64 = 0x9fa0;
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    let file = openat2(proc, c"self/oom_score_adj", flags, Mode::empty(), resolve)?;
    if fstatfs(&file)?.f_type as u64 != PROC_SUPER_MAGIC {
        return Err(Errno::XDEV);
    }
    rustix::io::write(&file, score).map(drop)
}

pub(crate) fn enter_root(prepared: &mut Prepared, _: &Report) -> Result<(), Errno> {
    rustix::process::fchdir(&prepared.root)?;
    rustix::process::chroot(c".")?;
    rustix::process::chdir(c"/")
}

pub(crate) fn find(prepared: &mut Prepared, report: &Report) -> Result<(), Errno> {
    prepared.person.found = find::find(prepared.root.as_fd(), &prepared.person.places, report)?;
    Ok(())
}

pub(crate) fn make_work_dir(prepared: &mut Prepared, _: &Report) -> Result<(), Errno> {
    open_or_make(prepared.root.as_fd(), &prepared.person.work_dir).map(drop)
}

pub(crate) fn lock_root(prepared: &mut Prepared, _: &Report) -> Result<(), Errno> {
    let read_only = u64::from(MountAttrFlags::MOUNT_ATTR_RDONLY.bits());
    mount_setattr(prepared.root.as_fd(), Reach::One, read_only, Propagation::Keep)
}

pub(crate) fn landlock(prepared: &mut Prepared, report: &Report) -> Result<(), Errno> {
    landlock::restrict(&prepared.person.landlock, prepared.person.init.as_ref(), report)
}

pub(crate) fn streams(prepared: &mut Prepared, _: &Report) -> Result<(), Errno> {
    place_all(&prepared.streams, prepared.status.as_fd(), prepared.person.init.as_ref())
}

/// Puts the streams at 0-2, the status pipe at 3, the init program at 4: copies above them first, so that
/// none overwrites the next.
pub(crate) fn place_all(
    streams: &[OwnedFd; 3],
    status: BorrowedFd<'_>,
    init: Option<&OwnedFd>,
) -> Result<(), Errno> {
    let mut copies = [-1i32; 5];
    let sources = streams.iter().map(AsFd::as_fd).chain([status]).chain(init.map(AsFd::as_fd));
    for (copy, source) in copies.iter_mut().zip(sources) {
        *copy = exec::duplicate_above(source, 16)?;
    }
    for (number, copy) in copies.into_iter().enumerate().filter(|(_, copy)| *copy >= 0) {
        let number = number as i32;
        let on_exec = if number < STATUS { OnExec::Keep } else { OnExec::Close };
        exec::place(exec::borrow(copy)?, number, on_exec)?;
    }
    Ok(())
}

pub(crate) fn terminal(_: &mut Prepared, _: &Report) -> Result<(), Errno> {
    exec::take_terminal(exec::borrow(0)?)
}

pub(crate) fn limits(prepared: &mut Prepared, _: &Report) -> Result<(), Errno> {
    prepared.person.set_limits()
}

pub(crate) fn affinity(_: &mut Prepared, _: &Report) -> Result<(), Errno> {
    credentials::reset_affinity()
}

pub(crate) fn keyring(_: &mut Prepared, _: &Report) -> Result<(), Errno> {
    match credentials::join_new_session_keyring(c"_ses.bivouac") {
        // A kernel without keys has none to share.
        Ok(()) | Err(Errno::NOSYS) => Ok(()),
        Err(errno) => Err(errno),
    }
}

pub(crate) fn close_rest(prepared: &mut Prepared, _: &Report) -> Result<(), Errno> {
    close_from_status(prepared.person.init.is_some())
}

pub(crate) fn close_from_status(with_init: bool) -> Result<(), Errno> {
    exec::close_from(if with_init { 5 } else { 4 })
}

pub(crate) fn bounding_set(prepared: &mut Prepared, _: &Report) -> Result<(), Errno> {
    prepared.person.drop_bounding()
}

pub(crate) fn keep_caps(_: &mut Prepared, _: &Report) -> Result<(), Errno> {
    credentials::keep_capabilities()
}

pub(crate) fn groups(prepared: &mut Prepared, _: &Report) -> Result<(), Errno> {
    credentials::setgroups(&prepared.person.groups)
}

pub(crate) fn gid(prepared: &mut Prepared, _: &Report) -> Result<(), Errno> {
    credentials::setresgid(prepared.person.gid)
}

pub(crate) fn uid(prepared: &mut Prepared, _: &Report) -> Result<(), Errno> {
    credentials::setresuid(prepared.person.uid)
}

pub(crate) fn work_dir(prepared: &mut Prepared, _: &Report) -> Result<(), Errno> {
    prepared.person.enter_work_dir()
}

pub(crate) fn regain(prepared: &mut Prepared, _: &Report) -> Result<(), Errno> {
    prepared.person.regain()
}

pub(crate) fn filter(prepared: &mut Prepared, _: &Report) -> Result<(), Errno> {
    bivouac_sys::seccomp::load_filter(&prepared.person.filter)
}

pub(crate) fn final_caps(prepared: &mut Prepared, _: &Report) -> Result<(), Errno> {
    prepared.person.settle_capabilities()
}

pub(crate) fn umask(prepared: &mut Prepared, _: &Report) -> Result<(), Errno> {
    rustix::process::umask(Mode::from_raw_mode(prepared.person.umask & 0o777));
    Ok(())
}

pub(crate) fn no_new_privs(_: &mut Prepared, _: &Report) -> Result<(), Errno> {
    credentials::no_new_privileges()
}

pub(crate) fn execute(prepared: &mut Prepared, _: &Report) -> Result<(), Errno> {
    prepared.person.execute()
}

impl super::prepare::Person {
    pub(crate) fn set_limits(&self) -> Result<(), Errno> {
        self.rlimits
            .iter()
            .try_for_each(|(resource, soft, hard)| credentials::setrlimit(*resource, *soft, *hard))
    }

    pub(crate) fn drop_bounding(&self) -> Result<(), Errno> {
        for capability in 0..=self.last_capability.min(63) {
            if self.bounding & (1 << capability) == 0 {
                credentials::drop_from_bounding_set(capability)?;
            }
        }
        Ok(())
    }

    /// Enters the directory with the task's own rights, and makes sure that it lies in the task's root.
    pub(crate) fn enter_work_dir(&self) -> Result<(), Errno> {
        // Relative to `/`, where every step before has left us.
        rustix::process::chdir(c"/")?;
        rustix::process::chdir(self.work_dir.path.as_c_str())?;
        let mut buffer = [0u8; 4096];
        if exec::working_directory(&mut buffer)?.first() == Some(&b'/') {
            Ok(())
        } else {
            // "(unreachable)/...": outside the root.
            Err(Errno::XDEV)
        }
    }

    /// What the switch of uid took out of force, for the one call that needs it.
    pub(crate) fn regain(&self) -> Result<(), Errno> {
        let all = self.launcher.permitted;
        credentials::capset(credentials::CapabilityMasks { effective: all, permitted: all, inheritable: 0 })
    }

    pub(crate) fn settle_capabilities(&self) -> Result<(), Errno> {
        // Inheritable may only grow from what is permitted or with CAP_SETPCAP: all of it is still permitted.
        credentials::capset(self.masks)?;
        for capability in 0..=self.last_capability.min(63) {
            if self.ambient & (1 << capability) != 0 {
                credentials::raise_ambient(capability)?;
            }
        }
        Ok(())
    }

    pub(crate) fn execute(&mut self) -> Result<(), Errno> {
        let Some(place) = self.places.get(self.found) else { return Err(Errno::NOENT) };
        if self.init.is_some() {
            let init = exec::borrow(INIT)?;
            return Err(exec::execve_behind(init, &place.absolute, &mut self.arguments, &self.environment));
        }
        Err(exec::execve(&place.absolute, &mut self.arguments, &self.environment))
    }
}
