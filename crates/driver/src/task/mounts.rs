//! A task's mounts and devices: the allocation's own, what the face brings, and what the task asks for within what
//! the operator allows.

use super::{Preparation, Resolver, TaskError, generated_dir, refused};
use crate::config::MountAsked;
use crate::host::Kind;
use crate::options::{Place, Refused};
use crate::request::{Secrets, TaskRequest};
use crate::resources::DeviceGrant;
use bivouac_sandbox::model::{Access, Mount, MountKind, Propagation, Route, Trust};
use bivouac_sandbox::{HostPath, TaskPath};

impl Resolver<'_> {
    /// In this order: `/alloc`, `/secrets`, generated files without an `/etc` to lie in, what the face brings, what
    /// the task asks for.
    pub(super) fn mounts(
        &self,
        request: &TaskRequest,
        files: &[Preparation],
    ) -> Result<Vec<Mount>, TaskError> {
        let directories = &request.directories;
        let mut mounts = vec![
            bind(directories.shared.clone(), "/alloc", Access::ReadWrite)?,
            below(&directories.shared, "logs", "/alloc/logs", Access::ReadOnly)?,
        ];
        if request.config.root_access == Access::ReadOnly {
            // What stays writable in a read-only root.
            for name in ["local", "tmp"] {
                mounts.push(below(&directories.task, name, &format!("/{name}"), Access::ReadWrite)?);
            }
        }
        match &directories.secrets {
            Secrets::Directory(source) => mounts.push(bind(source.clone(), "/secrets", Access::ReadWrite)?),
            Secrets::Memory(size) => {
                let what = MountKind::Secrets { size: *size };
                mounts.push(Mount { target: TaskPath::new("/secrets")?, what });
            }
            Secrets::InTaskDirectory if request.config.root_access == Access::ReadOnly => {
                mounts.push(below(&directories.task, "secrets", "/secrets", Access::ReadWrite)?);
            }
            Secrets::InTaskDirectory => {}
        }
        if !self.shows_etc() {
            for file in files {
                if let Preparation::File { name, .. } = file {
                    let source = generated_dir(request)?.join(name)?;
                    mounts.push(bind(source, &format!("/etc/{name}"), Access::ReadOnly)?);
                }
            }
        }
        for mount in &request.mounts {
            self.allowed_propagation(&mount.what, format_args!("the mount at {}", mount.target))?;
            mounts.push(mount.clone());
        }
        for (index, asked) in request.config.mounts.iter().enumerate() {
            mounts.push(self.asked_mount(asked, &Place::top().field("mount").element(index))?);
        }
        Ok(mounts)
    }

    /// Whether a directory of the host is shown as `/etc`, so that generated files are a layer of it.
    fn shows_etc(&self) -> bool {
        self.operator.chroot_env.iter().any(|(source, target)| {
            target.as_path() == std::path::Path::new("/etc")
                && !self.files.is_link(source)
                && self.files.kind(source) == Some(Kind::Directory)
        })
    }

    fn asked_mount(&self, asked: &MountAsked, place: &Place) -> Result<Mount, Refused> {
        match asked {
            MountAsked::Tmpfs { target, size, mode, programs } => Ok(Mount {
                target: target.clone(),
                what: MountKind::Tmpfs { size: *size, mode: *mode, programs: *programs },
            }),
            MountAsked::Bind { source, target, access, propagation } => {
                let (source, route) = self.allowed_source(source, *access, &place.field("source"))?;
                let what = MountKind::Bind {
                    source,
                    route,
                    access: *access,
                    trust: Trust::Stripped,
                    propagation: *propagation,
                };
                self.allowed_propagation(&what, place.field("propagation"))?;
                Ok(Mount { target: target.clone(), what })
            }
        }
    }

    /// Mounts that travel to the host are a power over it, whoever asks.
    fn allowed_propagation(&self, what: &MountKind, whose: impl std::fmt::Display) -> Result<(), Refused> {
        let travels = matches!(what, MountKind::Bind { propagation: Propagation::Bidirectional, .. });
        if travels && !self.operator.allow_bidirectional {
            let text = format!(
                "{whose}: bidirectional propagation is not allowed here; the operator's option allow_bidirectional permits it"
            );
            return Err(Refused::says(&Place::top().field("mount"), text));
        }
        Ok(())
    }

    /// The source without links and the way to it, if it lies below something that the operator allows.
    fn allowed_source(
        &self,
        source: &HostPath,
        access: Access,
        place: &Place,
    ) -> Result<(HostPath, Route), Refused> {
        let rules = &self.operator.allow_mount_paths;
        let named = || match rules.as_slice() {
            [] => "none are allowed".to_owned(),
            rules => rules.iter().map(|rule| rule.path.to_string()).collect::<Vec<_>>().join(", "),
        };
        // Before the look: a task learns nothing about paths that are none of its business.
        let outside = || {
            Refused::at(
                place,
                format!(
                    "{source} is not below a path that the operator allows (allow_mount_paths: {})",
                    named()
                ),
            )
        };
        let lexically = rules.iter().any(|rule| source.is_within(&rule.path));
        if !lexically {
            return Err(outside());
        }
        let real = self
            .files
            .real(source)
            .ok_or_else(|| Refused::at(place, format!("{source} does not exist on the host")))?;
        let allowing = |rule: &crate::config::MountRule| {
            let top = self.files.real(&rule.path).filter(|top| real.is_within(top))?;
            Some((top, rule.access))
        };
        let allowing: Vec<_> = rules.iter().filter_map(allowing).collect();
        let fits = |(_, most): &&(HostPath, Access)| access == Access::ReadOnly || *most == Access::ReadWrite;
        if allowing.is_empty() {
            return Err(outside());
        }
        let Some((top, _)) = allowing.iter().find(fits) else {
            let text = format!(
                "{source} may only be mounted with readonly = true (the operator's allow_mount_paths)"
            );
            return Err(Refused::at(place, text));
        };
        Ok((real, Route::Beneath(top.clone())))
    }

    /// Devices of the face and of the task.
    pub(super) fn devices(&self, request: &TaskRequest) -> Result<Vec<DeviceGrant>, Refused> {
        let mut grants = Vec::new();
        for device in &request.devices {
            let node = crate::host::device(self.files, &device.host, &device.target);
            let node = node.map_err(|text| refused("devices", text))?;
            grants.push(DeviceGrant { node, access: device.access });
        }
        for (index, device) in request.config.devices.iter().enumerate() {
            let place = Place::top().field("devices").element(index).field("host_path");
            if !self.operator.allow_devices.iter().any(|allowed| device.host.is_within(allowed)) {
                let text = format!(
                    "{} is not among the devices that the operator allows (allow_devices)",
                    device.host
                );
                return Err(Refused::at(&place, text));
            }
            let node = crate::host::device(self.files, &device.host, &device.target);
            grants.push(DeviceGrant {
                node: node.map_err(|text| Refused::at(&place, text))?,
                access: device.access,
            });
        }
        if let Some(outside) = grants.iter().find(|grant| !grant.node.target.as_path().starts_with("/dev")) {
            return Err(refused(
                "devices",
                format!("{} must be below /dev in the task", outside.node.target),
            ));
        }
        Ok(grants)
    }
}

/// A directory that a task could have replaced: links on the way to it are refused.
fn below(top: &HostPath, name: &str, target: &str, access: Access) -> Result<Mount, TaskError> {
    let mut mount = bind(top.join(name)?, target, access)?;
    if let MountKind::Bind { route, .. } = &mut mount.what {
        *route = Route::Beneath(top.clone());
    }
    Ok(mount)
}

fn bind(source: HostPath, target: &str, access: Access) -> Result<Mount, TaskError> {
    let what = MountKind::Bind {
        source,
        route: Route::Anywhere,
        access,
        trust: Trust::Stripped,
        propagation: Propagation::Private,
    };
    Ok(Mount { target: TaskPath::new(target)?, what })
}
