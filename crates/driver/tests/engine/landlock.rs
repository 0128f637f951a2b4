//! The option `landlock` end to end: on a kernel that has what it takes, and refused on one that has not.

use crate::bench::Bench;
use bivouac_driver::engine::Leftovers;
use bivouac_driver::options::Value;

/// The rules of the task and of the operator, and what a root task with all of the defaults can do under them.
#[test]
fn rules_bind_root_and_sessions_too() {
    let Some(bench) =
        Bench::with("landlock", vec![("landlock", Value::texts(["default", "r:/srv", "r:/no/such"]))])
    else {
        return;
    };
    std::fs::create_dir_all(bench.path("a/task/srv")).unwrap();
    std::fs::write(bench.path("a/task/srv/f"), "content\n").unwrap();
    std::fs::create_dir_all(bench.path("a/task/hidden")).unwrap();
    std::fs::write(bench.path("a/task/hidden/f"), "hidden\n").unwrap();
    let script = "cat /srv/f; (echo x > /srv/f) 2>/dev/null && echo wrote; (: > /srv/new) 2>/dev/null && echo made; \
        cat /hidden/f 2>/dev/null; ls /hidden 2>/dev/null; cp /usr/bin/env /local/env && /local/env true && echo ran; \
        truncate -s 0 /etc/hostname 2>/dev/null && echo cut; (echo x > /dev/null) && echo null";
    let rules = || vec![("landlock", Value::texts(["default", "rw:/srv"]))];
    let sleeper = bench.root_script("a", &format!("{script}; echo; exec sleep 100"), rules());
    if bench.engine.features().landlock_abi < 3 {
        let text = bench.refusal(&sleeper);
        assert!(text.contains("landlock rules need a kernel"), "{text}");
        // The operator's rules bind every task: none starts without them.
        assert!(bench.refusal(&bench.script("b", "true", vec![])).contains("landlock rules need a kernel"));
        return bench.finish();
    }
    let mut run = bench.started(&sleeper);
    let lines: Vec<String> =
        std::iter::from_fn(|| Some(crate::bench::read_line(&mut run.out)).filter(|line| !line.is_empty()))
            .collect();
    assert_eq!(lines, ["content", "ran", "null"]);
    let session = bench.exec(&run.id, script, b"");
    assert_eq!(session.out, "content\nran\nnull\n", "a session has the rules too: {session:?}");
    bench.engine.destroy(&run.id, Leftovers::Kill).unwrap();

    // Without rules of its own the task has the operator's, behind a reaper as well; its own narrow them.
    let options = vec![("init", true.into())];
    assert_eq!(bench.shell("b", "ls / > /dev/null || echo closed", options).out, "closed\n");
    for (rules, seen) in [(vec!["default", "rwxc:/"], "content\n"), (vec!["default"], "")] {
        let options = vec![("landlock", Value::texts(rules))];
        assert_eq!(bench.run(&bench.root_script("a", "cat /srv/f", options)).out, seen);
    }

    let missing = bench.script("c", "true", vec![("landlock", Value::texts(["default", "r:/no/such"]))]);
    let text = bench.refusal(&missing);
    assert!(
        text.contains("apply the landlock rule r:/no/such") && text.contains("leave the rule out"),
        "{text}"
    );
    std::fs::create_dir_all(bench.path("d/task")).unwrap();
    std::os::unix::fs::symlink("/etc", bench.path("d/task/link")).unwrap();
    let link = bench.script("d", "true", vec![("landlock", Value::texts(["default", "r:/link"]))]);
    assert!(bench.refusal(&link).contains("rules follow none"));
    bench.finish();
}
