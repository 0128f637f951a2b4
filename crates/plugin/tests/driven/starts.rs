//! What a task finds when it starts, and what is refused.

use super::client::Plugin;
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
