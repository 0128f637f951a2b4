//! A file system of the benchmark's own: everything that is measured writes to the same fresh, journalled ext4.
//!
//! The machine's own will not do: ext4 without a journal looks at every inode removed in the last minutes whenever a
//! directory is made, so that whichever subject removed most before looks slowest. Lives in a private mount namespace
//! (`cargo xtask bench` makes one), below the paths that all subjects use by themselves. `/run` is memory.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Set by whoever made the mount namespace: nothing else tells it from the host's.
const OWN_MOUNTS: &str = "BIVOUAC_OWN_MOUNTS";
/// Sparse: what is not written takes no room.
const SIZE: &str = "6G";
/// What shows a folder of it.
const SHOWN: [&str; 2] = ["/var/tmp", "/var/lib/bivouac"];

/// The image; its mounts go with the namespace.
pub struct Ground {
    image: PathBuf,
}

impl Ground {
    /// Makes and mounts it.
    ///
    /// # Errors
    /// Not in a mount namespace of its own, no loop device, no mkfs.ext4.
    pub fn new() -> Result<Self> {
        if std::env::var_os(OWN_MOUNTS).is_none() {
            bail!("{OWN_MOUNTS} is not set: use `cargo xtask bench`");
        }
        let image = PathBuf::from(format!("/var/tmp/bivouac-bench-{}.img", std::process::id()));
        let ground = Self { image };
        let _none = Command::new("modprobe").arg("loop").stderr(Stdio::null()).status();
        let image = ground.image.display().to_string();
        run("truncate", &["--size", SIZE, &image])?;
        // All of its tables at once: nothing is to be written behind the measurement's back.
        run("mkfs.ext4", &["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", &image])?;
        let top = tempfile::Builder::new().prefix("bivouac-bench-").tempdir_in("/run")?;
        let at = top.path().display().to_string();
        run("mount", &["-o", "loop", &image, &at])?;
        // Gone from the list of names, kept by its mount.
        std::fs::remove_file(&ground.image).context("cannot remove the image's name")?;
        for path in SHOWN {
            let folder = top.path().join(path.trim_start_matches('/').replace('/', "-"));
            std::fs::create_dir_all(&folder).context("cannot make a folder")?;
            std::fs::create_dir_all(path).with_context(|| format!("cannot make {path}"))?;
            run("mount", &["--bind", &folder.display().to_string(), path])?;
        }
        run("umount", &["--lazy", &at])?;
        // While its name can be seen.
        top.close().context("cannot remove the mount point")?;
        // As every machine with systemd has it; where all subjects keep what a reboot may take.
        run("mount", &["-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"])?;
        Ok(ground)
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _gone = std::fs::remove_file(&self.image);
    }
}

/// Runs a command to its end.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {program}"))?;
    if output.status.success() {
        return Ok(());
    }
    bail!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim())
}

/// What kind of file system a path lies on.
#[must_use]
pub fn kind(path: &Path) -> String {
    let output = Command::new("stat").args(["-f", "-c", "%T"]).arg(path).output();
    output.map_or("unknown".into(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
