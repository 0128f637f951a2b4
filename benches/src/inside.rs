//! How fast a task's own program runs inside, against the same program outside, by turns.

use anyhow::{Context, Result, bail};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Kind of work, the folder inside, and how much slower it may be.
const WORKS: [(&str, &str, &str, f64); 10] = [
    ("CPU loop", "cpu", "/", 1.03),
    ("getpid loop", "getpid", "/", 1.10),
    ("4 KiB writes in the root", "write", "/tmp", 1.10),
    ("4 KiB reads in the root", "read", "/tmp", 1.10),
    ("4 KiB writes in /local", "write", "/local", 1.10),
    ("4 KiB reads in /local", "read", "/local", 1.10),
    ("4 KiB writes in a volume", "write", "/volume", 1.10),
    ("4 KiB reads in a volume", "read", "/volume", 1.10),
    ("fork and exec", "spawn", "/", 1.03),
    ("loopback TCP, a byte there and back", "tcp", "/", 1.10),
];

/// One kind of work.
#[derive(Clone, Debug)]
pub struct Speed {
    /// What it is.
    pub what: &'static str,
    /// Nanoseconds per operation outside, the least of all rounds.
    pub outside: f64,
    /// Inside.
    pub inside: f64,
    /// Inside to outside.
    pub ratio: f64,
    /// The most that it may be.
    pub most: f64,
}

/// The program, and a folder for it to write in.
pub struct Load {
    program: PathBuf,
    folder: tempfile::TempDir,
}

impl Load {
    /// Compiles it to a place that every root shows.
    ///
    /// # Errors
    /// No gcc, or `/usr/local/bin` is read-only.
    pub fn build() -> Result<Self> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("load/load.c");
        let program = PathBuf::from(format!("/usr/local/bin/bivouac-bench-load-{}", std::process::id()));
        let text = |path: &Path| path.display().to_string();
        crate::ground::run("gcc", &["-O2", "-static", "-o", &text(&program), &text(&source)])?;
        let folder = tempfile::Builder::new().prefix("bivouac-bench-").tempdir_in("/var/tmp")?;
        // For the task's user as well.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o1777))?;
        Ok(Self { program, folder })
    }

    /// The program, at a path that every root shows.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// All kinds of work, so many rounds each.
    ///
    /// # Errors
    /// The program fails, inside or outside.
    pub fn measure(&self, dist: &Path, rounds: u32) -> Result<Vec<Speed>> {
        WORKS.iter().map(|work| self.work(dist, rounds, work)).collect()
    }

    fn work(
        &self,
        dist: &Path,
        rounds: u32,
        (what, kind, folder, most): &(&'static str, &str, &str, f64),
    ) -> Result<Speed> {
        let (mut outside, mut inside) = (Vec::new(), Vec::new());
        let volume = format!("{}:/volume", self.folder.path().display());
        for _ in 0..rounds {
            outside.push(said(Command::new(&self.program).arg(kind).arg(self.folder.path()))?);
            let mut command = Command::new(dist.join("bivouac"));
            command.args(["run", "--quiet", "--volume", &volume, "--"]);
            inside.push(said(command.arg(&self.program).args([kind, folder]))?);
        }
        // What disturbs a loop only ever slows it: the least is the work's own, the rest is the machine's.
        let least =
            |numbers: &[f64]| numbers.iter().copied().min_by(f64::total_cmp).context("nothing was measured");
        let (outside, inside) = (least(&outside)?, least(&inside)?);
        Ok(Speed { what, outside, inside, ratio: inside / outside, most: *most })
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _gone = std::fs::remove_file(&self.program);
    }
}

/// The number that a program prints.
fn said(command: &mut Command) -> Result<f64> {
    let output = command.stdin(Stdio::null()).output().context("cannot start the load")?;
    let text = String::from_utf8_lossy(&output.stdout);
    match text.trim().parse() {
        Ok(number) if output.status.success() => Ok(number),
        _ => bail!("the load failed: {} {}", output.status, String::from_utf8_lossy(&output.stderr).trim()),
    }
}
