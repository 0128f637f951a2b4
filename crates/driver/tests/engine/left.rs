//! What crashes leave, and what the engine does with it.

use crate::bench::Bench;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

#[test]
fn what_a_crash_left_is_collected_and_what_just_starts_is_not() {
    let Some(bench) = Bench::new("gc") else { return };
    let run_dir = bench.path("run/tasks/left%2fover");
    std::fs::create_dir(&run_dir).unwrap();
    std::fs::set_permissions(&run_dir, std::fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(bench.engine.list().unwrap(), ["left/over"]);
    assert!(bench.engine.gc().unwrap().is_empty(), "it may be just starting");
    let long_ago = SystemTime::now() - Duration::from_secs(3600);
    std::fs::File::open(&run_dir).unwrap().set_modified(long_ago).unwrap();
    assert_eq!(bench.engine.gc().unwrap(), ["left/over"]);
    bench.finish();
}
