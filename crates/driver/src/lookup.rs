//! Where a command is looked for, in the documented order: in `/local`, from `/`, in the mounts, then in
//! `/usr/local/bin`, `/usr/bin` and `/bin`, all inside the task. The engine opens the first that is there.

use crate::options::quoted;
use bivouac_sandbox::TaskPath;
use bivouac_sandbox::model::{Candidate, ExecuteBit};
use bivouac_sandbox::path::PathError;

/// Why a command is refused before it is looked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Nothing.
    #[error("command must not be empty")]
    Empty,
    /// `..` means something else behind a link than it says.
    #[error("command {0} is refused: it must not contain `..`")]
    Parent(String),
    /// Not a path at all.
    #[error("command {0} is refused: {1}")]
    Path(String, PathError),
}

/// What the lookup needs to know about the root.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// Targets of the chroot environment.
    pub entries: &'a [TaskPath],
    /// Targets of mounts, in job-file order.
    pub mounts: &'a [TaskPath],
}

/// Directories for a bare name, after the task's own.
const SEARCH: [&str; 3] = ["/usr/local/bin", "/usr/bin", "/bin"];

/// The places where `command` may be, the first of which that is a regular file wins.
///
/// # Errors
/// [`CommandError`].
pub fn candidates(command: &str, scene: &Scene<'_>) -> Result<Vec<Candidate>, CommandError> {
    if command.is_empty() {
        return Err(CommandError::Empty);
    }
    if command.split('/').any(|part| part == "..") {
        return Err(CommandError::Parent(quoted(command)));
    }
    let below = |directory: &str| {
        let path = TaskPath::new(format!("{directory}/{command}"));
        path.map_err(|error| CommandError::Path(quoted(command), error))
    };
    let mut paths = vec![below("/local")?, below("")?];
    if command.contains('/') {
        // A mount stands at its own place in the root, so the path as given already leads into it; the order among
        // nested mounts is settled by what lies on top.
        return Ok(unique(paths, scene));
    }
    for directory in SEARCH {
        paths.push(below(directory)?);
    }
    Ok(unique(paths, scene))
}

/// The places where a command of an exec session may be: along the task's `PATH` for a bare name, else the path
/// itself, a relative one from the working directory.
///
/// # Errors
/// [`CommandError`].
pub fn along_path(
    command: &str,
    path: &str,
    work_dir: &TaskPath,
    execute_bit: ExecuteBit,
) -> Result<Vec<Candidate>, CommandError> {
    if command.is_empty() {
        return Err(CommandError::Empty);
    }
    if command.split('/').any(|part| part == "..") {
        return Err(CommandError::Parent(quoted(command)));
    }
    let refused = |error| CommandError::Path(quoted(command), error);
    let paths = if command.starts_with('/') {
        vec![TaskPath::new(command).map_err(refused)?]
    } else if command.contains('/') {
        vec![work_dir.join(command).map_err(refused)?]
    } else {
        // A relative part of PATH would mean the directory that the task happens to be in: passed over.
        let absolute = path.split(':').filter_map(|directory| TaskPath::new(directory).ok());
        absolute.map(|directory| directory.join(command)).collect::<Result<_, _>>().map_err(refused)?
    };
    Ok(paths.into_iter().map(|path| Candidate { path, execute_bit }).collect())
}

fn unique(paths: Vec<TaskPath>, scene: &Scene<'_>) -> Vec<Candidate> {
    let mut seen = Vec::new();
    for path in paths {
        if !seen.iter().any(|candidate: &Candidate| candidate.path == path) {
            let execute_bit = execute_bit(&path, scene);
            seen.push(Candidate { path, execute_bit });
        }
    }
    seen
}

/// A missing execute bit may be added to the task's own files: those in its directory, and in the private layer
/// over a directory of the chroot environment only if the engine finds them there, which it cannot tell from the
/// host's own. So everything below an entry or a mount is left alone.
fn execute_bit(path: &TaskPath, scene: &Scene<'_>) -> ExecuteBit {
    let foreign = |top: &TaskPath| path.is_within(top);
    let shared = TaskPath::new("/alloc").is_ok_and(|alloc| path.is_within(&alloc));
    if shared || scene.mounts.iter().any(foreign) || scene.entries.iter().any(foreign) {
        ExecuteBit::Leave
    } else {
        ExecuteBit::Add
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(text: &str) -> TaskPath {
        TaskPath::new(text).unwrap()
    }

    fn look(command: &str) -> Vec<(String, ExecuteBit)> {
        let (entries, mounts) = ([path("/usr"), path("/bin"), path("/etc")], [path("/srv")]);
        let found = candidates(command, &Scene { entries: &entries, mounts: &mounts }).unwrap();
        found.into_iter().map(|candidate| (candidate.path.to_string(), candidate.execute_bit)).collect()
    }

    /// Covers: X6
    #[test]
    fn x6_the_order() {
        use ExecuteBit::{Add, Leave};
        let row = |text: &str, bit| (text.to_owned(), bit);
        assert_eq!(
            look("tmp0.txt"),
            [
                row("/local/tmp0.txt", Add),
                row("/tmp0.txt", Add),
                row("/usr/local/bin/tmp0.txt", Leave),
                row("/usr/bin/tmp0.txt", Leave),
                row("/bin/tmp0.txt", Leave),
            ]
        );
        for command in ["/foo/tmp1.txt", "foo/tmp1.txt"] {
            assert_eq!(look(command), [row("/local/foo/tmp1.txt", Add), row("/foo/tmp1.txt", Add)]);
        }
        assert_eq!(look("local/tmp2.txt"), [row("/local/local/tmp2.txt", Add), row("/local/tmp2.txt", Add)]);
        assert_eq!(
            look("/srv/bar/tmp5.txt"),
            [row("/local/srv/bar/tmp5.txt", Add), row("/srv/bar/tmp5.txt", Leave)]
        );
        assert_eq!(look("/bin/sh"), [row("/local/bin/sh", Add), row("/bin/sh", Leave)]);
        assert_eq!(look("/alloc/run"), [row("/local/alloc/run", Add), row("/alloc/run", Leave)]);
        assert!(
            look("tmp4.txt").iter().all(|(path, _)| !path.starts_with("/srv")),
            "a bare name is not searched in mounts"
        );
        assert!(look("ip").iter().all(|(path, _)| !path.contains("sbin")));
    }

    #[test]
    fn what_leads_elsewhere_is_refused() {
        let error =
            |command| candidates(command, &Scene { entries: &[], mounts: &[] }).unwrap_err().to_string();
        for command in ["..", "../x", "/a/../../bin/sh", "a/.."] {
            assert_eq!(error(command), format!("command {command:?} is refused: it must not contain `..`"));
        }
        assert_eq!(error(""), "command must not be empty");
        assert!(error("a\0b").contains("NUL"));
        assert!(error(&"x/".repeat(4000)).contains("longer than the kernel takes"));
    }

    proptest! {
        #[test]
        fn every_candidate_ends_with_what_was_asked(command in "[a-z./]{1,12}") {
            let asked = path(&format!("/{}", command.replace("..", "x")));
            for candidate in candidates(&command.replace("..", "x"), &Scene { entries: &[], mounts: &[] }).unwrap() {
                prop_assert!(candidate.path.as_path().ends_with(asked.as_path().strip_prefix("/").unwrap()));
            }
        }
    }
}
