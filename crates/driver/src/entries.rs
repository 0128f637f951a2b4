//! The chroot environment: from the operator's map to entries of a sandbox's root, with the layers that hide what
//! no task may see.

use crate::config::RootMode;
use crate::host::{Files, Kind};
use bivouac_sandbox::model::{Access, Entry, Show};
use bivouac_sandbox::{HostPath, TaskPath};

/// Who makes layers and copies. The engine keeps them on disk; a dry run only names them.
pub trait Layers {
    /// A directory that hides what is private in `source`, and what `hide` names below it.
    ///
    /// # Errors
    /// A sentence; the start fails then.
    fn sanitised(&self, source: &HostPath, hide: &[String]) -> Result<HostPath, String>;

    /// A copy of `source`, made once.
    ///
    /// # Errors
    /// A sentence; the start fails then.
    fn copied(&self, source: &HostPath) -> Result<HostPath, String>;
}

/// Names what would be made, and makes nothing: for `bivouac inspect --plan`.
#[derive(Clone, Copy, Debug)]
pub struct DryLayers;

impl Layers for DryLayers {
    fn sanitised(&self, source: &HostPath, _hide: &[String]) -> Result<HostPath, String> {
        HostPath::new(format!("/run/bivouac/layers/sanitised{source}")).map_err(|error| error.to_string())
    }

    fn copied(&self, source: &HostPath) -> Result<HostPath, String> {
        HostPath::new(format!("/var/lib/bivouac/copies{source}")).map_err(|error| error.to_string())
    }
}

/// Why the root cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("chroot_env {source_path}: {text}")]
pub struct EntryError {
    /// The entry.
    pub source_path: String,
    /// What is wrong.
    pub text: String,
}

/// What the entries of one task depend on.
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    /// The operator's map.
    pub chroot_env: &'a [(HostPath, TaskPath)],
    /// How directories are shown.
    pub mode: RootMode,
    /// Whether the task may write to its root.
    pub access: Access,
    /// What of `/etc` is hidden, as paths below it.
    pub hide: &'a [String],
    /// The task's directory: what was put below an entry's place there is shown on top of the entry.
    pub task: &'a HostPath,
    /// Directories of ours and of other allocations, which no task sees.
    pub own: &'a [HostPath],
    /// Where files made for this allocation lie, if there are any.
    pub generated: Option<&'a HostPath>,
    /// Where the host's resolv.conf leads, if the task shall see it.
    pub resolver: Option<&'a HostPath>,
    /// The host's files.
    pub files: &'a dyn Files,
    /// Who makes layers.
    pub layers: &'a dyn Layers,
}

const ETC: &str = "/etc";
/// Resolvers keep more here than their resolv.conf.
const RESOLVER_DIRECTORIES: [&str; 2] = ["/run/resolvconf", "/run/systemd/resolve"];

/// The entries of a root. Missing sources stay in the list; the engine passes them over.
///
/// # Errors
/// [`EntryError`] naming the entry.
pub fn resolve(scene: &Scene<'_>) -> Result<Vec<Entry>, EntryError> {
    let mut entries = Vec::new();
    for (source, target) in scene.chroot_env {
        let failed = |text: String| EntryError { source_path: source.to_string(), text };
        if target.components().next().is_none() {
            // The parts of a directory shown as `/` become entries of their own.
            for name in scene.files.names(source) {
                let part = source.join(&name).map_err(|error| failed(error.to_string()))?;
                let place = target.join(&name).map_err(|error| failed(error.to_string()))?;
                entries.extend(scene.entry(&part, &place).map_err(failed)?);
            }
            continue;
        }
        entries.extend(scene.entry(source, target).map_err(failed)?);
    }
    Ok(entries)
}

impl Scene<'_> {
    fn entry(&self, source: &HostPath, target: &TaskPath) -> Result<Option<Entry>, String> {
        if self.own.iter().any(|own| source.is_within(own)) {
            return Ok(None);
        }
        if RESOLVER_DIRECTORIES.iter().any(|directory| source.as_path() == std::path::Path::new(directory)) {
            return self.resolver_file(source, target);
        }
        let directory = !self.files.is_link(source) && self.files.kind(source) == Some(Kind::Directory);
        if !directory {
            return Ok(Some(Entry { source: source.clone(), target: target.clone(), show: Show::ReadOnly }));
        }
        let mut above = Vec::new();
        if let Some(generated) = self.generated.filter(|_| target.as_path() == std::path::Path::new(ETC)) {
            above.push(generated.clone());
        }
        let hidden = self.hidden(source);
        if let Some(hidden) = &hidden {
            above.push(self.layers.sanitised(source, hidden)?);
        }
        // Below the layer that hides: a client that copies the host's files into the task's directory copies the
        // hidden ones too.
        above.extend(self.placed(target));
        let read_only = self.mode == RootMode::ReadOnly || self.access == Access::ReadOnly;
        let show = if read_only && above.is_empty() { Show::ReadOnly } else { Show::Overlay { above } };
        let source = match self.mode {
            RootMode::Copy => self.layers.copied(source)?,
            RootMode::Overlay | RootMode::ReadOnly => source.clone(),
        };
        Ok(Some(Entry { source, target: target.clone(), show }))
    }

    /// The directory in which templates and artifacts with a destination below this entry were put. A task can put
    /// links into its directory, and kept it over a restart: a path that leads through one is not taken.
    fn placed(&self, target: &TaskPath) -> Option<HostPath> {
        let below = target.as_path().strip_prefix("/").ok()?;
        let place = self.task.join(below).ok()?;
        let straight = self.files.real(self.task)?.join(below).ok()?;
        (self.files.real(&place)? == straight && self.files.kind(&place) == Some(Kind::Directory))
            .then_some(place)
    }

    /// What must be hidden below a source; `None` where nothing can be.
    fn hidden(&self, source: &HostPath) -> Option<Vec<String>> {
        let etc = HostPath::new(ETC).ok()?;
        let mut hidden: Vec<String> = Vec::new();
        let within_etc = source.is_within(&etc);
        if within_etc {
            hidden.extend(self.hide.iter().filter_map(|pattern| below(&etc, source, pattern)));
        } else if etc.is_within(source) {
            let prefix = etc.as_path().strip_prefix(source.as_path()).ok()?.display().to_string();
            hidden.extend(self.hide.iter().map(|pattern| format!("{prefix}/{pattern}")));
        }
        for own in self.own.iter().filter(|own| own.is_within(source)) {
            let path = own.as_path().strip_prefix(source.as_path()).ok()?;
            hidden.push(path.to_str()?.to_owned());
        }
        (within_etc || !hidden.is_empty()).then_some(hidden)
    }

    /// Of a directory of the resolver's only the file that the host's resolv.conf leads to.
    fn resolver_file(&self, source: &HostPath, target: &TaskPath) -> Result<Option<Entry>, String> {
        let Some(file) = self.resolver.filter(|file| file.is_within(source)) else { return Ok(None) };
        let below = file.as_path().strip_prefix(source.as_path()).map_err(|error| error.to_string())?;
        let target = target.join(below).map_err(|error| error.to_string())?;
        Ok(Some(Entry { source: file.clone(), target, show: Show::ReadOnly }))
    }
}

/// A pattern below `/etc` as one below `source`, which lies in `/etc`; `None` when it is about something else.
fn below(etc: &HostPath, source: &HostPath, pattern: &str) -> Option<String> {
    let depth = source.components().count() - etc.components().count();
    let mut parts = pattern.split('/');
    for name in source.components().skip(etc.components().count()) {
        // Patterns hold `*` only in names; one in a directory's name is taken to match, which hides more.
        let part = parts.next()?;
        if !part.contains('*') && part.as_bytes() != name {
            return None;
        }
    }
    let rest: Vec<&str> = pattern.split('/').skip(depth).collect();
    (!rest.is_empty()).then(|| rest.join("/"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::config::OperatorConfig;
    use crate::options::Value;
    use bivouac_sandbox::model::DeviceKind;
    use std::collections::BTreeMap;

    /// A host written down: directories, files and links by path.
    #[derive(Clone, Debug, Default)]
    pub(crate) struct PaperHost {
        pub(crate) kinds: BTreeMap<&'static str, Kind>,
        pub(crate) links: BTreeMap<&'static str, &'static str>,
    }

    impl PaperHost {
        pub(crate) fn usual() -> PaperHost {
            let directories =
                ["/etc", "/lib64", "/usr", "/srv", "/srv/data", "/run/systemd/resolve", "/image", "/opt"];
            let mut host = PaperHost::default();
            host.kinds.extend(directories.map(|path| (path, Kind::Directory)));
            host.kinds.insert("/image/hello", Kind::File(0o600));
            host.kinds.insert("/dev/fuse", Kind::Device(DeviceKind::Character, 10, 229));
            host.links.extend([
                ("/bin", "/usr/bin"),
                ("/sbin", "/usr/sbin"),
                ("/lib", "/usr/lib"),
                ("/srv/link", "/etc"),
            ]);
            host
        }
    }

    impl Files for PaperHost {
        fn real(&self, path: &HostPath) -> Option<HostPath> {
            let text = path.to_string();
            let target = self.links.get(text.as_str()).copied();
            target
                .or_else(|| self.kinds.get_key_value(text.as_str()).map(|(path, _)| *path))
                .map(|path| HostPath::new(path).unwrap())
        }
        fn kind(&self, path: &HostPath) -> Option<Kind> {
            self.kinds.get(path.to_string().as_str()).cloned()
        }
        fn is_link(&self, path: &HostPath) -> bool {
            self.links.contains_key(path.to_string().as_str())
        }
        fn owner(&self, path: &HostPath) -> Option<(u32, u32, u32)> {
            self.kind(path).map(|_| (0o666, 0, 0))
        }
        fn names(&self, path: &HostPath) -> Vec<String> {
            let prefix = format!("{path}/");
            let all = self.kinds.keys().chain(self.links.keys());
            all.filter_map(|known| known.strip_prefix(&prefix))
                .filter(|name| !name.contains('/'))
                .map(String::from)
                .collect()
        }
    }

    fn path(text: &str) -> HostPath {
        HostPath::new(text).unwrap()
    }

    fn shown(map: Value, mode: RootMode) -> String {
        shown_with(map, mode, None, None)
    }

    fn shown_with(
        map: Value,
        mode: RootMode,
        generated: Option<&HostPath>,
        resolver: Option<&HostPath>,
    ) -> String {
        let given = Value::map([("chroot_env", map)]);
        let operator =
            OperatorConfig::decode(if matches!(&given, Value::Map(pairs) if pairs[0].1 == Value::Null) {
                &Value::Null
            } else {
                &given
            })
            .unwrap();
        let (host, own, task) = (PaperHost::usual(), [path("/opt/nomad/alloc")], path("/task"));
        let scene = Scene {
            chroot_env: &operator.chroot_env,
            mode,
            access: Access::ReadWrite,
            hide: &operator.hide,
            task: &task,
            own: &own,
            generated,
            resolver,
            files: &host,
            layers: &DryLayers,
        };
        let line = |entry: &Entry| match &entry.show {
            Show::ReadOnly => format!("{} -> {} ro\n", entry.source, entry.target),
            Show::Overlay { above } => format!("{} -> {} under {above:?}\n", entry.source, entry.target),
        };
        resolve(&scene).unwrap().iter().map(line).collect()
    }

    #[test]
    fn the_default_environment() {
        let (generated, resolver) = (path("/p/generated"), path("/run/systemd/resolve/stub-resolv.conf"));
        let text = shown_with(Value::Null, RootMode::Overlay, Some(&generated), Some(&resolver));
        insta::assert_snapshot!(text, @r#"
        /bin -> /bin ro
        /etc -> /etc under ["/p/generated", "/run/bivouac/layers/sanitised/etc"]
        /lib -> /lib ro
        /lib32 -> /lib32 ro
        /lib64 -> /lib64 under []
        /run/systemd/resolve/stub-resolv.conf -> /run/systemd/resolve/stub-resolv.conf ro
        /sbin -> /sbin ro
        /usr -> /usr under []
        "#);
    }

    #[test]
    fn read_only_and_copy() {
        let map =
            || Value::map([("/usr", "/usr"), ("/etc", "/etc")].map(|(host, task)| (host, Value::from(task))));
        insta::assert_snapshot!(shown(map(), RootMode::ReadOnly), @r#"
        /usr -> /usr ro
        /etc -> /etc under ["/run/bivouac/layers/sanitised/etc"]
        "#);
        insta::assert_snapshot!(shown(map(), RootMode::Copy), @r#"
        /var/lib/bivouac/copies/usr -> /usr under []
        /var/lib/bivouac/copies/etc -> /etc under ["/run/bivouac/layers/sanitised/etc"]
        "#);
    }

    #[test]
    fn own_directories_are_never_shown() {
        let map = Value::map([("/opt", Value::from("/opt")), ("/opt/nomad/alloc/x", Value::from("/x"))]);
        assert_eq!(
            shown(map, RootMode::Overlay),
            "/opt -> /opt under [\"/run/bivouac/layers/sanitised/opt\"]\n"
        );
    }

    #[test]
    fn a_directory_shown_as_the_top_is_taken_apart_and_a_missing_one_is_nothing() {
        let map = Value::map([("/srv", Value::from("/")), ("/nonexistent", Value::from("/"))]);
        assert_eq!(shown(map, RootMode::Overlay), "/srv/data -> /data under []\n/srv/link -> /link ro\n");
    }

    #[test]
    fn what_was_put_below_an_entry_is_shown_but_never_through_a_link() {
        let mut host = PaperHost::usual();
        host.kinds.extend(["/task", "/task/usr", "/task/opt"].map(|path| (path, Kind::Directory)));
        host.links.insert("/task/opt", "/srv");
        let (task, chroot_env) = (path("/task"), ["/etc", "/usr", "/opt"]);
        let chroot_env = chroot_env.map(|at| (path(at), TaskPath::new(at).unwrap()));
        let scene = Scene {
            chroot_env: &chroot_env,
            mode: RootMode::Overlay,
            access: Access::ReadWrite,
            hide: &[],
            task: &task,
            own: &[],
            generated: None,
            resolver: None,
            files: &host,
            layers: &DryLayers,
        };
        let above = |entry: &Entry| match &entry.show {
            Show::Overlay { above } => above.iter().map(ToString::to_string).collect::<Vec<_>>(),
            Show::ReadOnly => panic!("{entry:?}"),
        };
        let entries = resolve(&scene).unwrap();
        assert_eq!(above(&entries[0]), ["/run/bivouac/layers/sanitised/etc"]);
        assert_eq!(above(&entries[1]), ["/task/usr"]);
        assert!(above(&entries[2]).is_empty());
    }

    #[test]
    fn patterns_follow_a_source_within_etc() {
        let (etc, ssl) = (path("/etc"), path("/etc/ssl"));
        assert_eq!(below(&etc, &ssl, "ssl/private"), Some("private".into()));
        assert_eq!(below(&etc, &ssl, "ssh/ssh_host_*"), None);
        assert_eq!(below(&etc, &etc, "shadow*"), Some("shadow*".into()));
        assert_eq!(below(&etc, &ssl, "ssl"), None);
    }
}
