//! What this kernel can do, found out by doing it, as a plain value that plans take as an input.

use crate::Errno;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
};
use std::os::fd::AsRawFd;

/// How overlay layers are handed to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverlayLayers {
    /// As descriptors (`FSCONFIG_SET_FD`, Linux 6.13).
    Descriptors,
    /// As `/proc/self/fd/N`, a name that can hold no separator.
    ProcPaths,
    /// This kernel (or this place) makes no overlay at all.
    Unavailable,
}

/// The features that plans depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelFeatures {
    /// How overlay layers are given.
    pub overlay: OverlayLayers,
    /// The Landlock ABI, 0 without Landlock.
    pub landlock_abi: u32,
    /// The number of the last capability that the kernel knows.
    pub last_capability: u32,
}

impl KernelFeatures {
    /// Linux 5.14 as RHEL 9 ships it: the oldest kernel that is supported.
    pub const OLDEST: KernelFeatures =
        KernelFeatures { overlay: OverlayLayers::ProcPaths, landlock_abi: 0, last_capability: 40 };
    /// Everything that Bivouac can make use of.
    pub const NEWEST: KernelFeatures =
        KernelFeatures { overlay: OverlayLayers::Descriptors, landlock_abi: 7, last_capability: 40 };

    /// Asks the running kernel. Makes scratch file systems that are attached nowhere and gone at return.
    ///
    /// # Errors
    /// What making a scratch tmpfs answers: `EPERM` when not root.
    pub fn probe() -> Result<KernelFeatures, Errno> {
        Ok(KernelFeatures {
            overlay: probe_overlay()?,
            landlock_abi: landlock_abi(),
            last_capability: last_capability(),
        })
    }
}

fn probe_overlay() -> Result<OverlayLayers, Errno> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(context.as_fd())?;
    let scratch = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    let mut layers = Vec::new();
    for name in ["lower", "upper", "work"] {
        mkdirat(&scratch, name, Mode::RWXU)?;
        layers.push(openat(
            &scratch,
            name,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?);
    }
    let [lower, upper, work] = layers.as_slice() else { return Ok(OverlayLayers::Unavailable) };
    for (way, kind) in
        [(Way::Descriptors, OverlayLayers::Descriptors), (Way::ProcPaths, OverlayLayers::ProcPaths)]
    {
        if try_overlay(way, lower, upper, work).is_ok() {
            return Ok(kind);
        }
    }
    Ok(OverlayLayers::Unavailable)
}

#[derive(Clone, Copy)]
enum Way {
    Descriptors,
    ProcPaths,
}

fn try_overlay(way: Way, lower: &OwnedFd, upper: &OwnedFd, work: &OwnedFd) -> Result<(), Errno> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    match way {
        Way::Descriptors => {
            for (key, fd) in [("lowerdir+", lower), ("upperdir", upper), ("workdir", work)] {
                rustix::mount::fsconfig_set_fd(context.as_fd(), key, fd.as_fd())?;
            }
        }
        Way::ProcPaths => {
            for (key, fd) in [("lowerdir", lower), ("upperdir", upper), ("workdir", work)] {
                fsconfig_set_string(context.as_fd(), key, format!("/proc/self/fd/{}", fd.as_raw_fd()))?;
            }
        }
    }
    // Making it decides: Linux 6.1 takes `lowerdir+` and refuses only here.
    fsconfig_create(context.as_fd())?;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).map(drop)
}

fn landlock_abi() -> u32 {
    const CREATE_RULESET_VERSION: u32 = 1;
    // SAFETY: with this flag the call takes no struct and answers the version.
    let answer =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, 0usize, 0usize, CREATE_RULESET_VERSION) };
    u32::try_from(answer).unwrap_or(0)
}

fn last_capability() -> u32 {
    const FALLBACK: u32 = 40;
    let open = openat(CWD, "/proc/sys/kernel/cap_last_cap", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let Ok(file) = open else { return FALLBACK };
    let mut buffer = [0u8; 16];
    let Ok(length) = rustix::io::read(&file, &mut buffer) else { return FALLBACK };
    let text = buffer.get(..length).unwrap_or_default();
    std::str::from_utf8(text).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(FALLBACK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_makes_overlays() {
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED: this_kernel_makes_overlays: needs root");
            return;
        }
        let features = KernelFeatures::probe().unwrap();
        assert_ne!(features.overlay, OverlayLayers::Unavailable);
        assert!(features.last_capability >= 40);
    }
}
