//! Any text is an expression or a template in the middle of a sound job, or an error; and what runs replace in plain
//! fields changes only names that are known.
#![no_main]

use bivouac_jobspec::{Input, SourceFile, interpolate, parse};
use libfuzzer_sys::fuzz_target;

const JOB: &str = r#"
variable "v" { default = "x" }
locals { a = EXPRESSION }
job "j" { group "g" { task "t" {
  driver = "exec"
  config { command = "/bin/TEMPLATE" args = [local.a, TEXT] }
} } }
"#;

fuzz_target!(|text: &str| {
    for job in [JOB.replace("EXPRESSION", text).replace("TEXT", "\"\""), JOB.replace("TEMPLATE", text)] {
        let job =
            job.replace("EXPRESSION", "1").replace("TEMPLATE", "true").replace("TEXT", "\"${local.a}\"");
        if let Ok(outcome) = parse(&Input { job: SourceFile::new("job.hcl", job), ..Input::default() }) {
            let tasks = outcome.job.groups.iter().flat_map(|group| &group.tasks);
            for task in tasks {
                let _ =
                    interpolate::config(&task.config, &outcome.sources, &|name| Some(format!("<{name}>")));
            }
        }
    }
    assert_eq!(interpolate::replace(text, &|_| None), text, "nothing is known, so nothing changes");
    let once = interpolate::replace(text, &|_| Some(String::new()));
    assert!(once.len() <= text.len());
});
