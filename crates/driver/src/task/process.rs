//! A task's first process: identity, capabilities, filter, limits, environment.

use super::{Resolver, TaskError, refused};
use crate::capabilities::Granted;
use crate::config::{Compat32, CoreDumps, Limit, Seccomp, Ulimit, resource_number};
use crate::environment;
use crate::identity::{Account, DEFAULT_USER};
use crate::options::Refused;
use crate::request::TaskRequest;
use bivouac_sandbox::TaskPath;
use bivouac_sandbox::capability::CapSet;
use bivouac_sandbox::model::{Candidate, Confinement, Init, PrivilegeGain, Process, Rlimit};
use bivouac_sandbox::seccomp::{self, MountGrant, Profile, Request};
use serde_bytes::ByteBuf;

impl Resolver<'_> {
    pub(super) fn process(
        &self,
        request: &TaskRequest,
        account: &Account,
        granted: &Granted,
        candidates: Vec<Candidate>,
    ) -> Result<Process, TaskError> {
        let config = &request.config;
        let bytes = |list: Vec<Vec<u8>>| list.into_iter().map(ByteBuf::from).collect();
        Ok(Process {
            asked: config.command.clone(),
            candidates,
            arguments: bytes(environment::arguments(&config.args)?),
            environment: bytes(environment::build(&request.env, account)?),
            work_dir: match &config.work_dir {
                Some(path) => path.clone(),
                None => TaskPath::new("/")?,
            },
            identity: account.identity.clone(),
            capabilities: granted.sets,
            confinement: self.confinement(request, granted)?,
            rlimits: self.rlimits(request, account)?,
            oom_score_adj: config.oom_score_adj,
            umask: 0o022,
            init: if config.init { Init::Reaper } else { Init::Command },
        })
    }

    fn confinement(&self, request: &TaskRequest, granted: &Granted) -> Result<Confinement, Refused> {
        let config = &request.config;
        if config.seccomp == Seccomp::Unconfined && !self.operator.allow_unconfined {
            return Err(refused(
                "seccomp",
                "= \"unconfined\" is not allowed here; the operator's option allow_unconfined permits it",
            ));
        }
        if config.compat32 == Compat32::Full && !self.operator.allow_compat32 {
            return Err(refused(
                "compat32",
                "= \"full\" is not allowed here; the operator's option allow_compat32 permits it",
            ));
        }
        let filter = seccomp::compile(&Request {
            profile: match config.seccomp {
                Seccomp::Default => Profile::Default,
                Seccomp::Unconfined => Profile::Unconfined,
            },
            granted: granted.added,
            mount_allowed: if self.operator.allow_mount { MountGrant::Granted } else { MountGrant::Refused },
            compat32: match config.compat32 {
                Compat32::Filtered => seccomp::Compat32::NoSocketcall,
                Compat32::Full => seccomp::Compat32::Full,
            },
        });
        let never = config.no_new_privs.unwrap_or(self.operator.default_no_new_privs);
        let sets = [&self.operator.landlock, &config.landlock].into_iter().filter(|set| !set.is_empty());
        Ok(Confinement {
            gain: if never { PrivilegeGain::Never } else { PrivilegeGain::Possible },
            filter,
            landlock: sets.cloned().collect(),
        })
    }

    fn rlimits(&self, request: &TaskRequest, account: &Account) -> Result<Vec<Rlimit>, Refused> {
        let own = &request.config.ulimit;
        let defaults = self.operator.default_ulimit.iter();
        let unset = defaults.filter(|limit| own.iter().all(|own| own.resource != limit.resource));
        let mut rlimits = Vec::new();
        for limit in own.iter().chain(unset) {
            self.check_ulimit(limit, account)?;
            rlimits.push(Rlimit {
                resource: limit.resource,
                soft: limit.soft.number(),
                hard: limit.hard.number(),
            });
        }
        if request.config.core == CoreDumps::Off {
            let core = resource_number("core").unwrap_or(4);
            if own.iter().any(|limit| limit.resource == core) {
                return Err(refused("ulimit.core", "contradicts core = \"off\"; set one of them"));
            }
            // 1 and not 0: for 0 the kernel still starts a handler that core_pattern names with a pipe.
            rlimits.retain(|limit| limit.resource != core);
            rlimits.push(Rlimit { resource: core, soft: 1, hard: 1 });
        }
        Ok(rlimits)
    }

    fn check_ulimit(&self, limit: &Ulimit, account: &Account) -> Result<(), Refused> {
        let place = format!("ulimit.{}", limit.name);
        if limit.name == "nproc" && account.name == DEFAULT_USER {
            let text = "counts every process of user nobody on this host, of other tasks too; use pids_limit, which counts this task's only";
            return Err(refused(&place, text));
        }
        if let Some(ceiling) =
            self.operator.ulimit_ceiling(limit.resource).filter(|ceiling| limit.hard > ceiling.hard)
        {
            let text = format!(
                "= {} is above what the operator allows (max_ulimit {} = {})",
                limit.hard, limit.name, ceiling.hard
            );
            return Err(refused(&place, text));
        }
        let may_raise = self.facts.powers.held.contains(CapSet::SYS_RESOURCE);
        let hard = usize::try_from(limit.resource)
            .ok()
            .and_then(|number| self.facts.hard_limits.get(number))
            .copied();
        if let Some(hard) = hard.filter(|hard| !may_raise && limit.hard.number() > *hard) {
            let hard = if hard == u64::MAX { Limit::Unlimited } else { Limit::At(hard) };
            let text = format!(
                "= {} is above Bivouac's own limit ({hard}), and it does not have the capability sys_resource here",
                limit.hard
            );
            return Err(refused(&place, text));
        }
        Ok(())
    }
}
