//! The task handle: what the client keeps on its disk between our lives.
//!
//! A named MessagePack map, so that later versions can add keys. It holds no secrets: neither the
//! task's environment nor its arguments, which the client puts in again or does not need.

use crate::face::{Foreign, Resources, TaskRecover};
use crate::wire::driver as pb;
use serde::{Deserialize, Serialize};

/// The version of our saved state. The built-in driver's is 1 as well: `owner` tells them apart.
const VERSION: i32 = 1;

/// Says that a saved state is ours.
const OWNER: &str = "bivouac";

/// Longest saved state that is read, in bytes: ours are below one KiB.
const MAX_STATE: usize = 1 << 20;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Saved {
    owner: String,
    #[serde(with = "serde_bytes")]
    engine: Vec<u8>,
}

/// The parts of the built-in driver's saved state that say what must be ended.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct BuiltIn {
    reattach_config: Option<Reattach>,
    pid: Option<i32>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Reattach {
    pid: Option<i32>,
}

/// What a handle turned out to be.
#[derive(Debug, PartialEq)]
pub(crate) enum Recovered {
    /// A task of ours.
    Ours(TaskRecover),
    /// A task of the driver whose name we took over.
    Foreign(Foreign),
}

/// Why a handle is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HandleError {
    #[error("the request holds no task handle")]
    Absent,
    #[error("the task handle names no task")]
    NoTask,
    #[error(
        "the handle of task {id:?} has version {version}, and this plugin knows version {VERSION}; use the plugin that wrote it"
    )]
    Version { id: String, version: i32 },
    #[error("the saved state of task {id:?} is not readable: {why}")]
    Unreadable { id: String, why: String },
}

/// Makes the handle that goes back to the client. Only the id of `config` is ever used again, so what
/// may be secret is left out of the echo.
pub(crate) fn make(config: pb::TaskConfig, engine: Vec<u8>) -> Result<pb::TaskHandle, HandleError> {
    let unreadable =
        |e: rmp_serde::encode::Error| HandleError::Unreadable { id: config.id.clone(), why: e.to_string() };
    let saved = Saved { owner: OWNER.to_owned(), engine };
    let driver_state = rmp_serde::to_vec_named(&saved).map_err(unreadable)?;
    let config = pb::TaskConfig {
        env: Default::default(),
        device_env: Default::default(),
        msgpack_driver_config: Vec::new(),
        ..config
    };
    Ok(pb::TaskHandle {
        version: VERSION,
        config: Some(config),
        state: pb::TaskState::Running.into(),
        driver_state,
    })
}

/// Reads a handle that the client kept.
pub(crate) fn read(handle: Option<pb::TaskHandle>) -> Result<Recovered, HandleError> {
    let handle = handle.ok_or(HandleError::Absent)?;
    let config = handle.config.ok_or(HandleError::NoTask)?;
    if config.id.is_empty() {
        return Err(HandleError::NoTask);
    }
    if handle.version != VERSION {
        return Err(HandleError::Version { id: config.id, version: handle.version });
    }
    if handle.driver_state.len() > MAX_STATE {
        let why = format!("{} bytes are too many", handle.driver_state.len());
        return Err(HandleError::Unreadable { id: config.id, why });
    }
    match rmp_serde::from_slice::<Saved>(&handle.driver_state) {
        Ok(saved) if saved.owner == OWNER => Ok(Recovered::Ours(TaskRecover {
            id: config.id,
            name: config.name,
            alloc_id: config.alloc_id,
            alloc_dir: config.alloc_dir.into(),
            state: saved.engine,
        })),
        Ok(saved) => Err(HandleError::Unreadable {
            id: config.id,
            why: format!("it belongs to {:?}", saved.owner.chars().take(64).collect::<String>()),
        }),
        Err(ours) => match rmp_serde::from_slice::<BuiltIn>(&handle.driver_state) {
            Ok(BuiltIn { reattach_config: Some(reattach), pid }) => Ok(Recovered::Foreign(Foreign {
                task_id: config.id,
                alloc_id: config.alloc_id,
                task_name: config.name,
                alloc_dir: config.alloc_dir.into(),
                executor: reattach.pid.filter(|pid| *pid > 1),
                pid: pid.filter(|pid| *pid > 1),
                resources: config.resources.map_or_else(Resources::default, crate::convert::resources),
            })),
            _ => Err(HandleError::Unreadable { id: config.id, why: ours.to_string() }),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn config() -> pb::TaskConfig {
        pb::TaskConfig {
            id: "alloc/web/0a1b2c3d".into(),
            name: "web".into(),
            alloc_id: "alloc".into(),
            env: [("VAULT_TOKEN".to_owned(), "hvs.secret".to_owned())].into(),
            device_env: [("KEY".to_owned(), "hvs.secret".to_owned())].into(),
            msgpack_driver_config: b"hvs.secret".to_vec(),
            ..Default::default()
        }
    }

    #[test]
    fn what_is_saved_is_found_again() {
        let handle = make(config(), b"\x00engine".to_vec()).unwrap();
        let Recovered::Ours(task) = read(Some(handle)).unwrap() else { panic!("ours") };
        assert_eq!((task.id.as_str(), task.state.as_slice()), ("alloc/web/0a1b2c3d", &b"\x00engine"[..]));
    }

    #[test]
    fn no_secret_is_saved() {
        use prost::Message;
        let bytes = make(config(), Vec::new()).unwrap().encode_to_vec();
        assert!(!String::from_utf8_lossy(&bytes).contains("hvs.secret"));
    }

    #[test]
    fn the_built_in_drivers_task_is_recognised() {
        let state = json!({"ReattachConfig": {"Protocol": "grpc", "Network": "unix", "Addr": "/tmp/x", "Pid": 4711},
            "TaskConfig": {"ID": "x"}, "Pid": 4712, "StartedAt": 0});
        let handle = pb::TaskHandle {
            version: 1,
            config: Some(config()),
            state: 1,
            driver_state: rmp_serde::to_vec_named(&state).unwrap(),
        };
        let Recovered::Foreign(foreign) = read(Some(handle)).unwrap() else { panic!("foreign") };
        assert_eq!((foreign.executor, foreign.pid), (Some(4711), Some(4712)));
    }

    #[test]
    fn useless_handles_are_refused_with_their_task() {
        assert_eq!(read(None), Err(HandleError::Absent));
        assert_eq!(read(Some(pb::TaskHandle::default())), Err(HandleError::NoTask));
        for version in [0, 2, -1, i32::MAX] {
            let handle = pb::TaskHandle { version, config: Some(config()), ..Default::default() };
            assert!(read(Some(handle)).unwrap_err().to_string().contains("alloc/web/0a1b2c3d"));
        }
        let other = Saved { owner: "exec2".into(), engine: vec![] };
        for state in [vec![], vec![0xc0], vec![0; MAX_STATE + 1], rmp_serde::to_vec_named(&other).unwrap()] {
            let handle = pb::TaskHandle {
                version: 1,
                config: Some(config()),
                driver_state: state,
                ..Default::default()
            };
            assert!(matches!(read(Some(handle)), Err(HandleError::Unreadable { .. })));
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(driver_state in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(Some(pb::TaskHandle { version: 1, config: Some(config()), driver_state, ..Default::default() }));
        }

        #[test]
        fn any_state_survives(engine in proptest::collection::vec(any::<u8>(), 0..300)) {
            let handle = make(config(), engine.clone()).unwrap();
            let Recovered::Ours(task) = read(Some(handle)).unwrap() else { panic!("ours") };
            prop_assert_eq!(task.state, engine);
        }
    }
}
