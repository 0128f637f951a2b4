//! The readers of `/proc`, for the fuzz targets alone. No part of the interface.

use crate::process;

/// Reads `stat` as a process's line there, and `status` as its other file.
pub fn read_process(stat: &[u8], status: &str) {
    let _ = process::start_time(stat);
    for signal in [i32::MIN, -1, 0, 1, 15, 64, 65, i32::MAX] {
        let _ = process::init_ignores(status, signal);
    }
}
