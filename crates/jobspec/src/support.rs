//! What the running version can do: the caller says it, and everything else in a file is an error.

/// A part of the job language that a version may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Feature {
    /// `count` above 1.
    Count,
    /// `artifact` blocks.
    Artifact,
    /// `template` blocks.
    Template,
    /// `lifecycle` blocks.
    Lifecycle,
    /// `leader = true`.
    Leader,
    /// `restart` blocks.
    Restart,
    /// `service` blocks.
    Service,
    /// `check` blocks within services.
    Check,
    /// `action` blocks.
    Action,
    /// `parameterized` jobs and `dispatch_payload`.
    Parameterized,
    /// `periodic` jobs.
    Periodic,
    /// `network { mode = "none" }`.
    NetworkNone,
    /// `network { mode = "bridge" }`.
    NetworkBridge,
    /// `network { mode = "cni/..." }`.
    NetworkCni,
    /// `port` blocks.
    Port,
    /// `dns` blocks.
    Dns,
    /// `hostname` of a network.
    Hostname,
    /// `volume` and `volume_mount` blocks.
    Volume,
    /// `ephemeral_disk` with `sticky` or `migrate`.
    StickyDisk,
    /// `max_run_duration`.
    MaxRunDuration,
    /// `shutdown_delay`.
    ShutdownDelay,
    /// `cores` in resources.
    Cores,
    /// `secrets` in resources.
    SecretsMemory,
    /// `device` blocks.
    Device,
    /// `numa` blocks.
    Numa,
    /// `identity` blocks.
    Identity,
    /// `secret` blocks.
    Secret,
    /// `schedule` blocks.
    Schedule,
    /// `logs` blocks.
    Logs,
}

impl Feature {
    /// Every feature.
    pub const ALL: &'static [Feature] = &[
        Feature::Count,
        Feature::Artifact,
        Feature::Template,
        Feature::Lifecycle,
        Feature::Leader,
        Feature::Restart,
        Feature::Service,
        Feature::Check,
        Feature::Action,
        Feature::Parameterized,
        Feature::Periodic,
        Feature::NetworkNone,
        Feature::NetworkBridge,
        Feature::NetworkCni,
        Feature::Port,
        Feature::Dns,
        Feature::Hostname,
        Feature::Volume,
        Feature::StickyDisk,
        Feature::MaxRunDuration,
        Feature::ShutdownDelay,
        Feature::Cores,
        Feature::SecretsMemory,
        Feature::Device,
        Feature::Numa,
        Feature::Identity,
        Feature::Secret,
        Feature::Schedule,
        Feature::Logs,
    ];

    /// The feature in the words of a message: "this version does not run ... yet".
    pub fn describe(self) -> &'static str {
        match self {
            Feature::Count => "more than one instance of a group (`count`)",
            Feature::Artifact => "`artifact` blocks",
            Feature::Template => "`template` blocks",
            Feature::Lifecycle => "`lifecycle` blocks",
            Feature::Leader => "`leader` tasks",
            Feature::Restart => "`restart` blocks",
            Feature::Service => "`service` blocks",
            Feature::Check => "`check` blocks",
            Feature::Action => "`action` blocks",
            Feature::Parameterized => "`parameterized` jobs",
            Feature::Periodic => "`periodic` jobs",
            Feature::NetworkNone => "network mode \"none\"",
            Feature::NetworkBridge => "network mode \"bridge\"",
            Feature::NetworkCni => "CNI networks",
            Feature::Port => "`port` blocks",
            Feature::Dns => "`dns` blocks",
            Feature::Hostname => "`hostname` of a network",
            Feature::Volume => "`volume` blocks",
            Feature::StickyDisk => "sticky `ephemeral_disk` blocks",
            Feature::MaxRunDuration => "`max_run_duration`",
            Feature::ShutdownDelay => "`shutdown_delay`",
            Feature::Cores => "`cores`",
            Feature::SecretsMemory => "`secrets` memory",
            Feature::Device => "`device` blocks",
            Feature::Numa => "`numa` blocks",
            Feature::Identity => "`identity` blocks",
            Feature::Secret => "`secret` blocks",
            Feature::Schedule => "`schedule` blocks",
            Feature::Logs => "`logs` blocks",
        }
    }
}

/// The set of features that the running version has.
#[derive(Clone, Debug)]
pub struct Support {
    missing: Vec<Feature>,
}

impl Support {
    /// Everything.
    pub fn all() -> Self {
        Support { missing: Vec::new() }
    }

    /// Only what is listed.
    pub fn only(features: &[Feature]) -> Self {
        Support {
            missing: Feature::ALL.iter().copied().filter(|feature| !features.contains(feature)).collect(),
        }
    }

    /// All but what is listed.
    pub fn without(features: &[Feature]) -> Self {
        Support { missing: features.to_vec() }
    }

    /// Whether a feature is there.
    pub fn has(&self, feature: Feature) -> bool {
        !self.missing.contains(&feature)
    }
}

impl Default for Support {
    fn default() -> Self {
        Support::all()
    }
}
