//! The Nomad face over an engine without isolation: what the tests launch as a plugin.
//!
//! With `FAKE_DIARY` set it writes down there what the client asked for; with `FAKE_DRIVER_OPTIONS` it
//! takes the options of the real driver.

#[path = "../tests/fake/mod.rs"]
mod fake;

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    let diary = std::env::var_os("FAKE_DIARY").map(Into::into);
    let options = std::env::var_os("FAKE_DRIVER_OPTIONS").is_some();
    let make = |_: &bivouac_plugin::DriverName| fake::Fake::with_diary(diary, options);
    bivouac_plugin::serve(make, &args)
}
