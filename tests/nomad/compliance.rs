//! The same jobs under the built-in driver and under ours. What differs must stand in [`DIFFERENCES`] with its
//! reason, which is also what docs/differences.md is written from; anything else that differs fails.

mod differences;
mod scenarios;

use crate::agent::{Agent, Plugin, Setup, program};
use crate::real_plugin;
use crate::shared::{Shared, furnish, ours};
use differences::{DIFFERENCES, page};
use std::collections::BTreeMap;
use std::path::Path;

/// What was seen of one job, by name.
type Facts = BTreeMap<String, String>;

/// Compares what was seen under our driver with what the built-in one showed.
fn compare(driver: &str, theirs: &Facts, ours: &Facts) {
    let mut wrong = Vec::new();
    let names: std::collections::BTreeSet<&String> = theirs.keys().chain(ours.keys()).collect();
    for name in names {
        let (built_in, bivouac) = (theirs.get(name), ours.get(name));
        let wanted = DIFFERENCES.iter().find(|difference| difference.fact == name.as_str());
        let right = match wanted {
            Some(wanted) => {
                built_in.is_some_and(|seen| (wanted.built_in)(seen))
                    && bivouac.is_some_and(|seen| (wanted.bivouac)(seen))
            }
            None => built_in == bivouac,
        };
        if !right {
            wrong.push(format!("{name}:\n  built-in {built_in:?}\n  {driver} {bivouac:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Looks side by side: most of the time goes by in waiting for an agent.
fn at_once<const N: usize>(looks: [impl FnOnce() -> Facts + Send; N]) -> [Facts; N] {
    std::thread::scope(|scope| {
        looks.map(|look| scope.spawn(look)).map(|look| look.join().expect("its facts"))
    })
}

/// The built-in driver with a small root, and ours beside it, telling Nomad `image` and `chroot`.
#[test]
fn as_bivouac() {
    ours(|agent| {
        let drivers = ["exec", "bivouac", "bivouac-chroot"];
        let [theirs, image, chroot] = at_once(drivers.map(|driver| || scenarios::all(agent, driver)));
        compare("bivouac", &theirs, &image);
        compare("bivouac-chroot", &theirs, &chroot);
    });
}

fn start_built_in(nomad: &Path) -> Agent {
    let mut agent = Agent::prepare(nomad, Setup::default());
    agent.client = furnish(&agent.dir);
    agent.configure(&[]);
    agent.launch();
    agent.wait_for_driver("exec");
    agent
}

/// Ours in the place of the built-in driver: two agents, because a name has one owner.
#[test]
fn as_exec() {
    static BUILT_IN: Shared = Shared::new(&["compliance::as_exec"], start_built_in);
    BUILT_IN.lend(|theirs| {
        let blocks = ["", "config { fs_isolation = \"chroot\" }"];
        let looks: [Box<dyn FnOnce() -> Facts + Send>; 3] = [
            Box::new(|| scenarios::all(theirs, "exec")),
            Box::new(move || in_its_place(blocks[0])),
            Box::new(move || in_its_place(blocks[1])),
        ];
        let [theirs, image, chroot] = at_once(looks);
        compare("exec", &theirs, &image);
        compare("exec", &theirs, &chroot);
    });
}

fn in_its_place(block: &str) -> Facts {
    let nomad = program().expect("Nomad is there");
    let (plugin, shim) = real_plugin();
    let shim = shim.to_str().expect("a plain path").to_owned();
    let plugins = [Plugin { file: "exec", program: &plugin, block }];
    let mut agent = Agent::prepare(&nomad, Setup { env: &[("BIVOUAC_SHIM", &shim)], ..Setup::default() });
    agent.client = furnish(&agent.dir);
    if !block.is_empty() {
        let start = agent.client.find("chroot_env").expect("the root");
        let end = agent.client.find('}').expect("its end");
        // As docs/nomad.md says: with `chroot` the client must not copy what we show anyway.
        agent.client.replace_range(start..=end, "chroot_env = { \"/nonexistent\" = \"/\" }");
    }
    agent.configure(&plugins);
    agent.launch();
    agent.wait_for_driver("exec");
    scenarios::all(&agent, "exec")
}

/// Both with the roots that they make when nobody says anything.
#[test]
fn with_the_default_root() {
    let Ok(nomad) = program().inspect_err(|why| println!("SKIPPED: default root: {why}")) else { return };
    let (plugin, shim) = real_plugin();
    let shim = shim.to_str().expect("a plain path").to_owned();
    let plugins = [Plugin { file: "bivouac", program: &plugin, block: "" }];
    let env = [("BIVOUAC_SHIM", shim.as_str())];
    let mut agent =
        Agent::prepare(&nomad, Setup { plugins: &plugins, env: &env, client: "", ..Setup::default() });
    agent.launch();
    agent.wait_for_driver("bivouac");
    agent.wait_for_driver("exec");
    let theirs = scenarios::default_root(&agent, "exec");
    compare("bivouac", &theirs, &scenarios::default_root(&agent, "bivouac"));
}

/// docs/differences.md is what the table says.
#[test]
fn the_page_is_fresh() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/differences.md");
    if std::env::var("INSTA_UPDATE").is_ok_and(|update| update == "always") {
        std::fs::write(&file, page()).expect("docs/differences.md");
    }
    let text = std::fs::read_to_string(&file).expect("docs/differences.md");
    assert!(
        text == page(),
        "docs/differences.md is not what tests/nomad says: INSTA_UPDATE=always writes it"
    );
}
