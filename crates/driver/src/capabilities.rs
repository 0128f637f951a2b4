//! What a task may do: from the names in `allow_caps`, `cap_add` and `cap_drop` to the five sets and the grants.
//!
//! `result = ((defaults ∩ allowed) − dropped) ∪ added`, as the exec driver's documentation says; what the launcher
//! itself lacks is left out of it, or is a refusal when it was asked for by name.

use crate::config::Ambient;
use bivouac_sandbox::capability::{CapSet, Spelling, UnknownNames};
use bivouac_sandbox::model::CapabilitySets;

/// The default set of the exec driver.
pub const DEFAULTS: CapSet = CapSet::from_bits(0xa804_05fb);

/// What user `root` has in the built-in driver: capabilities 0 to 37.
const ROOT: CapSet = CapSet::up_to(37);

/// What a host can give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Powers {
    /// What its kernel knows.
    pub known: CapSet,
    /// What the launcher itself has and may hand on.
    pub held: CapSet,
}

impl Powers {
    /// Asks the kernel about itself and this process.
    pub fn of_this_process() -> Powers {
        use bivouac_sys::credentials::{capget, is_in_bounding_set};
        let last = (0..64).take_while(|number| is_in_bounding_set(*number).is_ok()).last().unwrap_or(0);
        let bounding = (0..=last)
            .filter(|number| is_in_bounding_set(*number) == Ok(true))
            .map(|number| CapSet::from_bits(1 << number))
            .collect::<CapSet>();
        let permitted = CapSet::from_bits(capget().unwrap_or_default().permitted);
        Powers { known: CapSet::up_to(last), held: permitted.intersection(bounding) }
    }
}

/// What is asked for and allowed, as names.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The operator's `allow_caps`.
    pub allow: &'a [String],
    /// The task's `cap_add`.
    pub add: &'a [String],
    /// The task's `cap_drop`.
    pub drop: &'a [String],
    /// Which of its capabilities a program of a user other than root has in force.
    pub ambient: Ambient,
}

/// Whose capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// User `root`. (An alias of user 0 is held like any other user, as in the built-in driver.)
    Root,
    /// Anybody else.
    Other,
}

/// What a task has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The five sets.
    pub sets: CapabilitySets,
    /// What the task added and the operator allowed: this alone opens further system calls.
    pub added: CapSet,
    /// What was left out because the launcher does not have it.
    pub note: Option<String>,
}

/// Why capabilities are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CapabilityError {
    /// No such capability here.
    #[error("{option} configured with capabilities not supported by system: {}", .names.join(", "))]
    Unsupported {
        /// Which option.
        option: &'static str,
        /// Bare lower-case names, sorted.
        names: Vec<String>,
    },
    /// Not in `allow_caps`.
    #[error("driver does not allow the following capabilities: {}", .0.join(", "))]
    NotAllowed(Vec<String>),
    /// Named in `cap_add`, allowed, and not ours to give.
    #[error(
        "cap_add names capabilities that Bivouac itself does not have here: {}; start it (or the Nomad agent) with them, or leave them out",
        .0.join(", ")
    )]
    NotHeld(Vec<String>),
}

/// The set that one option means.
///
/// # Errors
/// [`CapabilityError::Unsupported`] with every name that this kernel does not know.
pub fn named(option: &'static str, names: &[String], known: CapSet) -> Result<CapSet, CapabilityError> {
    let unsupported = |mut names: Vec<String>| {
        names.sort_unstable();
        Err(CapabilityError::Unsupported { option, names })
    };
    match CapSet::parse(names, known) {
        Err(UnknownNames { names }) => unsupported(names),
        Ok(set) if !known.contains(set) => unsupported(set.difference(known).names(Spelling::Bare)),
        Ok(set) => Ok(set),
    }
}

/// Computes what a task has.
///
/// # Errors
/// [`CapabilityError`].
pub fn grant(asked: &Asked<'_>, holder: Holder, powers: Powers) -> Result<Granted, CapabilityError> {
    let allowed = named("allow_caps", asked.allow, powers.known)?;
    let added = named("cap_add", asked.add, powers.known)?;
    let dropped = named("cap_drop", asked.drop, powers.known)?;
    if !allowed.contains(added) {
        return Err(CapabilityError::NotAllowed(added.difference(allowed).names(Spelling::Bare)));
    }
    let by_name = asked.add.iter().filter_map(|name| CapSet::named(name)).collect::<CapSet>();
    if !powers.held.contains(by_name) {
        return Err(CapabilityError::NotHeld(by_name.difference(powers.held).names(Spelling::Bare)));
    }
    let base = match holder {
        Holder::Root => ROOT.intersection(powers.known),
        Holder::Other => DEFAULTS.intersection(allowed),
    };
    let wanted = base.difference(dropped).union(added);
    let result = wanted.intersection(powers.held);
    let missing = wanted.difference(powers.held);
    let note = (!missing.is_empty())
        .then(|| format!("left out capabilities that Bivouac itself does not have here: {missing}"));
    let added = added.intersection(powers.held);
    let sets = match (holder, asked.ambient) {
        (Holder::Root, _) => CapabilitySets {
            bounding: result,
            permitted: result,
            effective: result,
            inheritable: CapSet::EMPTY,
            ambient: CapSet::EMPTY,
        },
        (Holder::Other, Ambient::All) => all_five(result, result),
        (Holder::Other, Ambient::Asked) => all_five(result, added),
    };
    Ok(Granted { sets, added, note })
}

fn all_five(bounding: CapSet, rest: CapSet) -> CapabilitySets {
    CapabilitySets { bounding, permitted: rest, effective: rest, inheritable: rest, ambient: rest }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Powers = Powers { known: CapSet::up_to(40), held: CapSet::up_to(40) };
    const DOCUMENTED: &str = "audit_write,chown,dac_override,fowner,fsetid,kill,mknod,net_bind_service,setfcap,\
                              setgid,setpcap,setuid,sys_chroot";

    fn list(text: &str) -> Vec<String> {
        text.split(',').map(str::to_owned).collect()
    }

    fn ask(allow: &str, add: &str, drop: &str) -> Result<Granted, String> {
        ask_as(allow, add, drop, Ambient::All, Holder::Other, ALL)
    }

    fn ask_as(
        allow: &str,
        add: &str,
        drop: &str,
        ambient: Ambient,
        holder: Holder,
        powers: Powers,
    ) -> Result<Granted, String> {
        let (allow, add, drop) = (list(allow), list(add), list(drop));
        let asked = Asked { allow: &allow, add: &add, drop: &drop, ambient };
        grant(&asked, holder, powers).map_err(|error| error.to_string())
    }

    fn names(allow: &str, add: &str, drop: &str) -> Result<String, String> {
        ask(allow, add, drop).map(|granted| format!("{:#}", granted.sets.bounding))
    }

    /// Covers: X42
    #[test]
    fn x42_the_defaults_are_the_documented_ones() {
        assert_eq!(named("", &list(DOCUMENTED), ALL.known), Ok(DEFAULTS));
        let option = crate::options::OPERATOR.iter().find(|option| option.name == "allow_caps").unwrap();
        let crate::options::Preset::Texts(texts) = option.default else { panic!("{option:?}") };
        assert_eq!(texts.join(","), DOCUMENTED);
    }

    /// Covers: X43
    #[test]
    fn x43_the_calculation() {
        let defaults = format!("{DEFAULTS:#}");
        let ok = |text: &str| Ok(text.to_owned());
        assert_eq!(names(DOCUMENTED, "", ""), Ok(defaults.clone()));
        assert_eq!(names("all", "", ""), Ok(defaults.clone()));
        assert_eq!(names("cap_net_raw,chown,SYS_TIME", "", ""), ok("CAP_CHOWN"));
        assert_eq!(
            names("cap_net_raw,chown,SYS_TIME", "net_raw,sys_time", ""),
            ok("CAP_CHOWN, CAP_NET_RAW, CAP_SYS_TIME")
        );
        assert_eq!(names(DOCUMENTED, "chown, KILL ", ""), Ok(defaults));
        assert!(
            names("chown,kill", "all", "")
                .unwrap_err()
                .starts_with("driver does not allow the following capabilities: audit_control")
        );
        assert_eq!(names(DOCUMENTED, "", "all"), ok(""));
        assert_eq!(names(DOCUMENTED, "chown,mknod", "ALL"), ok("CAP_CHOWN, CAP_MKNOD"));
        assert_eq!(
            names(DOCUMENTED, "net_raw", ""),
            Err("driver does not allow the following capabilities: net_raw".into())
        );
        assert_eq!(names("chown,kill,mknod", "", "CAP_chown,Mknod, net_raw"), ok("CAP_KILL"));
        assert_eq!(names("all", "all", "").unwrap().split(", ").count(), 41);
        assert_eq!(names("", "", ""), ok(""));
    }

    /// Covers: E23
    #[test]
    fn e23_nine_cases() {
        let works = |allow, add, drop| ask(allow, add, drop).is_ok();
        let error = |allow, add, drop| ask(allow, add, drop).unwrap_err();
        assert!(works(DOCUMENTED, "fowner,mknod", "ALL"));
        assert!(error(DOCUMENTED, "net_admin", "").contains("net_admin"));
        assert!(works(DOCUMENTED, "", "FOWNER,MKNOD,NET_RAW"));
        assert!(works("FOWNER,MKNOD", "", "ALL"));
        assert!(works("fowner,mknod", "fowner,mknod", ""));
        assert!(error("fowner,mknod", "net_admin", "").contains("net_admin"));
        assert!(error("fowner,mknod", "net_admin,mknod,CAP_SYS_TIME", "").contains("net_admin, sys_time"));
        assert!(works("ALL", "net_admin,mknod", ""));
        assert!(works("ALL", "all", ""));
    }

    /// Covers: E18, E19
    #[test]
    fn e18_and_e19_names_that_the_system_does_not_have() {
        let error = |allow, add, drop| ask(allow, add, drop).unwrap_err();
        assert_eq!(
            error("not_valid,chown", "", ""),
            "allow_caps configured with capabilities not supported by system: not_valid"
        );
        assert_eq!(
            error("all", "zz,aa", ""),
            "cap_add configured with capabilities not supported by system: aa, zz"
        );
        assert_eq!(
            error("all", "", "not_valid"),
            "cap_drop configured with capabilities not supported by system: not_valid"
        );
        let old = Powers { known: CapSet::up_to(37), held: CapSet::up_to(37) };
        let error = ask_as("all", "bpf", "", Ambient::All, Holder::Other, old).unwrap_err();
        assert_eq!(error, "cap_add configured with capabilities not supported by system: bpf");
    }

    /// Covers: X9
    #[test]
    fn x9_the_three_tables() {
        let bits = |granted: &Granted| {
            let sets = granted.sets;
            [sets.bounding, sets.permitted, sets.effective, sets.inheritable, sets.ambient].map(CapSet::bits)
        };
        assert_eq!(bits(&ask(DOCUMENTED, "", "").unwrap()), [0xa804_05fb; 5]);
        assert_eq!(bits(&ask(DOCUMENTED, "net_bind_service", "all").unwrap()), [0x400; 5]);
        let root = ask_as(DOCUMENTED, "", "", Ambient::All, Holder::Root, ALL).unwrap();
        assert_eq!(bits(&root), [0x3f_ffff_ffff, 0x3f_ffff_ffff, 0x3f_ffff_ffff, 0, 0]);
        assert!(root.added.is_empty(), "what root has by default opens no further system call");
        let bound = ask_as(DOCUMENTED, "kill", "all", Ambient::All, Holder::Root, ALL).unwrap();
        assert_eq!(bits(&bound), [0x20, 0x20, 0x20, 0, 0], "settings count for root, too");
    }

    #[test]
    fn with_ambient_asked_only_what_was_added_is_in_force() {
        let ask = |add, drop| ask_as("all", add, drop, Ambient::Asked, Holder::Other, ALL).unwrap().sets;
        let plain = ask("", "");
        assert_eq!(
            (plain.bounding, plain.permitted, plain.effective),
            (DEFAULTS, CapSet::EMPTY, CapSet::EMPTY)
        );
        assert_eq!((plain.inheritable, plain.ambient), (CapSet::EMPTY, CapSet::EMPTY));
        let added = ask("net_raw", "");
        assert_eq!((added.ambient, added.effective), (CapSet::NET_RAW, CapSet::NET_RAW));
        assert!(added.bounding.contains(CapSet::CHOWN));
    }

    #[test]
    fn what_the_launcher_lacks_is_left_out_or_refused() {
        let poor = Powers {
            known: CapSet::up_to(40),
            held: CapSet::up_to(40).difference(CapSet::SYS_RESOURCE).difference(CapSet::MKNOD),
        };
        let ask = |add| ask_as("all", add, "", Ambient::All, Holder::Other, poor);
        let plain = ask("").unwrap();
        assert_eq!(
            plain.note.unwrap(),
            "left out capabilities that Bivouac itself does not have here: mknod"
        );
        assert!(!plain.sets.bounding.contains(CapSet::MKNOD));
        assert!(ask("all").unwrap().note.unwrap().ends_with("mknod, sys_resource"));
        let error = ask("sys_resource,kill").unwrap_err();
        assert!(
            error.starts_with(
                "cap_add names capabilities that Bivouac itself does not have here: sys_resource;"
            )
        );
    }

    #[test]
    fn this_process_holds_no_more_than_the_kernel_knows() {
        let powers = Powers::of_this_process();
        assert!(powers.known.contains(CapSet::BPF) || powers.known.contains(CapSet::AUDIT_READ));
        assert!(powers.known.contains(powers.held));
    }
}
