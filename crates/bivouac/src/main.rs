//! The command `bivouac`: reads its arguments and hands them to one of the commands.
#![forbid(unsafe_code)]

mod adhoc;
mod cli;
mod commands;
mod complete;
mod format;
mod quick;
mod rows;
mod screen;
mod ui;

use std::process::ExitCode;

/// musl's own gives every small group of freed objects back to the kernel at once: a fifth of a start.
#[global_allocator]
static MEMORY: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// For everything that failed before a task could tell a status of its own.
const SETUP_FAILED: u8 = 125;
/// For a command line that means nothing.
const WRONG_USAGE: u8 = 2;

fn main() -> ExitCode {
    // We start ourselves for work that is done without privileges.
    match std::env::args_os().nth(1) {
        Some(name) if name == bivouac_artifact::helper::SUBCOMMAND => {
            return bivouac_artifact::helper::main();
        }
        Some(name) if name == bivouac_runner::template::helper::SUBCOMMAND => {
            return bivouac_runner::template::helper::main();
        }
        _ => {}
    }
    // Nomad starts the same file; it says so in the environment, and gives no arguments but its operator's.
    if bivouac_plugin::launched_by_nomad(|name| std::env::var_os(name)) {
        let arguments: Vec<_> = std::env::args_os().collect();
        return bivouac_plugin::serve(bivouac_plugin::engine::Bivouac::new, &arguments);
    }
    let cli = cli::Cli::read(std::env::args_os());
    match commands::run(cli) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            ui::error(&error);
            let run =
                error.downcast_ref::<bivouac_runner::foreground::RunError>().map(|error| error.exit_code());
            let session =
                error.downcast_ref::<bivouac_runner::session::SessionError>().map(|error| error.exit_code());
            let usage = error.downcast_ref::<adhoc::Usage>().map(|_| WRONG_USAGE);
            ExitCode::from(run.or(session).or(usage).unwrap_or(SETUP_FAILED))
        }
    }
}
