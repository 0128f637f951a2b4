//! What a job file's `file`, `fileset` and their like may read: a door that the caller holds.

use std::fs;
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

/// Largest file that a job file may read in, in bytes.
const MAX_FILE: u64 = 1 << 20;
/// Most files that `fileset` looks at.
const MAX_FILES: usize = 10_000;

/// File access for the functions of the language. Every error is a sentence that names the path.
pub trait FileAccess {
    /// The bytes of a regular file.
    ///
    /// # Errors
    /// The path is outside, missing, not a regular file or too large.
    fn read(&self, path: &str) -> Result<Vec<u8>, String>;

    /// Whether a regular file is there.
    ///
    /// # Errors
    /// The path is outside.
    fn exists(&self, path: &str) -> Result<bool, String>;

    /// All regular files below a folder, as paths relative to it with `/`.
    ///
    /// # Errors
    /// The folder is outside or cannot be read, or holds too many files.
    fn list(&self, folder: &str) -> Result<Vec<String>, String>;

    /// The path as an absolute one.
    ///
    /// # Errors
    /// The path is outside.
    fn absolute(&self, path: &str) -> Result<String, String>;

    /// The home directory that `~` stands for, if it may be known.
    fn home(&self) -> Option<String> {
        None
    }
}

/// Files below one folder, links resolved; nothing outside is opened.
#[derive(Clone, Debug)]
pub struct FolderFiles {
    root: PathBuf,
    home: Option<String>,
}

impl FolderFiles {
    /// Access to what lies below `folder`, usually the job file's own; `home` is what `~` stands for.
    ///
    /// # Errors
    /// The folder does not exist.
    pub fn new(folder: &Path, home: Option<String>) -> std::io::Result<Self> {
        Ok(FolderFiles { root: folder.canonicalize()?, home })
    }

    /// The path below the root, links resolved.
    fn resolve(&self, path: &str) -> Result<PathBuf, String> {
        if path.contains('\0') {
            return Err(format!("the path {path:?} contains a NUL byte"));
        }
        let outside = || format!("{path:?} lies outside the job file's folder {}", self.root.display());
        let joined = self.root.join(path);
        // Checked before the file system is asked, so that nothing outside is even looked up.
        let mut depth = 0_usize;
        let below = joined.strip_prefix(&self.root).map_err(|_| outside())?;
        for part in below.components() {
            match part {
                Component::Normal(_) => depth += 1,
                Component::ParentDir => depth = depth.checked_sub(1).ok_or_else(outside)?,
                _ => {}
            }
        }
        let real =
            joined.canonicalize().map_err(|error| format!("cannot read {path:?}: {}", reason(&error)))?;
        if real.starts_with(&self.root) { Ok(real) } else { Err(outside()) }
    }

    fn walk(&self, folder: &Path, prefix: &str, depth: usize, out: &mut Vec<String>) -> Result<(), String> {
        let entries = fs::read_dir(folder)
            .map_err(|error| format!("cannot read {}: {}", folder.display(), reason(&error)))?;
        for entry in entries {
            let entry =
                entry.map_err(|error| format!("cannot read {}: {}", folder.display(), reason(&error)))?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let Ok(kind) = entry.file_type() else { continue };
            let name = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
            if kind.is_dir() && depth < 32 {
                self.walk(&entry.path(), &name, depth + 1, out)?;
            } else if kind.is_file() {
                out.push(name);
            }
            if out.len() > MAX_FILES {
                return Err(format!("{} holds more than {MAX_FILES} files", self.root.display()));
            }
        }
        Ok(())
    }
}

fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".into(),
        std::io::ErrorKind::PermissionDenied => "permission denied".into(),
        _ => error.to_string(),
    }
}

impl FileAccess for FolderFiles {
    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        let real = self.resolve(path)?;
        // A FIFO would block the open, a device may never end.
        if !fs::metadata(&real).is_ok_and(|meta| meta.is_file()) {
            return Err(format!("{path:?} is not a regular file"));
        }
        let file =
            fs::File::open(&real).map_err(|error| format!("cannot read {path:?}: {}", reason(&error)))?;
        let mut bytes = Vec::new();
        let mut limited = file.take(MAX_FILE + 1);
        limited
            .read_to_end(&mut bytes)
            .map_err(|error| format!("cannot read {path:?}: {}", reason(&error)))?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(format!("{path:?} is larger than {} KiB", MAX_FILE / 1024));
        }
        Ok(bytes)
    }

    fn exists(&self, path: &str) -> Result<bool, String> {
        match self.resolve(path) {
            Ok(real) => Ok(real.is_file()),
            Err(message) if message.contains("outside") => Err(message),
            Err(_) => Ok(false),
        }
    }

    fn list(&self, folder: &str) -> Result<Vec<String>, String> {
        let real = self.resolve(folder)?;
        let mut out = Vec::new();
        self.walk(&real, "", 0, &mut out)?;
        out.sort();
        Ok(out)
    }

    fn absolute(&self, path: &str) -> Result<String, String> {
        if Path::new(path).is_absolute() {
            return Ok(path.to_owned());
        }
        let joined = self.root.join(path);
        let mut out = PathBuf::new();
        for part in joined.components() {
            match part {
                Component::ParentDir => {
                    out.pop();
                }
                Component::CurDir => {}
                other => out.push(other),
            }
        }
        Ok(out.to_string_lossy().into_owned())
    }

    fn home(&self) -> Option<String> {
        self.home.clone()
    }
}
