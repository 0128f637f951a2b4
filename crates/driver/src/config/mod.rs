//! What the options mean: [`TaskConfig`] and [`OperatorConfig`], typed, with nothing left to check by itself.
//!
//! Decoding knows no host: what depends on the kernel, the user database or the file system is decided where it
//! is resolved.

mod landlock;
mod operator;
mod task;
mod ulimit;

pub use operator::{MountRule, OperatorConfig};
pub use task::{
    Compat32, CoreDumps, DeviceAsked, DeviceUse, Dns, HostLine, KillMode, MountAsked, Seccomp, TaskConfig,
};
pub use ulimit::{Limit, Ulimit, resource_number};

use crate::options::{Refused, Settings};
use bivouac_sandbox::model::Sharing;

/// Which capabilities are in force for a program whose user is not root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ambient {
    /// All of the task's set, as with the built-in driver.
    All,
    /// Only what the task added.
    Asked,
}

/// How the directories of the chroot environment are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootMode {
    /// Under a private upper layer.
    Overlay,
    /// Bound read-only.
    ReadOnly,
    /// A copy made once per configuration, under a private upper layer.
    Copy,
}

fn sharing(settings: &Settings, name: &str) -> Option<Sharing> {
    settings.text(name).map(|word| if word == "host" { Sharing::Host } else { Sharing::Private })
}

fn ambient(settings: &Settings) -> Option<Ambient> {
    settings.text("ambient").map(|word| if word == "asked" { Ambient::Asked } else { Ambient::All })
}

fn root_mode(settings: &Settings, name: &str) -> Option<RootMode> {
    settings.text(name).map(|word| match word {
        "readonly" => RootMode::ReadOnly,
        "copy" => RootMode::Copy,
        _ => RootMode::Overlay,
    })
}

/// The refusal of one option in the words of the type that refused it.
fn because(settings: &Settings, name: &str, error: impl std::fmt::Display) -> Refused {
    Refused::at(&settings.place(name), error)
}
