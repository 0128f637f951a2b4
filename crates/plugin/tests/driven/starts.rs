//! What a task finds when it starts, and what is refused.

use super::client::{Plugin, until};
use super::house::House;
use super::{can_run, test};
use serde_json::json;

fn own_logs() -> serde_json::Value {
    json!({"log_collection": "bivouac"})
}

#[test]
fn a_task_finds_its_directories_and_the_agents_environment_and_leaves_none_of_ours() {
    if !can_run("a_task_finds_its_directories_and_the_agents_environment_and_leaves_none_of_ours") {
        return;
    }
    test(async {
        let house = House::new();
        let task = house.task();
        std::fs::write(task.task_dir().join("local/page"), "page\n").unwrap();
        std::fs::write(task.alloc_dir.join("alloc/data/shared"), "shared\n").unwrap();
        let mut own = own_logs();
        own["env_denylist"] = json!(["DENIED"]);
        let plugin = Plugin::launch("bivouac", own).await;
        let script = "cat /local/page /alloc/data/shared; echo $OF_THE_AGENT:$EXPANDED:$NOMAD_PLUGIN_MAGIC_COOKIE; \
                      echo mine > /alloc/data/written; echo top > /written-at-the-top 2>/dev/null || echo no top; \
                      (echo x > /alloc/logs/main.stdout.9) 2>/dev/null || echo logs are read-only; \
                      echo etc > /etc/bivouac-test-made; ls -d /.bivouac* 2>/dev/null || echo nothing";
        let mut config = task.shell("00000001", script);
        config.env.insert("EXPANDED".into(), "a-${OF_THE_AGENT}-b".into());
        config.user = "nobody".into();
        let id = config.id.clone();
        let handle = plugin.start(config).await.unwrap();
        assert_eq!(plugin.exit_code(&id).await, 0, "{}", task.log("stderr"));
        let expected = "page\nshared\nseen:a-seen-b:\nlogs are read-only\nnothing\n";
        assert_eq!(task.log("stdout"), expected, "{}", task.log("stderr"));
        assert_eq!(std::fs::read_to_string(task.alloc_dir.join("alloc/data/written")).unwrap(), "mine\n");
        assert_eq!(std::fs::read_to_string(task.task_dir().join("written-at-the-top")).unwrap(), "top\n");
        assert!(!std::path::Path::new("/etc/bivouac-test-made").exists(), "the host's /etc was changed");
        let saved = format!("{handle:?}");
        assert!(!saved.contains("hvs.secret"), "the handle holds a secret");
        plugin.destroy(&id).await.unwrap();
        // What the client would take for its own mount.
        assert!(!task.task_dir().join("alloc").exists());
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(house.dir.path().to_str().unwrap()), "a mount in the host's namespace");
        assert_eq!(house.groups_of_ours(&task).len(), 0);
        assert!(task.groups.iter().all(|group| group.exists()), "the client's own groups are the client's");
    });
}

/// Covers: W23
#[test]
fn root_is_the_operators_to_allow_under_any_name_but_the_clients_own() {
    if !can_run("root_is_the_operators_to_allow_under_any_name_but_the_clients_own") {
        return;
    }
    test(async {
        let house = House::new();
        let allowed = json!({"log_collection": "bivouac", "allow_root": true});
        for (name, config, user, may) in [
            ("bivouac", own_logs(), "root", false),
            ("bivouac", own_logs(), "0", false),
            ("bivouac", allowed.clone(), "root", true),
            ("bivouac", allowed, "0", true),
            // The client itself has let this one pass: its own list says whether root may.
            ("exec", own_logs(), "root", true),
            ("exec", own_logs(), "0", false),
        ] {
            let plugin = Plugin::launch(name, config).await;
            let task = house.task();
            let mut config = task.shell("00000001", "id -u");
            config.user = user.into();
            let id = config.id.clone();
            match (plugin.start(config).await, may) {
                (Ok(_), true) => {
                    assert_eq!(plugin.exit_code(&id).await, 0);
                    assert_eq!(task.log("stdout"), "0\n");
                    plugin.destroy(&id).await.unwrap();
                }
                (Err(refused), false) => {
                    assert!(refused.message().contains("allow_root"), "{name} {user}: {refused}");
                }
                (started, _) => panic!("{name} {user}: {:?}", started.map(drop)),
            }
        }
    });
}

#[test]
fn dynamic_users_are_users_only_where_the_operator_says_so() {
    if !can_run("dynamic_users_are_users_only_where_the_operator_says_so") {
        return;
    }
    test(async {
        let house = House::new();
        let task = house.task();
        let mut config = task.shell("00000001", "id -u; id -g");
        config.user = "nomad-80123".into();
        let plugin = Plugin::launch("bivouac", own_logs()).await;
        let refused = plugin.start(config.clone()).await.unwrap_err();
        assert!(refused.message().contains("unknown user"), "{refused}");
        let on = json!({"log_collection": "bivouac", "dynamic_workload_users": true});
        let plugin = Plugin::launch("bivouac", on).await;
        let mut driver = plugin.driver();
        let capabilities = driver.capabilities(bivouac_plugin::wire::driver::CapabilitiesRequest {});
        let capabilities = capabilities.await.unwrap().into_inner().capabilities.unwrap();
        assert!(capabilities.dynamic_workload_users);
        let id = config.id.clone();
        plugin.start(config).await.unwrap();
        assert_eq!(plugin.exit_code(&id).await, 0);
        assert_eq!(task.log("stdout"), "80123\n80123\n");
        plugin.destroy(&id).await.unwrap();
    });
}

#[test]
fn a_group_that_the_client_failed_to_make_is_an_error_with_a_sentence() {
    if !can_run("a_group_that_the_client_failed_to_make_is_an_error_with_a_sentence") {
        return;
    }
    test(async {
        let house = House::new();
        let task = house.task();
        for group in &task.groups {
            std::fs::remove_dir(group).unwrap();
        }
        let plugin = Plugin::launch("bivouac", own_logs()).await;
        let refused = plugin.start(task.shell("00000001", "echo out")).await.unwrap_err();
        assert!(
            refused.message().contains("control group") && refused.message().contains(&task.alloc),
            "{refused}"
        );
        assert_eq!(house.groups_of_ours(&task).len(), 0, "what was made of ours is taken back");
    });
}

/// Covers: X26
#[test]
fn a_missing_command_is_told_at_once_in_the_task_and_at_the_start() {
    if !can_run("a_missing_command_is_told_at_once_in_the_task_and_at_the_start") {
        return;
    }
    test(async {
        let house = House::new();
        let task = house.task();
        let plugin = Plugin::launch("bivouac", own_logs()).await;
        let missing = task.config("00000001", &json!({"command": "/bin/foobar"}));
        let refused = plugin.start(missing).await.unwrap_err();
        assert!(refused.message().contains("/bin/foobar"), "{refused}");
        assert_eq!(house.groups_of_ours(&task).len(), 0);
        let config = task.shell("00000002", "exec sleep 1000");
        let id = config.id.clone();
        plugin.start(config).await.unwrap();
        let (words, code) = plugin.exec(&id, &["/no/such/command"]).await;
        assert!(words.contains("/no/such/command"), "{words}");
        assert_eq!(code, 127);
        let (words, code) = plugin.exec(&id, &["/etc/passwd"]).await;
        assert!(code == 126 && words.contains("/etc/passwd"), "{code} {words}");
        plugin.destroy(&id).await.unwrap();
    });
}

/// A destination below the chroot environment: there at the start, and seen by the running task when the client writes
/// it again, in the client's way and in place; the host's files and what a link leads to stay as they were.
#[test]
fn what_is_placed_below_the_chroot_environment_is_seen_also_when_it_is_written_again() {
    if !can_run("what_is_placed_below_the_chroot_environment_is_seen_also_when_it_is_written_again") {
        return;
    }
    use std::os::unix::fs::PermissionsExt;
    test(async {
        let house = House::new();
        let task = house.task();
        let mut plugin = Plugin::launch("bivouac", own_logs()).await;
        let outside = house.dir.path().join("outside");
        std::fs::write(&outside, "untouched\n").unwrap();
        let (etc, bin) = (task.task_dir().join("etc/bivouac-test.d"), task.task_dir().join("usr/local/bin"));
        for directory in [&etc, &bin] {
            std::fs::create_dir_all(directory).unwrap();
        }
        // As the client writes: beside, and renamed.
        let place = |text: &str| {
            std::fs::write(etc.join(".new"), text).unwrap();
            std::fs::rename(etc.join(".new"), etc.join("app.conf")).unwrap();
        };
        place("one\n");
        // What a client that copies the host's files puts there is hidden still, also when it is written again.
        std::fs::write(task.task_dir().join("etc/shadow"), "root:secret\n").unwrap();
        let tool = "#!/bin/sh\nold=; while :; do new=$(cat /etc/bivouac-test.d/app.conf); \
                    [ \"$new\" = \"$old\" ] || echo \"$new\"; old=$new; sleep 0.05; done\n";
        std::fs::write(bin.join("bivouac-test-tool"), tool).unwrap();
        std::fs::set_permissions(bin.join("bivouac-test-tool"), std::fs::Permissions::from_mode(0o755))
            .unwrap();
        let config = |run| task.config(run, &json!({"command": "bivouac-test-tool"}));
        let id = config("00000001").id;
        let handle = plugin.start(config("00000001")).await.unwrap();
        let said = |wanted: &str| task.log("stdout") == wanted;
        until("the first", || said("one\n")).await;
        place("two\n");
        until("a file renamed into its place", || said("one\ntwo\n")).await;
        std::fs::write(etc.join("app.conf"), "three\n").unwrap();
        until("a file written in place", || said("one\ntwo\nthree\n")).await;
        std::fs::write(task.task_dir().join("etc/shadow"), "root:more\n").unwrap();
        // A file that came later, and no word of it before the command that asks.
        std::fs::write(etc.join("late.conf"), "late\n").unwrap();
        assert_eq!(plugin.exec(&id, &["cat", "/etc/bivouac-test.d/late.conf"]).await, ("late\n".into(), 0));
        assert!(!plugin.exec(&id, &["cat", "/etc/shadow"]).await.0.contains("root:more"));
        // What the task makes of it is the task's.
        plugin
            .exec(
                &id,
                &[
                    "/bin/sh",
                    "-c",
                    "rm /etc/bivouac-test.d/late.conf; ln -s /outside /etc/bivouac-test.d/late.conf",
                ],
            )
            .await;

        // Written while no plugin lives.
        plugin.kill();
        place("four\n");
        let plugin = Plugin::launch("bivouac", own_logs()).await;
        plugin.recover(handle).await.unwrap();
        until("a file written while the plugin was away", || said("one\ntwo\nthree\nfour\n")).await;
        place("five\n");
        until("one written after that", || said("one\ntwo\nthree\nfour\nfive\n")).await;
        plugin.destroy(&id).await.unwrap();

        // Between two runs; and what the task may have left in its layer: links to files of the host.
        let layer = task.alloc_dir.join(".bivouac-main/etc/upper/bivouac-test.d");
        std::fs::remove_file(layer.join("app.conf")).unwrap();
        std::os::unix::fs::symlink(&outside, layer.join("app.conf")).unwrap();
        place("six\n");
        std::fs::write(etc.join("late.conf"), "later\n").unwrap();
        let id = config("00000002").id;
        plugin.start(config("00000002")).await.unwrap();
        until("what was written between the runs", || task.log("stdout").ends_with("six\n") || said("six\n"))
            .await;
        assert_eq!(plugin.exec(&id, &["cat", "/etc/bivouac-test.d/late.conf"]).await, ("later\n".into(), 0));
        plugin.destroy(&id).await.unwrap();
        assert_eq!(std::fs::read_to_string(&outside).unwrap(), "untouched\n");
        assert!(!std::path::Path::new("/etc/bivouac-test.d").exists());
        assert!(!std::path::Path::new("/usr/local/bin/bivouac-test-tool").exists());
    });
}
