//! The size of an allocation's disk, enforced: its directory is a file system of that size, in an image file or in
//! memory, or a project of the one it lies on, with a quota.
//!
//! What counts is everything below the allocation's directory: `/alloc` with the logs, `/local`, `/tmp`, and what the
//! task writes over `/usr`, `/etc` and so on. Volumes and `/secrets` do not count.

mod quota;

use crate::allocation::{PlanError, remove_tree};
use crate::memory;
use bivouac_sandbox::memory::Memory;
use bivouac_sandbox::model::Programs;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::process::{Command, Stdio};

/// How a disk is kept to its size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// Not at all.
    #[default]
    Off,
    /// It lies in memory: quick, counted as the memory of whoever writes, gone with a reboot.
    Memory,
    /// It lies in an image file beside the allocations, mounted over a loop device.
    Image,
    /// It is a project of the file system it lies on, which has a quota.
    Quota,
}

/// A disk's size, and how it is kept to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// How.
    pub way: Way,
    /// Its size.
    pub mib: u64,
}

impl Limit {
    /// Prepares an allocation's directory, which is there; one that is prepared stays as it is.
    ///
    /// # Errors
    /// What is missing, with the package that has it; what the kernel answered.
    pub(crate) fn apply(self, directory: &Path) -> Result<(), PlanError> {
        match self.way {
            Way::Off => Ok(()),
            Way::Memory => {
                let bytes = self.mib.saturating_mul(1 << 20);
                let memory = Memory { bytes, mode: 0o711, owner: 0, programs: Programs::Run };
                memory::mount(directory, memory)
            }
            Way::Image if memory::is_mounted(directory) => Ok(()),
            Way::Image => self.mount_image(directory),
            Way::Quota => quota::hold(directory, self.mib),
        }
    }

    /// An image that is there already was made before a reboot: what is in it stays.
    fn mount_image(self, directory: &Path) -> Result<(), PlanError> {
        let image = image(directory);
        if !image.exists() {
            let failed = |error| PlanError::other(crate::state::failed("make", &image)(error));
            std::fs::File::create(&image).and_then(|file| file.set_len(self.mib << 20)).map_err(failed)?;
            let made = run("mke2fs", "e2fsprogs", |command| {
                // Nobody needs a journal for what goes with the allocation, nor blocks that are root's alone.
                command.args(["-q", "-F", "-t", "ext4", "-m", "0", "-O", "^has_journal"]);
                command.args(["-E", "lazy_itable_init=1,nodiscard,root_owner=0:0"]).arg(&image);
            });
            if made.is_err() {
                let _ = std::fs::remove_file(&image);
                return made;
            }
        }
        run("mount", "mount", |command| {
            command.args(["-o", "loop,nosuid,nodev,noatime", "--"]).arg(&image).arg(directory);
        })?;
        // Nothing of ours: a task would see it among its files.
        remove_tree(&directory.join("lost+found"))
    }

    /// Takes it back, before the directory is removed.
    ///
    /// # Errors
    /// What could not be unmounted or removed.
    pub(crate) fn undo(self, directory: &Path) -> Result<(), PlanError> {
        match self.way {
            Way::Off => return Ok(()),
            Way::Quota => return quota::let_go(directory),
            Way::Memory | Way::Image => {}
        }
        memory::detach(directory)?;
        match std::fs::remove_file(image(directory)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(PlanError::other(crate::state::failed("remove", &image(directory))(error)))
            }
            _ => Ok(()),
        }
    }
}

/// Beside the directory, where no task sees it.
fn image(directory: &Path) -> std::path::PathBuf {
    directory.with_extension("image")
}

fn run(program: &str, package: &str, arguments: impl FnOnce(&mut Command)) -> Result<(), PlanError> {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null());
    arguments(&mut command);
    let output = command.output().map_err(|error| {
        PlanError::Other(format!(
            "a disk in an image needs the program {program} (Debian: the package {package}): {error}"
        ))
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(PlanError::Other(format!("a disk in an image: {program}: {}", said.trim())))
}
