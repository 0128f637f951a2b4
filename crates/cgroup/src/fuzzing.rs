//! The readers of the kernel's texts, for the fuzz targets alone. No part of the interface.

use crate::parse;

/// Reads `text` as every file of a control group that we read; what comes out does not matter.
pub fn read_everything(text: &str) {
    let _ = parse::number(text);
    let _ = parse::keyed(text, ["usage_usec", "oom_kill", "user"]);
    let _ = parse::required(text, "oom_kill");
    let _ = parse::processes(text);
    let _ = parse::io_stat(text);
    let _ = parse::blkio(text);
}
