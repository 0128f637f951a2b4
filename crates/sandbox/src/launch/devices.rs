//! The task's `/dev`, made by the launcher: in the task's group nobody may make a device that was granted for use only.

use crate::model::{Device, DeviceKind};
use bivouac_sys::Errno;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Gid, Mode, Uid, chmodat, chownat, makedev, mkdirat, mknodat, symlinkat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
};
use std::path::Path;

const NODES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
const LINKS: [(&str, &str); 6] = [
    ("ptmx", "pts/ptmx"),
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
];
const FOR_ALL: Mode = Mode::from_raw_mode(0o666);
const DIRECTORY: Mode = Mode::from_raw_mode(0o755);

/// Filled while nothing can reach it.
pub(crate) fn dev(devices: &[Device]) -> Result<OwnedFd, Errno> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(context.as_fd(), "mode", "0755")?;
    fsconfig_set_string(context.as_fd(), "size", "65536k")?;
    fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let dev = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    for (name, major, minor) in NODES {
        mknodat(&dev, name, FileType::CharacterDevice, FOR_ALL, makedev(major, minor))?;
        // The launcher's umask lets nobody else use what it makes.
        chmodat(&dev, name, FOR_ALL, AtFlags::empty())?;
    }
    for (name, content) in LINKS {
        symlinkat(content, &dev, name)?;
    }
    for name in ["pts", "shm", "mqueue"] {
        directory(&dev, Path::new(name))?;
    }
    devices.iter().try_for_each(|device| extra_device(&dev, device))?;
    Ok(dev)
}

fn directory(dev: &OwnedFd, path: &Path) -> Result<(), Errno> {
    match mkdirat(dev, path, DIRECTORY) {
        Ok(()) => chmodat(dev, path, DIRECTORY, AtFlags::empty()),
        Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno),
    }
}

fn extra_device(dev: &OwnedFd, device: &Device) -> Result<(), Errno> {
    let path = device.target.as_path().strip_prefix("/dev").map_err(|_| Errno::INVAL)?;
    let mut above: Vec<&Path> = path.ancestors().skip(1).filter(|path| *path != Path::new("")).collect();
    above.reverse();
    above.into_iter().try_for_each(|above| directory(dev, above))?;
    let kind = match device.kind {
        DeviceKind::Character => FileType::CharacterDevice,
        DeviceKind::Block => FileType::BlockDevice,
    };
    let mode = Mode::from_raw_mode(device.mode & 0o777);
    match mknodat(dev, path, kind, mode, makedev(device.major, device.minor)) {
        Ok(()) => {}
        // Asking again for one of the default set changes nothing.
        Err(Errno::EXIST) => return Ok(()),
        Err(errno) => return Err(errno),
    }
    let (uid, gid) = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
    chownat(dev, path, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    chmodat(dev, path, mode, AtFlags::empty())
}
