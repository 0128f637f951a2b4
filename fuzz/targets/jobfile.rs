//! Any bytes are a job, or errors that each name a place in the file; within a second (the runner's time limit).
#![no_main]

use bivouac_jobspec::{Input, SourceFile, parse, settings};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let job = SourceFile::new("job.hcl", bytes);
    let _ = settings(&job);
    match parse(&Input { job, ..Input::default() }) {
        Ok(outcome) => assert!(!outcome.job.groups.is_empty(), "a job without groups is none"),
        Err(problems) => {
            assert!(!problems.items().is_empty(), "a refusal without a reason");
            let shown = problems.render(false);
            assert!(shown.contains("job.hcl"), "no place: {shown}");
        }
    }
});
