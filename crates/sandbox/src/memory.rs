//! A file system in memory, of a size, attached nowhere yet.

use crate::model::Programs;
use bivouac_sys::Errno;
use rustix::fd::{AsFd, OwnedFd};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen,
};

/// The user `nobody`, as which a task runs that names none.
const NOBODY: u32 = 65534;

/// What it is like. Always nosuid and nodev, and never on a disk.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Its size.
    pub bytes: u64,
    /// Its top directory's mode.
    pub mode: u32,
    /// The owner of its top directory, and the group.
    pub owner: u32,
    /// Whether files in it can be run.
    pub programs: Programs,
}

impl Memory {
    /// For what becomes a task's `/secrets`.
    #[must_use]
    pub fn for_secrets(bytes: u64) -> Memory {
        Memory { bytes, mode: 0o777, owner: NOBODY, programs: Programs::Refused }
    }

    /// Makes it.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn make(self) -> Result<OwnedFd, Errno> {
        // Swap would write secrets to a disk; kernels before 6.4 cannot refuse it.
        self.with(Some(c"noswap")).or_else(|_| self.with(None))
    }

    fn with(self, flag: Option<&std::ffi::CStr>) -> Result<OwnedFd, Errno> {
        let context = fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        let context = context.as_fd();
        fsconfig_set_string(context, c"size", self.bytes.to_string())?;
        fsconfig_set_string(context, c"mode", format!("{:o}", self.mode))?;
        for id in [c"uid", c"gid"] {
            fsconfig_set_string(context, id, self.owner.to_string())?;
        }
        if let Some(flag) = flag {
            fsconfig_set_flag(context, flag)?;
        }
        fsconfig_create(context)?;
        let mut attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
        if self.programs == Programs::Refused {
            attributes |= MountAttrFlags::MOUNT_ATTR_NOEXEC;
        }
        fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    }
}
