//! The plugin as an agent launches it, over the real driver: real tasks, started, watched and ended by a client of our
//! own, so that it is driven where no Nomad is built too (the cgroup v2 machine).

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking and skips aloud")]

mod client;
mod ends;
mod house;
mod life;
mod logs;
mod recovery;
mod starts;
mod upgrade;

/// Runs a test on one thread, and no longer than allowed; the emulated machine may be slow.
fn test(body: impl Future<Output = ()>) {
    const LIMIT: std::time::Duration = std::time::Duration::from_secs(300);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(LIMIT, body).await.expect("in time") });
    runtime.shutdown_background();
}

/// Whether this machine can run the test; says so if not.
fn can_run(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("SKIPPED: {test}: needs root");
    }
    root
}
