//! The Nomad face over the real driver, as the `bivouac` program serves it: for tests of this room alone.
//! `BIVOUAC_SHIM` names the shim, if it does not lie beside.

use std::process::ExitCode;

pub(crate) fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    bivouac_plugin::serve(bivouac_plugin::engine::Bivouac::new, &args)
}
