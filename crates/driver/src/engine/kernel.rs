//! What the kernel can do, with the dear part of the question asked once a boot.
//!
//! Whether overlays can be made is found out by making one, which costs as much as a third of a start. The answer is
//! kept in the run directory, which nobody but root reaches.

use super::disk;
use bivouac_shim::process::boot_id;
use bivouac_sys::features::{KernelFeatures, OverlayLayers};
use rustix::fd::BorrowedFd;
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use std::fs::File;
use std::io::Read;

const FILE: &str = "overlay";
/// A boot's id and a word.
const LARGEST: u64 = 128;

/// The features of this kernel; `run` is the engine's private directory.
///
/// # Errors
/// As [`KernelFeatures::probe`].
pub(super) fn features(run: BorrowedFd<'_>) -> Result<KernelFeatures, Errno> {
    // Without a boot's id nothing is kept.
    let boot = boot_id().ok();
    if let Some(overlay) = boot.as_deref().and_then(|boot| known(run, boot)) {
        return Ok(KernelFeatures::with_overlay(overlay));
    }
    let features = KernelFeatures::probe()?;
    if let Some(boot) = boot {
        keep(run, &boot, features.overlay);
    }
    Ok(features)
}

fn known(run: BorrowedFd<'_>, boot: &str) -> Option<OverlayLayers> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut text = String::with_capacity(LARGEST as usize);
    let file = File::from(openat(run, FILE, flags, Mode::empty()).ok()?);
    file.take(LARGEST).read_to_string(&mut text).ok()?;
    let word = text.strip_prefix(boot)?.trim();
    [OverlayLayers::Descriptors, OverlayLayers::ProcPaths].into_iter().find(|kind| name(*kind) == Some(word))
}

/// A "no" is not kept: a module may be loaded later.
fn name(kind: OverlayLayers) -> Option<&'static str> {
    match kind {
        OverlayLayers::Descriptors => Some("descriptors"),
        OverlayLayers::ProcPaths => Some("paths"),
        OverlayLayers::Unavailable => None,
    }
}

/// What cannot be kept is asked again, so failures are not told.
fn keep(run: BorrowedFd<'_>, boot: &str, kind: OverlayLayers) {
    let Some(word) = name(kind) else { return };
    let _ = disk::replace(run, FILE, 0o600, format!("{boot} {word}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn an_answer_is_good_for_its_boot_only() {
        let folder = tempfile::tempdir().unwrap();
        let run = File::open(folder.path()).unwrap();
        assert_eq!(known(run.as_fd(), "a-boot"), None);
        for kind in [OverlayLayers::Descriptors, OverlayLayers::ProcPaths] {
            keep(run.as_fd(), "a-boot", kind);
            assert_eq!(known(run.as_fd(), "a-boot"), Some(kind));
            assert_eq!(known(run.as_fd(), "another"), None);
        }
        keep(run.as_fd(), "later", OverlayLayers::Unavailable);
        assert_eq!(known(run.as_fd(), "later"), None, "a module may be loaded later");
        std::fs::write(folder.path().join(FILE), "a-boot nonsense").unwrap();
        assert_eq!(known(run.as_fd(), "a-boot"), None);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no half-written file is left");
    }
}
