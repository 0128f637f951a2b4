//! Writes `src/generated` anew from `proto/`: run it after changing a message.
//!
//! `cargo run -p bivouac-plugin --example generate`. A developer's tool, so that no ordinary build
//! needs a protobuf compiler; a test checks that what lies in the tree is what this writes.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = std::env::args_os().nth(1).map_or_else(|| here.join("src/generated"), Into::into);
    let files = protox::compile(
        ["base.proto", "driver.proto", "goplugin.proto", "status.proto"],
        [here.join("proto")],
    )?;
    std::fs::create_dir_all(&out)?;
    tonic_prost_build::configure()
        .out_dir(&out)
        .include_file("mod.rs")
        .emit_rerun_if_changed(false)
        .build_transport(false)
        .btree_map(".")
        .client_mod_attribute(".", "#[cfg(feature = \"client\")]")
        .compile_fds(files)?;
    Ok(())
}
