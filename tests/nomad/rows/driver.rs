//! The driver as an operator and a job's author meet it: health, options, refusals, capabilities, identity.

use super::{refused, sh, succeeded};
use crate::job::Job;
use crate::shared::ours;
use serde_json::json;

/// Covers: E2
#[test]
fn e2_fingerprint() {
    ours(|agent| {
        let node = agent.node().expect("a node");
        for driver in ["bivouac", "bivouac-chroot"] {
            assert_eq!(node["Attributes"][format!("driver.{driver}")], "1");
            let state = &node["Drivers"][driver];
            assert_eq!((&state["Healthy"], &state["HealthDescription"]), (&json!(true), &json!("Healthy")));
        }
    });
}

/// Covers: E14, X28
#[test]
fn e14_command_and_arguments_arrive_exactly() {
    ours(|agent| {
        let words = ["printf", "%s|", "a b", "", "$HOME", "x\"y", "*", "NOMAD"];
        let run = Job::batch("e14", "bivouac", &words).finish(agent);
        run.stdout_is("a b||$HOME|x\"y|*|NOMAD|");
        let run = Job::batch("x28", "bivouac", &["echo", "hello world"]).finish(agent);
        run.stdout_is("hello world\n");
        assert_eq!((run.code(), run.stderr().as_str()), (0, ""));
    });
}

/// Covers: E15
#[test]
fn e15_without_pivot_root() {
    ours(|agent| {
        let run =
            Job::service("e15", "bivouac-some", &["sleep", "600"]).task("KillTimeout", json!(0)).start(agent);
        assert_eq!(run.exec(&["pwd"]).stdout, "/\n");
        run.stop();
        run.nothing_left();
    });
}

/// Covers: E7, E11, E19
#[test]
fn e19_wrong_options_of_a_task_are_refused_by_name() {
    ours(|agent| {
        let job = |name: &str| Job::batch(name, "bivouac", &["true"]);
        let validation = "failed driver config validation";
        let wrong = [
            ("pid_mode", json!("other"), "pid_mode must be \"private\" or \"host\", got \"other\""),
            ("ipc_mode", json!("other"), "ipc_mode must be \"private\" or \"host\", got \"other\""),
            (
                "cap_add",
                json!(["not_valid"]),
                "cap_add configured with capabilities not supported by system: not_valid",
            ),
            (
                "cap_drop",
                json!(["not_valid"]),
                "cap_drop configured with capabilities not supported by system: not_valid",
            ),
            ("work_dir", json!("foo"), "work_dir must be absolute but got relative path \"foo\""),
        ];
        for (option, value, words) in wrong {
            let name = format!("e19-{}", option.replace('_', "-"));
            refused(agent, &job(&name).config(option, value), &[validation, words]);
        }
        let right = [
            ("pid_mode", json!("private")),
            ("pid_mode", json!("")),
            ("ipc_mode", json!("host")),
            ("cap_add", json!(["chown", "CAP_kill", " fowner "])),
            ("cap_drop", json!(["CAP_NET_RAW", "all"])),
            ("work_dir", json!("/foo")),
        ];
        let runs: Vec<_> = right
            .into_iter()
            .enumerate()
            .map(|(n, (option, value))| job(&format!("e19-{n}")).config(option, value).submit(agent))
            .collect();
        for run in runs {
            run.wait_for("complete");
        }
        refused(agent, &job("e11").user("alice"), &["user alice"]);
    });
}

/// Covers: E23
#[test]
fn e23_capabilities_within_what_the_operator_allows() {
    ours(|agent| {
        let job = |name: &str, driver, add: &[&str], drop: &[&str]| {
            Job::batch(&format!("e23-{name}"), driver, &["true"])
                .config("cap_add", json!(add))
                .config("cap_drop", json!(drop))
        };
        let starts = [
            job("1", "bivouac", &["fowner", "mknod"], &["ALL"]),
            job("2", "bivouac", &[], &["FOWNER", "MKNOD", "NET_RAW"]),
            job("3", "bivouac-some", &[], &["ALL"]),
            job("4", "bivouac-some", &["fowner", "mknod"], &[]),
            job("5", "bivouac-all", &["net_admin", "mknod"], &[]),
            job("6", "bivouac-all", &["all"], &[]),
        ];
        let runs: Vec<_> = starts.iter().map(|job| job.submit(agent)).collect();
        for run in runs {
            run.wait_for("complete");
        }
        let not = "driver does not allow the following capabilities: ";
        let one = format!("{not}net_admin");
        refused(agent, &job("7", "bivouac", &["net_admin"], &[]), &[&one]);
        refused(agent, &job("8", "bivouac-some", &["fowner", "net_admin"], &[]), &[&one]);
        let two = format!("{not}net_admin, sys_time");
        refused(agent, &job("9", "bivouac-some", &["net_admin", "mknod", "CAP_SYS_TIME"], &[]), &[&two]);
    });
}

/// Covers: X9
#[test]
fn x9_capability_sets_of_the_process() {
    ours(|agent| {
        let sets = |name: &str, add: &[&str], drop: &[&str]| {
            let job =
                Job::batch(name, "bivouac", &["/bin/sh", "-c", "grep ^Cap /proc/self/status; echo END"])
                    .config("cap_add", json!(add))
                    .config("cap_drop", json!(drop));
            succeeded(agent, &job).1
        };
        let all_five = |set: &str| {
            ["Inh", "Prm", "Eff", "Bnd", "Amb"].map(|name| format!("Cap{name}:\t{set:0>16}\n")).concat()
        };
        assert_eq!(sets("x9-a", &[], &[]), all_five("a80405fb"));
        assert_eq!(sets("x9-b", &["net_bind_service"], &["all"]), all_five("400"));
    });
}

/// Covers: X14, X15
#[test]
fn x14_the_users_names_are_in_the_environment() {
    ours(|agent| {
        let job =
            Job::batch("x14", "bivouac", &["/bin/sh", "-c", "echo $USER $LOGNAME $HOME $(id -un); echo END"]);
        let (_, said) = succeeded(agent, &job.user("games"));
        assert_eq!(said, "games games /usr/games games\n");
    });
}

/// Covers: X48
#[test]
fn x48_denied_users_and_groups() {
    ours(|agent| {
        let job = |name: &str, user| Job::batch(name, "bivouac-some", &["true"]).user(user);
        refused(agent, &job("x48-u", "daemon"), &["running as uid 1 is disallowed"]);
        refused(agent, &job("x48-g", "sys"), &["running as gid 3 is disallowed"]);
        job("x48-ok", "nobody").submit(agent).wait_for("complete");
    });
}

/// Covers: X1, X2, X38
#[test]
fn x1_namespaces_of_processes_and_ipc() {
    ours(|agent| {
        let host = |kind: &str| agent.house.ask("readlink", &[&format!("/proc/self/ns/{kind}")]);
        let host = [host("pid"), host("ipc"), host("mnt"), host("uts")];
        let seen = |name: &str, driver, pid: Option<&str>, ipc: Option<&str>| {
            let script = "cd /proc/self/ns; readlink pid ipc mnt uts; ls / >/dev/null; echo END";
            let mut job = Job::batch(name, driver, &["/bin/sh", "-c", script]);
            for (option, value) in [("pid_mode", pid), ("ipc_mode", ipc)] {
                if let Some(value) = value {
                    job = job.config(option, json!(value));
                }
            }
            let said = succeeded(agent, &job).1;
            let same: Vec<bool> = said.lines().zip(&host).map(|(task, host)| task == host.trim()).collect();
            (same[0], same[1], same[2], same[3])
        };
        assert_eq!(seen("x1-a", "bivouac", None, None), (false, false, false, false));
        assert_eq!(seen("x1-b", "bivouac", Some("host"), Some("private")), (true, false, false, false));
        assert_eq!(seen("x1-c", "bivouac", Some("private"), Some("host")), (false, true, false, false));
        assert_eq!(seen("x2", "bivouac", Some("host"), Some("host")), (true, true, false, false));
        assert_eq!(seen("x38-a", "bivouac-host", None, None), (true, true, false, false));
        assert_eq!(
            seen("x38-b", "bivouac-host", Some("private"), Some("private")),
            (false, false, false, false)
        );
    });
}

/// Covers: X8
#[test]
fn x8_the_score_of_the_agent_is_not_inherited() {
    ours(|agent| {
        let (_, said) = sh(agent, "x8", "bivouac", "cat /proc/self/oom_score_adj");
        assert_eq!(said, "0\n");
    });
}

#[test]
fn root_is_refused_under_any_name_unless_the_operator_allows_it() {
    ours(|agent| {
        for (n, user) in ["root", "0"].into_iter().enumerate() {
            let job = Job::batch(&format!("root-{n}"), "bivouac", &["true"]).user(user);
            refused(agent, &job, &["root"]);
        }
        let job = Job::batch("root", "bivouac-all", &["/bin/sh", "-c", "id -u; echo END"]).user("root");
        assert_eq!(succeeded(agent, &job).1, "0\n");
    });
}
