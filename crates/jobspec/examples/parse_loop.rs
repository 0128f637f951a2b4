//! How long a job file of 200 lines takes to become a job, and what that takes at its height: prints milliseconds (the
//! median of many) and MiB, for the benchmark.

#![forbid(unsafe_code)]

use bivouac_jobspec::{Feature, Input, SourceFile, Support, parse};
use std::error::Error;
use std::fmt::Write;
use std::time::Instant;

/// The program's own (`crates/bivouac/src/main.rs`): with another it would not be the program that is measured.
#[global_allocator]
static MEMORY: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

const LINES: usize = 200;
const TURNS: usize = 101;

fn main() -> Result<(), Box<dyn Error>> {
    let text = job();
    if text.lines().count() != LINES {
        return Err(format!("the job has {} lines", text.lines().count()).into());
    }
    let input = Input {
        job: SourceFile::new("bench.nomad.hcl", text),
        support: Support::only(&[Feature::Count, Feature::Template, Feature::Restart, Feature::Logs]),
        ..Input::default()
    };
    let before = resident_at_most()?;
    let mut times = Vec::with_capacity(TURNS);
    let mut height = 0;
    for turn in 0..TURNS {
        let begun = Instant::now();
        let outcome = parse(&input).map_err(|problems| problems.to_string())?;
        times.push(begun.elapsed().as_secs_f64() * 1000.0);
        if turn == 0 {
            height = resident_at_most()?.saturating_sub(before);
        }
        drop(outcome);
    }
    times.sort_by(f64::total_cmp);
    let median = times.get(TURNS / 2).copied().unwrap_or_default();
    #[expect(clippy::print_stdout, reason = "this is what the program is for")]
    {
        println!("{median:.4} {:.3}", height as f64 / 1024.0);
    }
    Ok(())
}

/// Variables, locals, functions, interpolation, heredocs: what people write.
fn job() -> String {
    let mut text = String::from(
        r#"variable "region" {
  type    = string
  default = "eu"
}

variable "ports" {
  type    = list(number)
  default = [8080, 8081, 8082]
}

locals {
  name = "web-${var.region}"
  tags = { for port in var.ports : "port-${port}" => upper(format("%s:%d", var.region, port)) }
}

job "bench" {
  type        = "service"
  datacenters = ["dc1"]
  meta {
    owner = local.name
  }

  group "web" {
    count = length(var.ports)
    restart {
      attempts = 3
      interval = "5m"
      delay    = "10s"
      mode     = "delay"
    }
"#,
    );
    for number in 0..7 {
        let _never = write!(
            text,
            r#"
    task "task{number}" {{
      driver = "exec"
      user   = "nobody"
      config {{
        command = "/usr/bin/env"
        args    = concat(["--port", "${{var.ports[{at}]}}"], [for tag in values(local.tags) : lower(tag)])
      }}
      env {{
        NAME  = "${{local.name}}-{number}"
        ALLOC = "${{NOMAD_ALLOC_ID}}"
      }}
      template {{
        destination = "local/settings{number}.txt"
        data        = <<-EOT
          listen on {{{{ env "NOMAD_ALLOC_DIR" }}}}
        EOT
      }}
      resources {{
        memory = max(64, {number} * 32)
      }}
    }}
"#,
            at = number % 3,
        );
    }
    text.push_str("  }\n}\n");
    // Up to the round number with what files have most of.
    while text.lines().count() < LINES {
        text.push_str("# a comment\n");
    }
    text
}

/// KiB of this process that were ever resident at once.
fn resident_at_most() -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    Ok(line.split_whitespace().next().unwrap_or_default().parse()?)
}
