//! What a task finds at which path, and what of it lies on the host.

use super::{sh, succeeded};
use crate::job::Job;
use crate::shared::ours;
use serde_json::json;

/// Covers: E3
#[test]
fn e3_work_dir() {
    ours(|agent| {
        let job = Job::batch("e3", "bivouac", &["cat", "foo.txt"])
            .template("local/foo.txt", "644", "in local")
            .config("work_dir", json!("/local"));
        let run = job.finish(agent);
        run.stdout_is("in local");
        assert_eq!(run.code(), 0);
    });
}

/// Covers: X13
#[test]
fn x13_work_dir_in_the_roots_own_directories() {
    ours(|agent| {
        let run = Job::batch("x13", "bivouac", &["pwd"]).config("work_dir", json!("/etc")).finish(agent);
        run.stdout_is("/etc\n");
    });
}

/// Covers: E10
#[test]
fn e10_what_a_task_writes_to_the_shared_directory_is_the_hosts() {
    ours(|agent| {
        let (run, _) = sh(agent, "e10", "bivouac", "sleep 1; echo written > $NOMAD_ALLOC_DIR/output.txt");
        let text = std::fs::read_to_string(run.dir().join("alloc/output.txt"));
        assert_eq!(text.expect("the file on the host"), "written\n");
    });
}

/// Covers: E13, X11, X12
#[test]
fn e13_devices_and_mounts() {
    ours(|agent| {
        let script = "stat -c %t:%T:%F /dev/inserted-random\n\
            cat /tmp/rw/tmp4.txt >/dev/null && cat /tmp/ro/tmp4.txt >/dev/null && echo read\n\
            touch /tmp/rw/e13 && echo more > /tmp/rw/e13-new && echo written\n\
            touch /tmp/ro/e13\n/bin/sh -c 'echo z > /tmp/ro/z'\n\
            head -c 1 /dev/inserted-random >/dev/null && echo got\necho END";
        let device = json!([{"host_path": "/dev/random", "container_path": "/dev/inserted-random", "cgroup_permissions": "rw"}]);
        let job = Job::batch("e13", "bivouac", &["/bin/sh", "-c", script])
            .config("devices", device)
            .volume(&[("/tmp/rw", false), ("/tmp/ro", true)]);
        let (run, said) = succeeded(agent, &job);
        assert_eq!(said, "1:8:character special file\nread\nwritten\ngot\n");
        let refusals: Vec<String> = run.stderr().lines().map(str::to_owned).collect();
        assert!(
            refusals.len() == 2 && refusals.iter().all(|line| line.contains("Read-only file system")),
            "{refusals:?}"
        );
        let new = agent.dir.join("volume/e13-new");
        assert_eq!(std::fs::read_to_string(new).expect("the file on the host"), "more\n");
    });
}

/// Covers: X3
#[test]
fn x3_the_root_holds_what_was_embedded() {
    ours(|agent| {
        let run = Job::batch("x3", "bivouac-bare", &["/bin/busybox", "ls", "-F", "/", "/etc"]).finish(agent);
        let said = run.stdout_when(|seen| seen.contains("passwd"));
        let mut names: Vec<&str> = said.split_whitespace().filter(|name| !name.ends_with(':')).collect();
        names.sort_unstable();
        let expected = [
            "alloc/", "bin/", "dev/", "etc/", "local/", "passwd", "private/", "proc/", "secrets/", "sys/",
            "tmp/", "var/",
        ];
        assert_eq!(names, expected, "{said}");
        run.nothing_left();
    });
}

/// Covers: D10
#[test]
fn d10_a_file_made_inside_is_not_the_hosts() {
    ours(|agent| {
        let run =
            Job::service("d10", "bivouac", &["sleep", "600"]).task("KillTimeout", json!(0)).start(agent);
        let made = run.exec(&["mktemp"]).stdout;
        let made = made.trim();
        assert!(made.starts_with("/tmp/"), "{made}");
        assert!(!std::path::Path::new(made).exists(), "{made} is on the host");
        assert_eq!(run.exec(&["/bin/sh", "-c", &format!("echo kept > {made}")]).code, 0);
        assert_eq!(run.exec(&["cat", made]).stdout, "kept\n");
        let groups = run.exec(&["cat", "/proc/self/cgroup"]).stdout;
        assert!(groups.contains(&format!("/nomad/{}.main", run.id)) || groups.contains(".scope"), "{groups}");
    });
}

/// Destinations outside of `local`, below a directory of the chroot environment too, appear in the task.
#[test]
fn templates_outside_of_local_appear_where_the_job_says() {
    ours(|agent| {
        let job = Job::batch(
            "app-conf",
            "bivouac",
            &["/bin/sh", "-c", "cat /etc/app.conf /opt/x/app.conf /top.conf; echo END"],
        )
        .template("etc/app.conf", "644", "in etc\n")
        .template("opt/x/app.conf", "644", "in opt\n")
        .template("top.conf", "644", "on top\n");
        assert_eq!(succeeded(agent, &job).1, "in etc\nin opt\non top\n");
    });
}

/// A template to a file of the chroot environment, rendered again while nobody tells the task.
#[test]
fn a_template_below_the_chroot_environment_is_seen_when_it_is_rendered_again() {
    ours(|agent| {
        let path = "nomad/jobs/rendered-bivouac";
        let item = |word: &str| {
            let body = json!({"Namespace": "default", "Path": path, "Items": {"word": word}});
            agent.api.put(&format!("/v1/var/{path}"), &body).expect("a variable");
        };
        item("before");
        let template = json!([{
            "DestPath": "etc/app.conf", "ChangeMode": "noop", "Perms": "640", "Uid": 65534, "Gid": 65534,
            "EmbeddedTmpl": "{{ with nomadVar \"nomad/jobs/rendered-bivouac\" }}{{ .word }}{{ end }}",
        }]);
        let script = "old=; while :; do new=$(cat /etc/app.conf); [ \"$new\" = \"$old\" ] || echo \"$new $(stat -c %a:%u /etc/app.conf)\"; \
            old=$new; sleep 0.1; done";
        let run = Job::service("rendered", "bivouac", &["/bin/sh", "-c", script])
            .task("Templates", template)
            .task("KillTimeout", json!(0))
            .start(agent);
        run.stdout_is("before 640:65534\n");
        item("after");
        run.stdout_is("before 640:65534\nafter 640:65534\n");
        assert_eq!(agent.nomad(&["alloc", "restart", &run.id]).code, 0);
        run.stdout_is("before 640:65534\nafter 640:65534\nafter 640:65534\n");
    });
}

#[test]
fn a_task_cannot_touch_its_own_logs() {
    ours(|agent| {
        let script = "ls /alloc/logs >/dev/null && echo listed; for f in /alloc/logs/* /alloc/logs/.*fifo; do rm -f $f; done; \
            echo x > /alloc/logs/mine; mkdir /alloc/logs/d; true";
        let (run, said) = sh(agent, "own-logs", "bivouac", script);
        assert_eq!(said, "listed\n");
        assert!(run.stderr().contains("Read-only file system"), "{}", run.stderr());
        assert!(!run.dir().join("alloc/logs/mine").exists() && !run.dir().join("alloc/logs/d").exists());
    });
}
