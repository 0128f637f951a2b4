//! The command with a state directory of its own, as the tests of this crate use it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The command, with a state directory of its own.
pub(crate) struct Bivouac {
    pub(crate) state: PathBuf,
}

impl Bivouac {
    /// `None` where sandboxes cannot run.
    pub(crate) fn new(test: &str) -> Option<Bivouac> {
        let parent = std::env::var_os("BIVOUAC_TEST_DIR").map_or(PathBuf::from("/var/tmp"), PathBuf::from);
        let state = parent.join(format!("bivouac-test-cli-{}-{test}", std::process::id()));
        let uid = std::fs::metadata("/proc/self").map(|data| std::os::unix::fs::MetadataExt::uid(&data)).ok();
        if uid != Some(0) {
            println!("SKIPPED: {test}: needs root");
            return None;
        }
        Some(Bivouac { state })
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bivouac"));
        command.arg("--state-dir").arg(&self.state).args(arguments).stdin(Stdio::null()).current_dir(root());
        command
    }

    /// Standard output, standard error, exit status.
    pub(crate) fn told(&self, arguments: &[&str]) -> (String, String, Option<i32>) {
        let output = self.command(arguments).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (text(&output.stdout), text(&output.stderr), output.status.code())
    }
}

impl Drop for Bivouac {
    fn drop(&mut self) {
        let left = std::fs::read_dir(self.state.join("allocs")).map_or(0, Iterator::count);
        if left > 0 {
            for arguments in [&["ps", "-a"][..], &["gc"]] {
                println!("{:?}", self.told(arguments));
            }
        }
        let _ = std::fs::remove_dir_all(&self.state);
        if !std::thread::panicking() {
            assert_eq!(left, 0, "allocations are left in {}", self.state.display());
        }
    }
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Waits until something is there; fails after a minute.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited a minute for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
