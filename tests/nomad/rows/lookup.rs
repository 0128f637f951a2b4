//! How a command is found.

use super::refused;
use crate::job::Job;
use crate::shared::ours;
use serde_json::json;

/// Covers: X6
#[test]
fn x6_ten_ways_to_name_a_command() {
    ours(|agent| {
        let script = "#!/bin/sh\necho \"$0\"\n";
        let job = |n: usize, command: &str| {
            Job::batch(&format!("x6-{n}"), "bivouac", &[command])
                .template("usr/local/bin/tmp0.txt", "700", script)
                .template("foo/tmp1.txt", "700", script)
                .template("local/tmp2.txt", "700", script)
                .template("local/foo/tmp3.txt", "700", script)
                .volume(&[("/srv", false)])
        };
        let found = [
            ("tmp0.txt", "/usr/local/bin/tmp0.txt"),
            ("/foo/tmp1.txt", "/foo/tmp1.txt"),
            ("/local/tmp2.txt", "/local/tmp2.txt"),
            ("local/tmp2.txt", "/local/tmp2.txt"),
            ("tmp2.txt", "/local/tmp2.txt"),
            ("/local/foo/tmp3.txt", "/local/foo/tmp3.txt"),
            ("/srv/bar/../tmp4.txt", ""),
        ];
        let runs: Vec<_> = found
            .iter()
            .enumerate()
            .filter(|(_, (_, path))| !path.is_empty())
            .map(|(n, (command, path))| (job(n, command).submit(agent), path))
            .collect();
        for (run, path) in runs {
            run.wait_for("complete");
            run.stdout_is(&format!("{path}\n"));
        }
        // On a mount the execute bit is never added: whoever owns the volume decides.
        for file in ["volume/tmp4.txt", "volume/bar/tmp5.txt"] {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(agent.dir.join(file), mode).expect("a mode");
        }
        for (n, command) in ["/srv/tmp4.txt", "/srv/bar/tmp5.txt"].into_iter().enumerate() {
            let run = job(10 + n, command).submit(agent);
            run.wait_for("complete");
            run.stdout_is(&format!("{command}\n"));
        }
        refused(agent, &job(20, "tmp4.txt"), &["file tmp4.txt not found under path"]);
        let bare = Job::batch("x6-21", "bivouac-bare", &["/bin/sh"]);
        refused(agent, &bare, &["file /bin/sh not found under path"]);
    });
}

/// Covers: X7
#[test]
fn x7_what_is_not_in_the_root_cannot_be_run() {
    ours(|agent| {
        for (n, command) in ["/bin/kill", "kill"].into_iter().enumerate() {
            let job = Job::batch(&format!("x7-{n}"), "bivouac-bare", &[command]);
            refused(agent, &job, &[&format!("file {command} not found under path")]);
        }
        let run = Job::batch("x7", "bivouac-bare", &["/bin/busybox", "echo", "works"]).finish(agent);
        run.stdout_is("works\n");
    });
}

/// Covers: X26
#[test]
fn x26_a_command_that_does_not_exist() {
    ours(|agent| {
        let job = Job::batch("x26", "bivouac", &["/bin/foobar"]);
        refused(
            agent,
            &job,
            &["failed to launch command with executor", "file /bin/foobar not found under path"],
        );
    });
}

/// Covers: X33
#[test]
fn x33_a_file_of_the_task_is_made_executable() {
    ours(|agent| {
        let run = Job::batch("x33", "bivouac", &["local/script"])
            .template("local/script", "610", "#!/bin/sh\nstat -c %a /local/script\n")
            .finish(agent);
        run.stdout_is("755\n");
    });
}

/// Covers: X37
#[test]
fn x37_a_script_without_the_execute_bit_embedded_under_its_own_path() {
    ours(|agent| {
        let script = agent.dir.join("plain-script");
        let run = Job::batch("x37", "bivouac-bare", &[script.to_str().expect("a plain path")]).finish(agent);
        run.stdout_is("hello world\n");
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&script.metadata().expect("the script").permissions());
        assert_eq!(mode & 0o777, 0o600, "the host's own file was changed");
    });
}

#[test]
fn a_command_that_leaves_the_root_is_refused() {
    ours(|agent| {
        let job =
            Job::batch("leaves", "bivouac", &["local/../../../../../bin/true"]).config("args", json!([]));
        refused(agent, &job, &[".."]);
    });
}
