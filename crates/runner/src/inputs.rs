//! What a task gets before it starts: artifacts fetched, templates rendered; and what follows when a template
//! changes.

use crate::allocation::{Allocation, PlanError};
use crate::secrets::Values;
use crate::template::deliver::{self, deliver};
use crate::template::render::{Program, read_file, render};
use crate::template::watch::Watches;
use crate::template::{Missing, Order, environment, helper};
use bivouac_artifact::fetch::{Fetcher, environment as servers_and_authorities};
use bivouac_artifact::order::{Certificates, Limits, Progress, ResultMode};
use bivouac_artifact::place::{Owner, Place, Roots};
use bivouac_jobspec::{Artifact, ArtifactMode, Change, Span, Task, Template, TemplateSource, interpolate};
use rustix::fd::BorrowedFd;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Where private directories lie in an allocation's.
const STAGING: &str = ".fetching";
/// At most so many artifacts of a task at a time.
const AT_A_TIME: usize = 3;

/// What a task gets, with everything in it interpolated.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Inputs {
    /// What is fetched.
    pub artifacts: Vec<Artifact>,
    /// What is rendered.
    pub templates: Vec<Template>,
}

/// Why a block is refused before anything runs.
#[derive(Clone, Debug)]
pub struct Refused {
    /// Which block.
    pub place: Span,
    /// What is wrong.
    pub text: String,
}

/// Where inputs go, and with what they are made.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The task's directories.
    pub roots: Roots,
    /// The task's user, for artifacts with `chown`.
    pub user: Owner,
    /// Private directories, on the file system of the task's.
    pub staging: PathBuf,
    /// Fetched files by their checksum.
    pub cache: PathBuf,
    /// The program that has both hidden subcommands.
    pub program: PathBuf,
    /// The task's environment.
    pub env: BTreeMap<String, String>,
}

/// Why a task cannot start yet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// An artifact did not arrive.
    #[error("{0}")]
    Artifact(String),
    /// A template was not rendered.
    #[error("{0}")]
    Template(String),
    /// Nobody wants it any more.
    #[error("stopped")]
    Stopped,
}

impl Inputs {
    /// What a task's blocks ask for. `lookup` knows the environment, `node.*`, `attr.*` and `meta.*`.
    ///
    /// # Errors
    /// A destination or source that leaves the task's directories.
    pub fn plan(task: &Task, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Inputs, Refused> {
        let inside = |path: &str, what: &str, place: Span| {
            let refused = |error| Refused { place, text: format!("{what} {error}") };
            Place::resolve(path).map(drop).map_err(refused)
        };
        let text = |text: &String| interpolate::replace(text, lookup);
        let map = |map: &BTreeMap<String, String>| {
            map.iter().map(|(key, value)| (text(key), text(value))).collect()
        };
        let mut inputs = Inputs::default();
        for artifact in &task.artifacts {
            let destination = text(&artifact.destination);
            inside(&destination, "artifact destination", artifact.span)?;
            inputs.artifacts.push(Artifact {
                source: text(&artifact.source),
                destination,
                options: map(&artifact.options),
                headers: map(&artifact.headers),
                ..artifact.clone()
            });
        }
        for template in &task.templates {
            let destination = text(&template.destination);
            inside(&destination, "template destination", template.span)?;
            let source = match &template.source {
                TemplateSource::Data(data) => TemplateSource::Data(data.clone()),
                TemplateSource::File(path) => {
                    let path = text(path);
                    inside(&path, "template source", template.span)?;
                    TemplateSource::File(path)
                }
            };
            inputs.templates.push(Template { source, destination, ..template.clone() });
        }
        Ok(inputs)
    }

    /// Puts the values of secrets where the texts name them. The texts of templates stay: what a secret holds is
    /// data there (`{{ env "NAME" }}`), never a part of the program.
    ///
    /// # Errors
    /// A key that a secret does not have.
    pub(crate) fn fill(&mut self, values: &Values) -> Result<(), PlanError> {
        if values.is_empty() {
            return Ok(());
        }
        for artifact in &mut self.artifacts {
            artifact.source = values.in_text(&artifact.source)?;
            artifact.options = values.in_map(&artifact.options)?;
            artifact.headers = values.in_map(&artifact.headers)?;
        }
        Ok(())
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.artifacts.is_empty() && self.templates.is_empty()
    }
}

/// Removes what is half fetched, half unpacked or half written in an allocation's directories. For whoever takes the
/// allocation over: those who worked there have died with the supervisor before.
pub(crate) fn clear(allocation: &Allocation) {
    // What stays goes with the allocation.
    let _ = std::fs::remove_dir_all(allocation.directory.join(STAGING));
    for planned in &allocation.tasks {
        let name = &planned.member.name;
        let secrets = allocation.secrets.join(name);
        let setting =
            Setting::of(&allocation.directory, name, &secrets, &allocation.state_dir, BTreeMap::new());
        for template in &planned.inputs.templates {
            let _ = deliver::clear(&setting.roots, &template.destination);
        }
    }
}

/// The kept artifacts of a state directory.
pub(crate) fn cache(state_dir: &Path) -> PathBuf {
    state_dir.join("cache").join("artifacts")
}

/// Which artifacts of a task have arrived, by their place in its list: none is fetched twice.
pub type Arrived = Mutex<BTreeSet<usize>>;

/// How far the artifacts are: which, by its place in the list, and what its helper says.
pub type Tell<'a> = &'a (dyn Fn(usize, Progress) + Sync);

/// Fetches all artifacts, three at a time. What has arrived stays when another fails.
///
/// # Errors
/// [`InputError`]: the first that failed.
pub fn fetch(
    artifacts: &[Artifact],
    arrived: &Arrived,
    setting: &Setting,
    stop: &AtomicBool,
    tell: Tell<'_>,
) -> Result<(), InputError> {
    let fetcher = Fetcher {
        helper: (setting.program.clone(), vec![OsString::from(bivouac_artifact::helper::SUBCOMMAND)]),
        environment: servers_and_authorities(),
        staging: setting.staging.clone(),
        cache: Some(setting.cache.clone()),
        limits: Limits::default(),
    };
    let has = |at: &usize| arrived.lock().unwrap_or_else(PoisonError::into_inner).contains(at);
    let missing: Vec<_> = artifacts.iter().enumerate().filter(|(at, _)| !has(at)).collect();
    for some in missing.chunks(AT_A_TIME) {
        let results: Vec<_> = std::thread::scope(|scope| {
            let fetcher = &fetcher;
            let begun: Vec<_> = some
                .iter()
                .map(|(at, artifact)| {
                    scope.spawn(move || {
                        let tell = |progress| tell(*at, progress);
                        fetch_one(fetcher, artifact, setting, stop, &tell)?;
                        arrived.lock().unwrap_or_else(PoisonError::into_inner).insert(*at);
                        Ok(())
                    })
                })
                .collect();
            let died =
                || Err(InputError::Artifact("fetching failed in a way that nobody foresaw".to_owned()));
            begun.into_iter().map(|one| one.join().unwrap_or_else(|_| died())).collect()
        });
        results.into_iter().collect::<Result<(), InputError>>()?;
    }
    Ok(())
}

fn fetch_one(
    fetcher: &Fetcher,
    artifact: &Artifact,
    setting: &Setting,
    stop: &AtomicBool,
    tell: &dyn Fn(Progress),
) -> Result<(), InputError> {
    let wanted = bivouac_artifact::fetch::Artifact {
        source: artifact.source.clone(),
        options: artifact.options.clone(),
        headers: artifact.headers.clone(),
        mode: match artifact.mode {
            ArtifactMode::Any => ResultMode::Any,
            ArtifactMode::File => ResultMode::File,
            ArtifactMode::Dir => ResultMode::Directory,
        },
        destination: artifact.destination.clone(),
        certificates: if artifact.insecure { Certificates::Any } else { Certificates::Verified },
    };
    let owner = if artifact.chown { setting.user } else { Owner::ROOT };
    let arrived = fetcher.fetch(&wanted, &setting.roots, owner, &mut |progress| {
        if let Some(progress) = progress {
            tell(progress);
        }
        if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    match arrived {
        Ok(_) => Ok(()),
        Err(bivouac_artifact::fetch::FetchError::Stopped(_)) => Err(InputError::Stopped),
        Err(error) => Err(InputError::Artifact(error.to_string())),
    }
}

/// A task's templates, rendered, and what they depend on.
pub struct Rendered {
    setting: Setting,
    templates: Vec<Template>,
    texts: Vec<String>,
    watches: Option<Watches>,
}

/// What a changed template wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Consequence {
    /// This, after at most this long.
    Act(Change, Duration),
    /// It could not be rendered again: the old result stays.
    Failed(String),
}

impl Rendered {
    /// Renders all templates and puts them in place.
    ///
    /// # Errors
    /// [`InputError::Template`]: the first that failed.
    pub fn all(templates: &[Template], setting: Setting) -> Result<Rendered, InputError> {
        let mut rendered =
            Rendered { setting, templates: templates.to_vec(), texts: Vec::new(), watches: None };
        let mut read = Vec::new();
        for template in templates {
            let text = rendered.make(template, &mut read).map_err(InputError::Template)?;
            rendered.texts.push(text);
        }
        rendered.watch(&read);
        Ok(rendered)
    }

    /// Variables of the templates with `env = true`; they win over the job file's.
    ///
    /// # Errors
    /// [`InputError::Template`] with the line that is none.
    pub fn environment(&self) -> Result<BTreeMap<String, String>, InputError> {
        let mut all = BTreeMap::new();
        for (template, text) in self.templates.iter().zip(&self.texts).filter(|(template, _)| template.env) {
            let wrong = |why| InputError::Template(format!("template {}: {why}", template.destination));
            all.extend(environment::parse(text).map_err(wrong)?);
        }
        Ok(all)
    }

    /// What to wait for; nothing when no template has read a file.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.watches.as_ref().map(Watches::descriptor)
    }

    /// Takes what has happened: renders again, and says what is to be done. Call it when the descriptor is ready.
    pub fn changed(&mut self) -> Vec<Consequence> {
        if !self.watches.as_mut().is_some_and(Watches::take) {
            return Vec::new();
        }
        let mut read = Vec::new();
        let mut consequences = Vec::new();
        for (at, template) in self.templates.clone().iter().enumerate().filter(|(_, template)| !template.once)
        {
            let old = self.texts.get(at).cloned().unwrap_or_default();
            match self.render(template, &mut read) {
                Ok(text) if text == old => {}
                Ok(text) => match self.put(template, &text) {
                    Ok(()) => {
                        if let Some(slot) = self.texts.get_mut(at) {
                            *slot = text;
                        }
                        consequences.push(Consequence::Act(template.change.clone(), template.splay));
                    }
                    Err(text) => consequences.push(Consequence::Failed(text)),
                },
                Err(text) => consequences.push(Consequence::Failed(text)),
            }
        }
        self.watch(&read);
        consequences
    }

    fn watch(&mut self, read: &[String]) {
        let changing = self.templates.iter().any(|template| !template.once);
        self.watches =
            if read.is_empty() || !changing { None } else { Watches::new(&self.setting.roots, read).ok() };
    }

    fn make(&self, template: &Template, read: &mut Vec<String>) -> Result<String, String> {
        let text = self.render(template, read)?;
        self.put(template, &text)?;
        Ok(text)
    }

    fn put(&self, template: &Template, text: &str) -> Result<(), String> {
        let owner = Owner { uid: template.uid.unwrap_or(0), gid: template.gid.unwrap_or(0) };
        deliver(&self.setting.roots, &template.destination, text, template.perms, owner)
    }

    fn render(&self, template: &Template, read: &mut Vec<String>) -> Result<String, String> {
        let named = |why: String| format!("template {}: {why}", template.destination);
        let roots = &self.setting.roots;
        let text = match &template.source {
            TemplateSource::Data(text) => text.clone(),
            TemplateSource::File(path) => {
                read.push(path.clone());
                read_file(roots, path).map_err(named)?
            }
        };
        let order = Order {
            text,
            left: template.left_delimiter.clone(),
            right: template.right_delimiter.clone(),
            missing: if template.error_on_missing_key { Missing::Error } else { Missing::Empty },
            env: self.setting.env.clone(),
        };
        let program: Program = (self.setting.program.clone(), vec![OsString::from(helper::SUBCOMMAND)]);
        render(&program, &order, &mut |path| {
            read.push(path.to_owned());
            read_file(roots, path)
        })
        .map_err(named)
    }
}

impl Setting {
    /// The setting of a task in an allocation's directory.
    pub fn of(
        allocation: &Path,
        task: &str,
        secrets: &Path,
        state_dir: &Path,
        env: BTreeMap<String, String>,
    ) -> Setting {
        Setting {
            roots: Roots {
                task: allocation.join(task),
                shared: allocation.join("alloc"),
                secrets: secrets.to_path_buf(),
            },
            user: Owner::ROOT,
            staging: allocation.join(STAGING),
            cache: cache(state_dir),
            program: PathBuf::from("/proc/self/exe"),
            env,
        }
    }
}
