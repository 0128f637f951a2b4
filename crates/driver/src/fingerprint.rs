//! What this host can do, and what it lacks, each with a remedy: for the fingerprint and for `bivouac doctor`.

use bivouac_cgroup::Host;
use bivouac_sys::features::{KernelFeatures, OverlayLayers};
use std::path::Path;

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
    /// The shim's program, if it is there.
    pub shim: Result<(), String>,
}

impl Evidence {
    /// Asks the running host.
    pub fn of_host(shim: &Path) -> Evidence {
        let present = std::fs::metadata(shim).is_ok_and(|status| status.is_file());
        Evidence {
            root: rustix::process::geteuid().is_root(),
            cgroups: Host::detect().map_err(|error| error.to_string()),
            features: KernelFeatures::probe().map_err(|errno| errno.to_string()),
            shim: if present { Ok(()) } else { Err(shim.display().to_string()) },
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
        if let Err(path) = &self.shim {
            found.push(missing(
                format!("the program {path} is missing"),
                "install bivouac-shim beside bivouac, or set BIVOUAC_SHIM",
            ));
        }
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
        let both = Evidence { features: Ok(none), shim: Err("/x/bivouac-shim".into()), ..sound() }.health();
        let Health::Unhealthy(missing) = both else { panic!("{both:?}") };
        assert_eq!(missing.len(), 2);
        assert!(missing.iter().all(|missing| !missing.remedy.is_empty()));
    }
}
