//! What the tests need from the system: named first, installed if allowed, and said in one line where it cannot be had.

use crate::shell::{self, complain, say};
use anyhow::Result;
use std::path::Path;
use std::process::Command;

/// How to see that something is there.
#[derive(Clone, Copy)]
enum Sign {
    /// A program in the path.
    Program(&'static str),
    /// A file.
    File(&'static str),
    /// A kernel for the virtual machine.
    Kernel,
}

/// One thing the tests need.
struct Need {
    why: &'static str,
    sign: Sign,
    /// Only the virtual machine needs it.
    vm: bool,
    /// Package names of apt, dnf and pacman; empty where there is none.
    packages: [&'static str; 3],
}

const fn need(why: &'static str, sign: Sign, vm: bool, packages: [&'static str; 3]) -> Need {
    Need { why, sign, vm, packages }
}

use Sign::{File, Kernel, Program};
#[rustfmt::skip]
const NEEDS: &[Need] = &[
    //   what for                                 how it is seen                       vm     apt                  dnf                pacman
    need("compiling the floor programs",          Program("gcc"),                      false, ["gcc",              "gcc",             "gcc"]),
    need("libc's headers for gcc",                File("/usr/include/stdio.h"),        false, ["libc6-dev",        "glibc-devel",     "glibc"]),
    need("compiling libFuzzer",                   Program("c++"),                      false, ["g++",              "gcc-c++",         "gcc"]),
    need("compiling the floor programs",          Program("make"),                     false, ["make",             "make",            "make"]),
    need("seccomp in the floor programs",         File("/usr/include/seccomp.h"),      false, ["libseccomp-dev",   "libseccomp-devel","libseccomp"]),
    need("a static program to run in tasks",      Program("busybox"),                  false, ["busybox-static",   "busybox",         "busybox"]),
    need("network interfaces in tests",           Program("ip"),                       false, ["iproute2",         "iproute",         "iproute2"]),
    need("bridge networks",                        File("/usr/lib/cni/bridge"),         false, ["containernetworking-plugins","containernetworking-plugins","cni-plugins"]),
    need("bridge networks",                        Program("iptables"),                 false, ["iptables",         "iptables-nft",    "iptables-nft"]),
    need("namespaces of an agent under test",      Program("nsenter"),                  false, ["util-linux",       "util-linux",      "util-linux"]),
    need("asking a Nomad client from a task",      Program("curl"),                     false, ["curl",             "curl",            "curl"]),
    need("sessions in a terminal",                 Program("script"),                   false, ["bsdutils",         "util-linux-script","util-linux"]),
    need("completion of names",                    Program("zsh"),                      false, ["zsh",              "zsh",             "zsh"]),
    need("completion of names",                    Program("fish"),                     false, ["fish",             "fish",            "fish"]),
    need("a web server to fetch from",            Program("nginx"),                    false, ["nginx-light",      "nginx",           "nginx"]),
    need("certificates of that server",           Program("openssl"),                  false, ["openssl",          "openssl",         "openssl"]),
    need("repositories to fetch",                 Program("git"),                      false, ["git",              "git",             "git"]),
    need("archives to compare with",              Program("xz"),                       false, ["xz-utils",         "xz",              "xz"]),
    need("archives to compare with",              Program("zstd"),                     false, ["zstd",             "zstd",            "zstd"]),
    need("archives to compare with",              Program("bzip2"),                    false, ["bzip2",            "bzip2",           "bzip2"]),
    need("archives to compare with",              Program("zip"),                      false, ["zip",              "zip",             "zip"]),
    need("archives to compare with",              Program("unzip"),                    false, ["unzip",            "unzip",           "unzip"]),
    need("a file system for the benchmark",        Program("mkfs.ext4"),                false, ["e2fsprogs",        "e2fsprogs",       "e2fsprogs"]),
    need("real programs in tasks",                File("/usr/bin/python3"),            false, ["python3",          "python3",         "python"]),
    need("real programs in tasks",                Program("perl"),                     false, ["perl",             "perl",            "perl"]),
    need("real programs in tasks",                File("/usr/bin/node"),               false, ["nodejs",           "nodejs",          "nodejs"]),
    need("real programs in tasks",                File("/usr/bin/javac"),              false, ["default-jdk-headless","java-devel",   "jdk-openjdk"]),
    need("real programs in tasks",                Program("go"),                       false, ["golang-go",        "golang",          "go"]),
    need("real programs in tasks",                Program("ssh-keygen"),               false, ["openssh-client",   "openssh",         "openssh"]),
    need("real programs in tasks",                File("/usr/lib/postgresql"),         false, ["postgresql",       "postgresql-server","postgresql"]),
    need("real programs in tasks",                Program("redis-server"),             false, ["redis-server",     "redis",           "redis"]),
    need("real programs in tasks",                Program("memcached"),                false, ["memcached",        "memcached",       "memcached"]),
    need("real programs in tasks",                Program("sqlite3"),                  false, ["sqlite3",          "sqlite",          "sqlite"]),
    need("real programs in tasks",                File("/usr/bin/convert"),            false, ["imagemagick",      "ImageMagick",     "imagemagick"]),
    need("real programs in tasks",                Program("stress-ng"),                false, ["stress-ng",        "stress-ng",       "stress-ng"]),
    need("real programs in tasks",                Program("ping"),                     false, ["iputils-ping",     "iputils",         "iputils"]),
    need("small disks, limits and hung volumes",  Program("prlimit"),                  false, ["util-linux",       "util-linux",      "util-linux"]),
    need("tests for the other machine",           Program("qemu-aarch64"),             false, ["qemu-user",        "qemu-user",       "qemu-user"]),
    need("comparison",                            Program("bwrap"),                    false, ["bubblewrap",       "bubblewrap",      "bubblewrap"]),
    need("comparison",                            Program("runc"),                     false, ["runc",             "runc",            "runc"]),
    need("comparison in the virtual machine",     Program("crun"),                     false, ["crun",             "crun",            "crun"]),
    need("the virtual machine",                   Program("qemu-system-x86_64"),       true,  ["qemu-system-x86",  "qemu-system-x86", "qemu-system-x86"]),
    need("loading modules in the virtual machine",Program("modprobe"),                 true,  ["kmod",             "kmod",            "kmod"]),
    need("the virtual machine's kernel",          Kernel,                              true,  ["linux-image-amd64","",                ""]),
    need("installing virtme-ng",                  Program("pip3"),                     true,  ["python3-pip",      "python3-pip",     "python-pip"]),
];

/// The package managers we can speak to.
#[derive(Clone, Copy, PartialEq)]
enum Manager {
    Apt,
    Dnf,
    Pacman,
}

impl Manager {
    fn of_this_machine() -> Option<Self> {
        [("apt-get", Self::Apt), ("dnf", Self::Dnf), ("pacman", Self::Pacman)]
            .into_iter()
            .find(|(program, _)| shell::find(program).is_some())
            .map(|(_, manager)| manager)
    }

    fn package(self, need: &Need) -> Option<&'static str> {
        let [apt, dnf, pacman] = need.packages;
        let name = match self {
            Self::Apt => apt,
            Self::Dnf => dnf,
            Self::Pacman => pacman,
        };
        (!name.is_empty()).then_some(name)
    }

    fn install(self, packages: &[&str]) -> Result<()> {
        let mut command = match self {
            Self::Apt => {
                // Stale lists are the common cause of a failed installation on a fresh machine.
                shell::run(Command::new("apt-get").args(["update", "-qq"]))?;
                let mut command = Command::new("apt-get");
                command
                    .args(["install", "-y", "-qq", "--no-install-recommends"])
                    .env("DEBIAN_FRONTEND", "noninteractive");
                command
            }
            Self::Dnf => {
                let mut command = Command::new("dnf");
                command.args(["install", "-y", "-q"]);
                command
            }
            Self::Pacman => {
                let mut command = Command::new("pacman");
                command.args(["-S", "--noconfirm", "--needed"]);
                command
            }
        };
        shell::run(command.args(packages))
    }
}

/// The newest kernel image that is not built for a cloud without 9p.
pub(crate) fn kernel() -> Option<std::path::PathBuf> {
    let mut images: Vec<_> = std::fs::read_dir("/boot")
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.strip_prefix("vmlinuz-").is_some_and(|version| {
                // Without its modules a distribution's kernel cannot mount a 9p root.
                !version.contains("cloud") && Path::new("/lib/modules").join(version).is_dir()
            })
        })
        .collect();
    images.sort();
    images.pop()
}

fn is_there(need: &Need) -> bool {
    match need.sign {
        Program(name) => shell::find(name).is_some(),
        File(path) => Path::new(path).exists(),
        Kernel => kernel().is_some(),
    }
}

/// What the tests will run on.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Lanes {
    /// This machine.
    Host,
    /// The virtual machine too.
    Both,
}

/// Installs what is missing, where that is wanted; returns what is still missing, one line each.
pub(crate) fn settle(install: bool, lanes: Lanes) -> Vec<String> {
    let vm = lanes == Lanes::Both;
    let wanted = || NEEDS.iter().filter(|need| vm || !need.vm).filter(|need| !is_there(need));
    let manager = Manager::of_this_machine();
    if install && let Some(manager) = manager {
        let packages: Vec<&str> = wanted().filter_map(|need| manager.package(need)).collect();
        if !packages.is_empty() {
            say(format!("installing: {}", packages.join(" ")));
            if let Err(error) = manager.install(&packages) {
                complain(format!("{error:#}"));
            }
        }
    }
    if vm && install && shell::find("vng").is_none() {
        virtme();
    }
    let mut lacking: Vec<String> = wanted()
        .map(|need| {
            let package =
                manager.and_then(|manager| manager.package(need)).unwrap_or("no package known here");
            format!("{} ({package}), for {}", shown(need.sign), need.why)
        })
        .collect();
    if vm && shell::find("vng").is_none() {
        lacking.push("vng (virtme-ng from PyPI), for the virtual machine".to_owned());
    }
    lacking
}

fn shown(sign: Sign) -> &'static str {
    match sign {
        Program(name) => name,
        File(path) => path,
        Kernel => "/boot/vmlinuz-*",
    }
}

/// Installs virtme-ng. Distributions that keep pip out of their own folders want to be told that we mean it.
fn virtme() {
    const PACKAGE: &str = "virtme-ng";
    say(format!("installing: {PACKAGE} (PyPI)"));
    let pip = |more: &[&str]| {
        let mut command = Command::new("pip3");
        command.args(["install", "--quiet", "--disable-pip-version-check"]).args(more).arg(PACKAGE);
        command
    };
    if !shell::succeeds(&mut pip(&[]))
        && let Err(error) = shell::run(&mut pip(&["--break-system-packages"]))
    {
        complain(format!("{error:#}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_need_has_a_debian_package() {
        for need in NEEDS {
            assert!(Manager::Apt.package(need).is_some(), "{}", need.why);
            assert!(!need.packages.iter().any(|name| name.contains(' ')), "{}", need.why);
        }
    }
}
