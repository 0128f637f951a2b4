//! The reader of saved handles, for the fuzz targets alone. No part of the interface.

use crate::handle;
use crate::wire::driver as pb;
use prost::Message;

/// Reads bytes as a handle of the wire, and the same bytes as the saved state in one.
pub fn read_handle(bytes: &[u8]) {
    let _ = handle::read(pb::TaskHandle::decode(bytes).ok());
    let config = pb::TaskConfig { id: "alloc/web/1".into(), ..Default::default() };
    let driver_state = bytes.to_vec();
    let saved = pb::TaskHandle { version: 1, config: Some(config), driver_state, ..Default::default() };
    if let Ok(handle::Recovered::Foreign(foreign)) = handle::read(Some(saved)) {
        // What is not a process of its own must never be signalled.
        assert!(foreign.pid.is_none_or(|pid| pid > 1) && foreign.executor.is_none_or(|pid| pid > 1));
    }
}
