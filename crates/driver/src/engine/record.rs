//! What is written down about a run before anything of it is made, and what a face saves to find it again.

use super::placed::{self, Placed};
use super::{EngineError, disk, session_process};
use crate::request::{StopRule, TaskRequest};
use crate::task::Task;
use bivouac_cgroup::{CpuSet, Saved};
use bivouac_sandbox::model::Process;
use bivouac_shim::process::{ProcessId, boot_id};
use bivouac_shim::status::Status;
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// MessagePack: as JSON the bytes of an environment take four characters each, and a start a tenth of a millisecond more.
const FILE: &str = "record";
/// A record holds an environment, which the kernel caps at 6 MiB.
const LARGEST: u64 = 16 << 20;

/// What finds a run again after a restart of the face. Faces save it as they like; it holds no secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handle {
    /// The run.
    pub id: String,
    /// Which boot it belongs to.
    pub boot_id: String,
    /// Its shim.
    pub shim: ProcessId,
    /// Its first process.
    pub first: Option<ProcessId>,
}

impl Handle {
    pub(super) fn of(id: &str, status: &Status) -> Handle {
        Handle { id: id.into(), boot_id: status.boot_id.clone(), shim: status.shim, first: status.first }
    }

    /// Whether this status is of the run that the handle means.
    pub(super) fn check(&self, status: &Status) -> Result<(), String> {
        if status.boot_id != self.boot_id {
            return Err("the host has been restarted".into());
        }
        if status.shim != self.shim || status.first != self.first {
            return Err("the saved handle is of another run".into());
        }
        Ok(())
    }
}

/// What is known about a run before it starts. Root's alone: it holds the task's environment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// The run.
    pub id: String,
    /// For messages.
    pub name: String,
    /// Which boot it belongs to.
    pub boot_id: String,
    /// The groups that are about to be made.
    pub cgroup: Saved,
    /// How it is asked to end.
    #[serde(default)]
    pub stop: StopRule,
    /// Processors that are its own while it runs.
    #[serde(default)]
    pub cores: Option<CpuSet>,
    /// Where files were put below the chroot environment.
    #[serde(default)]
    pub(super) placed: Vec<Placed>,
    process: Process,
}

impl Record {
    pub(super) fn of(task: &Task, request: &TaskRequest) -> Result<Record, EngineError> {
        let path = Path::new("/proc/sys/kernel/random/boot_id");
        Ok(Record {
            id: task.id.clone(),
            name: task.name.clone(),
            boot_id: boot_id().map_err(disk::failed("read", path))?,
            cgroup: task.cgroup.saved(),
            stop: request.stop,
            // What is no set of processors has been refused before.
            cores: request.resources.cores.parse().ok(),
            placed: placed::of(task, &request.directories.task),
            process: task.sandbox.process.clone(),
        })
    }

    pub(super) fn write(&self, run_dir: &Path) -> Result<(), EngineError> {
        let path = run_dir.join(FILE);
        let bytes = rmp_serde::to_vec_named(self).map_err(disk::failed("write", &path))?;
        let mut options = std::fs::OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(&bytes)).map_err(disk::failed("write", &path))
    }

    pub(super) fn read(run_dir: &Path) -> Result<Record, EngineError> {
        let path = run_dir.join(FILE);
        let mut bytes = Vec::new();
        let file = std::fs::File::open(&path);
        file.and_then(|file| file.take(LARGEST).read_to_end(&mut bytes))
            .map_err(disk::failed("read", &path))?;
        rmp_serde::from_slice(&bytes).map_err(disk::failed("read", &path))
    }

    pub(super) fn boot_is_this(&self) -> bool {
        boot_id().is_ok_and(|boot| boot == self.boot_id)
    }

    /// The process of an exec session.
    pub(super) fn process(&self, command: &[String]) -> Result<Process, EngineError> {
        Ok(session_process(&self.process, command)?)
    }
}

/// Makes the directory of a run; it stands for the run's id being taken.
pub(super) fn make_run_dir(path: &Path, id: &str) -> Result<(), EngineError> {
    std::fs::DirBuilder::new().mode(0o700).create(path).map_err(|error| {
        if error.kind() == std::io::ErrorKind::AlreadyExists {
            EngineError::AlreadyStarted(id.into())
        } else {
            disk::failed("make", path)(error)
        }
    })
}

/// Removes the directory of a run that never started.
pub(super) fn remove_run_dir(path: &Path) {
    // Only root reaches into it. What stays is found by the next gc.
    let _ = std::fs::remove_dir_all(path);
}

/// An id as one file name, one to one: what is not plain becomes `%` and two digits.
pub(super) fn file_name(id: &str) -> String {
    let mut name = String::new();
    for byte in id.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => name.push(char::from(byte)),
            other => name.push_str(&format!("%{other:02x}")),
        }
    }
    if name.is_empty() { "%".into() } else { name }
}

/// The id behind a file name; `None` for one that is none of ours.
pub(super) fn id_of(name: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = name.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    let id = String::from_utf8(bytes).ok()?;
    (file_name(&id) == name).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_id_is_one_plain_file_name_and_reads_back(id in "\\PC{1,40}") {
            let name = file_name(&id);
            prop_assert!(!name.contains('/') && name != "." && name != "..");
            prop_assert_eq!(id_of(&name), Some(id));
        }
    }

    #[test]
    fn strange_names_are_nobodys() {
        for name in [".", "..", "a b", "%", "%2", "%zz", "%61", "ä"] {
            assert_eq!(id_of(name), None, "{name}");
        }
    }
}
