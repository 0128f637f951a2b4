//! Confines a helper process: a uid of its own, no way to new privileges, Landlock, a system call filter, limits.

use crate::order::{Confinement, Limits};
use bivouac_sys::Errno;
use bivouac_sys::seccomp::SockFilter;
use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope,
};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::process::{Resource, Rlimit};
use std::path::{Path, PathBuf};

/// Helpers' uids: this plus the process's number, so that no two living processes share one. Far above what
/// account databases and container managers give out.
const FIRST_UID: u32 = 0x7e00_0000;
/// ssh refuses to work for a uid that no database knows.
const NOBODY: u32 = 65534;

/// What a helper must be able to do.
#[derive(Clone, Debug)]
pub struct Needs {
    /// Whether its working directory becomes its own.
    pub directory: Directory,
    /// Whether it opens sockets.
    pub network: Network,
    /// Whether it starts programs.
    pub programs: Programs,
    /// A file or directory it reads.
    pub source: Option<PathBuf>,
}

/// Whether a helper has a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Directory {
    /// Its working directory, which is given to it.
    Private,
    /// None: it opens no file at all.
    None,
}

/// Whether a helper opens sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// It does.
    Used,
    /// It cannot.
    Closed,
}

/// Whether a helper starts programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Programs {
    /// None.
    None,
    /// Git.
    Git,
    /// Git, and ssh, which wants a user that the database knows.
    GitOverSsh,
}

/// What could not be had. A protection that is asked for and missing stops the helper; only Landlock may be missing.
#[derive(Debug, thiserror::Error)]
pub enum NotConfined {
    /// The kernel's answer.
    #[error("cannot {what}: {errno}")]
    Kernel {
        /// What was tried.
        what: &'static str,
        /// The answer.
        errno: Errno,
    },
    /// Landlock's answer.
    #[error("cannot set up Landlock: {0}")]
    Landlock(String),
}

/// Confines this process for good. It must have one thread.
///
/// # Errors
/// [`NotConfined`]: what was to be done must not be done then.
pub fn confine(needs: &Needs, limits: &Limits) -> Result<Confinement, NotConfined> {
    let failed = |what| move |errno| NotConfined::Kernel { what, errno };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = match needs.directory {
        Directory::Private => {
            Some(rustix::fs::open(".", flags, Mode::empty()).map_err(failed("open the private directory"))?)
        }
        Directory::None => None,
    };
    resources(needs, limits).map_err(failed("set resource limits"))?;
    let uid = credentials(needs, directory.as_ref())?;
    bivouac_sys::credentials::no_new_privileges().map_err(failed("give up new privileges"))?;
    let landlock = landlock(needs, directory.as_ref())?;
    bivouac_sys::seccomp::load_filter(&filter(needs)).map_err(failed("load the system call filter"))?;
    Ok(Confinement { uid, landlock })
}

fn resources(needs: &Needs, limits: &Limits) -> Result<(), Errno> {
    const GIB: u64 = 1 << 30;
    let memory = if needs.programs == Programs::None { 2 * GIB } else { 16 * GIB };
    let largest = limits.download_bytes.max(limits.unpacked_bytes);
    for (resource, value) in [
        (Resource::Core, 0),
        (Resource::Nofile, 512),
        (Resource::Fsize, largest),
        (Resource::As, memory),
        (Resource::Cpu, limits.seconds.max(1)),
        (Resource::Memlock, 0),
    ] {
        let hard = rustix::process::getrlimit(resource).maximum;
        let value = Some(hard.map_or(value, |hard| value.min(hard)));
        rustix::process::setrlimit(resource, Rlimit { current: value, maximum: value })?;
    }
    Ok(())
}

/// Gives the private directory to a uid of this process alone, and becomes it. Whoever is not root has nothing to
/// give up.
fn credentials(needs: &Needs, directory: Option<&OwnedFd>) -> Result<u32, NotConfined> {
    let failed = |what| move |errno| NotConfined::Kernel { what, errno };
    if !rustix::process::geteuid().is_root() {
        return Ok(rustix::process::geteuid().as_raw());
    }
    let own = FIRST_UID + std::process::id();
    let id = if needs.programs == Programs::GitOverSsh { NOBODY } else { own };
    let (uid, gid) = crate::place::Owner { uid: id, gid: id }.ids();
    if let Some(directory) = directory {
        rustix::fs::fchown(directory, Some(uid), Some(gid)).map_err(failed("own the private directory"))?;
    }
    bivouac_sys::credentials::setgroups(&[]).map_err(failed("drop groups"))?;
    bivouac_sys::credentials::setresgid(id).map_err(failed("change the group"))?;
    bivouac_sys::credentials::setresuid(id).map_err(failed("change the user"))?;
    let none = bivouac_sys::credentials::CapabilityMasks::default();
    bivouac_sys::credentials::capset(none).map_err(failed("drop capabilities"))?;
    // The death of the starter is the end; asked for after the change of credentials, which forgets it. Who starts
    // programs must live a moment longer, to take them along ([`crate::git`]).
    if needs.programs == Programs::None {
        bivouac_sys::credentials::set_parent_death_signal(libc::SIGKILL)
            .map_err(failed("ask for the starter's death"))?;
    }
    Ok(id)
}

/// What every helper that speaks to servers reads: names, certificates, libraries that the C library loads.
const READABLE: [&str; 12] = [
    "/etc",
    "/usr",
    "/lib",
    "/lib32",
    "/lib64",
    "/bin",
    "/sbin",
    "/run/systemd/resolve",
    "/run/resolvconf",
    "/dev/null",
    "/dev/urandom",
    "/proc/sys",
];
/// The variables with which people name certificate authorities of their own.
pub(crate) const CERTIFICATE_VARIABLES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

fn landlock(needs: &Needs, directory: Option<&OwnedFd>) -> Result<bool, NotConfined> {
    const VERSION: ABI = ABI::V6;
    let failed = |error: &dyn std::fmt::Display| NotConfined::Landlock(error.to_string());
    let read: BitFlags<AccessFs> = match needs.programs {
        Programs::None => AccessFs::ReadFile | AccessFs::ReadDir,
        Programs::Git | Programs::GitOverSsh => AccessFs::from_read(VERSION),
    };
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(VERSION))
        .and_then(|ruleset| ruleset.scope(Scope::from_all(VERSION)))
        .and_then(|ruleset| ruleset.create())
        .and_then(|created| match directory {
            Some(directory) => created.add_rule(PathBeneath::new(directory, AccessFs::from_all(VERSION))),
            None => Ok(created),
        })
        .map_err(|error| failed(&error))?;
    let mut paths: Vec<PathBuf> = Vec::new();
    if needs.network == Network::Used {
        paths.extend(READABLE.map(PathBuf::from));
        paths.extend(
            CERTIFICATE_VARIABLES.iter().filter_map(|name| Some(PathBuf::from(std::env::var_os(name)?))),
        );
    }
    paths.extend(needs.source.clone());
    let mut ruleset = ruleset;
    for path in paths {
        // What is not there needs no rule.
        let Ok(fd) = PathFd::new(&path) else { continue };
        let mut access = read;
        if Path::new("/dev/null") == path {
            access |= AccessFs::WriteFile;
        }
        ruleset = ruleset.add_rule(PathBeneath::new(fd, access)).map_err(|error| failed(&error))?;
    }
    let status = ruleset.restrict_self().map_err(|error| failed(&error))?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}

#[cfg(target_arch = "x86_64")]
const AUDIT_ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const AUDIT_ARCH: u32 = 0xc000_00b7;

const LOAD: u16 = 0x20;
const EQUAL: u16 = 0x15;
const AT_LEAST: u16 = 0x35;
const ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;
const ALLOW: u32 = 0x7fff_0000;
const KILL: u32 = 0x8000_0000;
const ERRNO: u32 = 0x0005_0000;

/// What no helper ever needs: other processes, the machine's state, and where kernels have had holes.
const CLOSED: [libc::c_long; 50] = [
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_fsconfig,
    libc::SYS_fspick,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_mount_setattr,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_syslog,
    libc::SYS_acct,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_quotactl,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_personality,
    libc::SYS_mknodat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_vmsplice,
];
const STARTING: [libc::c_long; 2] = [libc::SYS_execve, libc::SYS_execveat];
/// Unix, inet, inet6 and netlink, with which the C library asks for addresses.
const FAMILIES: [u32; 4] = [1, 2, 10, 16];
/// `CLONE_NEW*` and `CLONE_THREAD` of clone(2).
const NEW_NAMESPACES: u32 = 0x7e02_0000;
const THREAD: u32 = 0x0001_0000;

/// The filter: everything but what is closed. Foreign entries into the kernel end the process.
fn filter(needs: &Needs) -> Vec<SockFilter> {
    let op = |code, k, jt, jf| SockFilter { code, jt, jf, k };
    let denied = |errno: i32| op(RETURN, ERRNO | errno as u32, 0, 0);
    let mut program = vec![
        op(LOAD, 4, 0, 0),
        op(EQUAL, AUDIT_ARCH, 1, 0),
        op(RETURN, KILL, 0, 0),
        op(LOAD, 0, 0, 0),
        // x32 numbers.
        op(AT_LEAST, 0x4000_0000, 0, 1),
        op(RETURN, KILL, 0, 0),
    ];
    let mut deny = |number: libc::c_long, errno: i32| {
        program.extend([op(EQUAL, number as u32, 0, 1), denied(errno)]);
    };
    for number in CLOSED {
        deny(number, libc::EPERM);
    }
    // Its flags lie behind a pointer; the C library falls back to clone.
    deny(libc::SYS_clone3, libc::ENOSYS);
    if needs.programs == Programs::None {
        for number in STARTING {
            deny(number, libc::EPERM);
        }
        #[cfg(target_arch = "x86_64")]
        for number in [libc::SYS_fork, libc::SYS_vfork] {
            deny(number, libc::EPERM);
        }
    }
    if needs.network == Network::Closed {
        deny(libc::SYS_socket, libc::EPERM);
        deny(libc::SYS_connect, libc::EPERM);
    }
    // Who starts no programs has threads, but no processes that could outlive it.
    let wanted = if needs.programs == Programs::None { THREAD } else { u32::MAX };
    program.extend([
        op(EQUAL, libc::SYS_clone as u32, 0, 5),
        op(LOAD, 16, 0, 0),
        op(ANY_BIT, NEW_NAMESPACES, 1, 0),
        op(ANY_BIT, wanted, 1, 0),
        denied(libc::EPERM),
        op(LOAD, 0, 0, 0),
        op(EQUAL, libc::SYS_socket as u32, 0, 2 + FAMILIES.len() as u8),
        op(LOAD, 16, 0, 0),
    ]);
    for (at, family) in FAMILIES.iter().enumerate() {
        program.push(op(EQUAL, *family, (FAMILIES.len() - at) as u8, 0));
    }
    program.extend([denied(libc::EAFNOSUPPORT), op(RETURN, ALLOW, 0, 0)]);
    program
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    const MARK: &str = "BIVOUAC_TEST_CONFINED";

    /// What a helper that an attacker has taken over would try; each with whether it worked.
    fn attempts(directory: &Path) -> Vec<(&'static str, bool)> {
        let outside = directory.parent().unwrap().join("outside");
        let write = |path: &Path| std::fs::write(path, b"x").is_ok();
        vec![
            ("read /etc/shadow", std::fs::read("/etc/shadow").is_ok()),
            ("read what everybody may read", std::fs::read("/etc/passwd").is_ok()),
            ("list /", std::fs::read_dir("/").is_ok()),
            ("write outside", write(&outside)),
            ("open a socket", std::net::TcpListener::bind("127.0.0.1:0").is_ok()),
            ("start a program", Command::new("/bin/true").status().is_ok()),
            ("signal its starter", {
                let starter = rustix::process::getppid().unwrap();
                rustix::process::test_kill_process(starter).is_ok()
            }),
            ("become root", bivouac_sys::credentials::setresuid(0).is_ok()),
            ("make a device", {
                let mode = Mode::from_raw_mode(0o666);
                let kind = rustix::fs::FileType::CharacterDevice;
                rustix::fs::mknodat(rustix::fs::CWD, "null", kind, mode, rustix::fs::makedev(1, 3)).is_ok()
            }),
        ]
    }

    /// Runs in a process of its own, started by the test below.
    #[test]
    fn inside() {
        let Some(directory) = std::env::var_os(MARK).map(PathBuf::from) else { return };
        std::env::set_current_dir(&directory).unwrap();
        for (what, worked) in attempts(&directory) {
            assert!(worked, "unconfined, it cannot {what}: the attack proves nothing");
        }
        let _ = std::fs::remove_file("null");
        let needs = Needs {
            directory: Directory::Private,
            network: Network::Closed,
            programs: Programs::None,
            source: None,
        };
        let confinement = confine(&needs, &Limits::default()).unwrap();
        for (what, worked) in attempts(&directory) {
            let by_landlock = matches!(what, "read what everybody may read" | "list /");
            assert!(!worked || by_landlock && !confinement.landlock, "confined, it can {what}");
        }
        assert!(std::fs::write("own", b"x").is_ok(), "it cannot write its own directory");
    }

    /// Covers: W54
    #[test]
    fn a_confined_helper_reaches_nothing_but_its_directory() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let directory = tempfile::Builder::new().prefix("bivouac-test-").tempdir().unwrap();
        let private = directory.path().join("private");
        std::fs::create_dir(&private).unwrap();
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "confine::tests::inside", "--nocapture"])
            .env(MARK, &private)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && text.contains("1 passed"),
            "{text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
