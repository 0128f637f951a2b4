//! What this host can do, and what it lacks, each with a remedy: for the fingerprint and for `bivouac doctor`.

use bivouac_cgroup::Host;
use bivouac_shim::client::program::{self, Unfit};
use bivouac_sys::features::{KernelFeatures, OverlayLayers};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// Whether tasks can run here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// They can.
    Healthy,
    /// They could, but something is missing at the moment.
    Unhealthy(Vec<Missing>),
    /// They never can, run by this user.
    Undetected(Missing),
}

impl Health {
    /// One sentence, as Nomad shows it.
    pub fn description(&self) -> String {
        match self {
            Health::Healthy => "Healthy".into(),
            Health::Undetected(missing) => missing.what.clone(),
            Health::Unhealthy(missing) => {
                missing.iter().map(|missing| missing.what.as_str()).collect::<Vec<_>>().join("; ")
            }
        }
    }
}

/// A requirement that is not met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// What is missing, for users who search for it.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

fn missing(what: impl Into<String>, remedy: impl Into<String>) -> Missing {
    Missing { what: what.into(), remedy: remedy.into() }
}

/// What health depends on, as plain values.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// Whether this process is root.
    pub root: bool,
    /// The control groups, or why there are none.
    pub cgroups: Result<Host, String>,
    /// What the kernel can do, or why that could not be asked.
    pub features: Result<KernelFeatures, String>,
    /// Whether the shim's program is the one that this build starts.
    pub shim: Result<(), Unfit>,
}

/// What is known of the shim's program. It is run to be asked: not again while it is the file that gave the right
/// answer.
#[derive(Debug)]
pub struct ShimCheck {
    path: PathBuf,
    right: Option<[i64; 5]>,
}

impl ShimCheck {
    /// Of the program at this path.
    pub fn new(path: PathBuf) -> ShimCheck {
        ShimCheck { path, right: None }
    }

    /// Whether it is our shim, as the file is now.
    ///
    /// # Errors
    /// [`Unfit`].
    pub fn look(&mut self) -> Result<(), Unfit> {
        let file = std::fs::metadata(&self.path).ok().map(|status| {
            let numbers = [status.dev(), status.ino(), status.size()].map(u64::cast_signed);
            let [device, inode, size] = numbers;
            // A change of its bytes, mode or owner changes this time, whatever else is set back.
            [device, inode, size, status.ctime(), status.ctime_nsec()]
        });
        if file.is_none() || file != self.right {
            self.right = None;
            program::check(&self.path)?;
            self.right = file;
        }
        Ok(())
    }
}

/// What is missing where the shim's program is not the one that is wanted.
pub fn unfit(unfit: &Unfit) -> Missing {
    let remedy = match unfit {
        Unfit::Missing(_) => "install bivouac-shim beside bivouac, or set BIVOUAC_SHIM",
        Unfit::NotRun { .. } => "install the bivouac-shim of this release, with mode 0755",
        Unfit::Silent(_) | Unfit::Other { .. } => {
            "install bivouac and bivouac-shim of one release and, under Nomad, restart the agent"
        }
    };
    missing(unfit.to_string(), remedy)
}

impl Evidence {
    /// Asks the running host.
    pub fn of_host(shim: &mut ShimCheck) -> Evidence {
        Evidence {
            root: rustix::process::geteuid().is_root(),
            cgroups: Host::detect().map_err(|error| error.to_string()),
            features: KernelFeatures::probe().map_err(|errno| errno.to_string()),
            shim: shim.look(),
        }
    }

    /// The verdict.
    pub fn health(&self) -> Health {
        if !self.root {
            return Health::Undetected(missing(
                "Driver must run as root",
                "start Bivouac, or the Nomad agent, as root",
            ));
        }
        let mut found = Vec::new();
        match &self.cgroups {
            Err(why) => found.push(missing(
                format!("Failed to discover cgroup mount point: {why}"),
                "mount cgroup v2: mount -t cgroup2 cgroup2 /sys/fs/cgroup",
            )),
            Ok(host) => {
                let lacking: Vec<&str> =
                    host.missing_controllers().into_iter().map(bivouac_cgroup::Controller::v1_name).collect();
                if !lacking.is_empty() {
                    found.push(missing(
                        format!("the cgroup controllers {} are missing", lacking.join(", ")),
                        "hand them down (cgroup.subtree_control) or enable them on the kernel's command line",
                    ));
                }
            }
        }
        match &self.features {
            Err(why) => found.push(missing(
                format!("the kernel refuses fsopen(2): {why}"),
                "use Linux 5.14 or newer, outside of a container that filters mount calls",
            )),
            Ok(features) if features.overlay == OverlayLayers::Unavailable => found
                .push(missing("this kernel makes no overlay mounts", "load the module: modprobe overlay")),
            Ok(_) => {}
        }
        found.extend(self.shim.as_ref().err().map(unfit));
        if found.is_empty() { Health::Healthy } else { Health::Unhealthy(found) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sound() -> Evidence {
        let v2 = Host::parse("25 30 0:23 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n").unwrap();
        Evidence { root: true, cgroups: Ok(v2), features: Ok(KernelFeatures::NEWEST), shim: Ok(()) }
    }

    /// Covers: E2
    #[test]
    fn e2_a_sound_host_is_healthy() {
        assert_eq!(sound().health(), Health::Healthy);
        assert_eq!(sound().health().description(), "Healthy");
    }

    #[test]
    fn each_missing_requirement_is_named_with_a_remedy() {
        let of = |evidence: Evidence| evidence.health().description();
        assert_eq!(of(Evidence { root: false, ..sound() }), "Driver must run as root");
        let text = of(Evidence { cgroups: Err("no cgroup is mounted".into()), ..sound() });
        assert!(text.starts_with("Failed to discover cgroup mount point"), "{text}");
        let narrow = sound().cgroups.unwrap().with_unified_controllers("cpu memory");
        let text = of(Evidence { cgroups: Ok(narrow), ..sound() });
        assert!(text.contains("pids") && text.contains("cpuset") && !text.contains("memory"), "{text}");
        let none = KernelFeatures { overlay: OverlayLayers::Unavailable, ..KernelFeatures::NEWEST };
        let both =
            Evidence { features: Ok(none), shim: Err(Unfit::Missing("/x".into())), ..sound() }.health();
        let Health::Unhealthy(missing) = both else { panic!("{both:?}") };
        assert_eq!(missing.len(), 2);
        assert!(missing.iter().all(|missing| !missing.remedy.is_empty()));
    }

    #[test]
    fn a_shim_that_would_start_nothing_is_named_with_a_remedy_of_its_own() {
        let program = || "/x/bivouac-shim".to_owned();
        for (unfit, what, remedy) in [
            (Unfit::Missing(program()), "is missing", "BIVOUAC_SHIM"),
            (
                Unfit::NotRun { program: program(), answer: "Permission denied".into() },
                "cannot be run: Perm",
                "0755",
            ),
            (Unfit::Silent(program()), "does not say which version", "of one release"),
            (Unfit::Other { program: program(), theirs: 7 }, "speaks version 7", "of one release"),
        ] {
            let Health::Unhealthy(found) = (Evidence { shim: Err(unfit), ..sound() }).health() else {
                panic!("{what}")
            };
            let [missing] = found.as_slice() else { panic!("{found:?}") };
            assert!(missing.what.contains(what) && missing.what.contains("/x/bivouac-shim"), "{missing:?}");
            assert!(missing.remedy.contains(remedy), "{missing:?}");
        }
    }

    #[test]
    fn the_right_shim_is_asked_once_until_its_file_is_another() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let (path, asked) = (directory.path().join("shim"), directory.path().join("asked"));
        // By another process: what a thread of this one writes cannot be run while others are about to start theirs.
        let place = |says: &str| {
            let script = format!("#!/bin/sh\\necho >>{}\\necho {}\\n", asked.display(), says.trim_end());
            let place = "printf \"$1\" >\"$2.new\" && chmod 755 \"$2.new\" && mv \"$2.new\" \"$2\"";
            let mut command = std::process::Command::new("sh");
            assert!(command.args(["-c", place, "sh", &script]).arg(&path).status().unwrap().success());
        };
        let mut shim = ShimCheck::new(path.clone());
        let times = || std::fs::read_to_string(&asked).map_or(0, |text| text.lines().count());
        assert!(matches!(shim.look(), Err(Unfit::Missing(_))));
        place(&program::told());
        assert_eq!((shim.look(), shim.look(), times()), (Ok(()), Ok(()), 1));
        place("something else");
        assert!(matches!((shim.look(), shim.look()), (Err(Unfit::Silent(_)), Err(Unfit::Silent(_)))));
        assert_eq!(times(), 3);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(shim.look(), Err(Unfit::NotRun { .. })));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(shim.look(), Err(Unfit::Missing(_))));
        place(&program::told());
        assert_eq!(shim.look(), Ok(()));
    }
}
