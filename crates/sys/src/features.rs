//! What this kernel can do, found out by doing it, as a plain value that plans take as an input.

use crate::Errno;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, openat};
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

    /// Asks the running kernel. Makes a scratch overlay that is attached nowhere and gone at return.
    ///
    /// # Errors
    /// What opening `/etc` and `/usr` answers.
    pub fn probe() -> Result<KernelFeatures, Errno> {
        Ok(KernelFeatures::with_overlay(probe_overlay()?))
    }

    /// Asks the running kernel for everything but overlays, about which the answer is known from before.
    pub fn with_overlay(overlay: OverlayLayers) -> KernelFeatures {
        KernelFeatures { overlay, landlock_abi: landlock_abi(), last_capability: last_capability() }
    }
}

/// Two directories that every Linux has, stacked read-only: 6.1 takes layers only from mounts that are attached,
/// so a scratch file system of our own would not do.
const STACKED: [&str; 2] = ["/etc", "/usr"];

fn probe_overlay() -> Result<OverlayLayers, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let layers = STACKED
        .iter()
        .map(|path| openat(CWD, *path, flags, Mode::empty()))
        .collect::<Result<Vec<OwnedFd>, Errno>>()?;
    for kind in [OverlayLayers::Descriptors, OverlayLayers::ProcPaths] {
        if try_overlay(kind, &layers).is_ok() {
            return Ok(kind);
        }
    }
    Ok(OverlayLayers::Unavailable)
}

/// Making it decides: Linux 6.1 takes `lowerdir+` and refuses only at the end.
fn try_overlay(kind: OverlayLayers, layers: &[OwnedFd]) -> Result<(), Errno> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    if kind == OverlayLayers::Descriptors {
        for layer in layers {
            rustix::mount::fsconfig_set_fd(context.as_fd(), "lowerdir+", layer.as_fd())?;
        }
    } else {
        let names: Vec<String> =
            layers.iter().map(|fd| format!("/proc/self/fd/{}", fd.as_raw_fd())).collect();
        fsconfig_set_string(context.as_fd(), "lowerdir", names.join(":"))?;
    }
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
