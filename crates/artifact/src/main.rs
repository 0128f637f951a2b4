//! The helper process as a program of its own, for the tests of this crate; `bivouac` contains the same.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    bivouac_artifact::helper::main()
}
