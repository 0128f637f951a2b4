//! `cargo xtask deb`: a Debian package with the two programs, their manual, completions and the examples.
//!
//! It is a tree and one call of dpkg-deb; cargo-deb would have to be built from source for that on every fresh machine.

use crate::build;
use crate::shell::{self, say};
use crate::workspace::Workspace;
use anyhow::{Context, Result, ensure};
use rustix::io::Errno;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Programs of the package; the shim is looked for beside the command.
const PROGRAMS: [&str; 2] = ["bivouac", "bivouac-shim"];
/// What else it must hold, for whoever installs it.
const FILES: [&str; 4] = [
    "usr/share/man/man1/bivouac.1.gz",
    "usr/share/bash-completion/completions/bivouac",
    "usr/share/doc/bivouac/copyright",
    "usr/share/doc/bivouac/examples/nomad/agent.hcl",
];

/// How hard dpkg-deb tries.
#[derive(Clone, Copy)]
enum Packing {
    /// For users.
    Small,
    /// For a test.
    Quick,
}

/// The package of a release, into `target/dist`, tried out in a scratch root.
pub(crate) fn run() -> Result<()> {
    build::release()?;
    let workspace = Workspace::load()?;
    let dist = workspace.target.join("dist");
    let package = pack(&workspace, &dist, Packing::Small)?;
    install(&package, &workspace.target.join("deb-root"))?;
    say(format!("{}  {} KiB", package.display(), fs::metadata(&package)?.len() / 1024));
    Ok(())
}

/// The package of the programs that the tests built, installed into a scratch root and taken away again.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let package = pack(workspace, &workspace.target.join("debug"), Packing::Quick)?;
    install(&package, &workspace.target.join("deb-root"))?;
    fs::remove_file(&package).with_context(|| format!("cannot remove {}", package.display()))
}

fn pack(workspace: &Workspace, programs: &Path, packing: Packing) -> Result<PathBuf> {
    let tree = workspace.target.join("deb");
    clear(&tree)?;
    for program in PROGRAMS {
        let built = programs.join(program);
        let powers = powers(&built)?;
        ensure!(powers.is_empty(), "{}", powers.join(", "));
        place(&built, &tree.join("usr/bin").join(program), 0o755)?;
    }
    let command = tree.join("usr/bin/bivouac");
    let manual = shell::capture(Command::new(&command).arg("man"))?;
    put(&tree.join("usr/share/man/man1/bivouac.1"), &manual)?;
    shell::run(Command::new("gzip").args(["-9n"]).arg(tree.join("usr/share/man/man1/bivouac.1")))?;
    let completions = shell::capture(Command::new(&command).args(["completion", "bash"]))?;
    put(&tree.join("usr/share/bash-completion/completions/bivouac"), &completions)?;
    let doc = tree.join("usr/share/doc/bivouac");
    for licence in ["LICENSE-MIT", "LICENSE-APACHE"] {
        place(&workspace.root.join(licence), &doc.join(licence), 0o644)?;
    }
    put(
        &doc.join("copyright"),
        "Licence: MIT OR Apache-2.0, see LICENSE-MIT and LICENSE-APACHE in this folder.\n",
    )?;
    for page in ["README.md", "CHANGELOG.md", "docs/nomad.md", "docs/differences.md"] {
        let name = Path::new(page).file_name().context("a page without a name")?;
        place(&workspace.root.join(page), &doc.join(name), 0o644)?;
    }
    examples(&workspace.root.join("examples"), &doc.join("examples"))?;
    let version =
        &workspace.members().find(|package| package.name == "bivouac").context("no package bivouac")?.version;
    put(&tree.join("DEBIAN/control"), &control(version))?;
    let package = workspace.target.join("dist").join(format!("bivouac_{version}_amd64.deb"));
    fs::create_dir_all(package.parent().context("a package without a folder")?)?;
    let way = match packing {
        Packing::Small => "-Zxz",
        Packing::Quick => "-Znone",
    };
    shell::capture(
        Command::new("dpkg-deb").args(["--root-owner-group", way, "--build"]).arg(&tree).arg(&package),
    )?;
    Ok(package)
}

fn control(version: &str) -> String {
    format!(
        "Package: bivouac\nVersion: {version}\nArchitecture: amd64\nSection: admin\nPriority: optional\n\
         Maintainer: The Bivouac developers <bivouac@example.invalid>\n\
         Description: isolated task runner and Nomad task driver\n \
         Runs any command isolated from its host, from a Nomad job file or from the command\n \
         line, and serves as an external task driver plugin of a Nomad client: copy or link\n \
         /usr/bin/bivouac into its plugin directory.\n"
    )
}

/// Installs a package into an empty root with its own database of packages, and tries it.
fn install(package: &Path, root: &Path) -> Result<()> {
    clear(root)?;
    for folder in ["var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/dpkg/triggers"] {
        fs::create_dir_all(root.join(folder)).context("cannot make the database of packages")?;
    }
    fs::write(root.join("var/lib/dpkg/status"), "").context("cannot make the database of packages")?;
    shell::capture(Command::new("dpkg").arg("--root").arg(root).arg("--install").arg(package))?;
    for file in FILES {
        ensure!(root.join(file).is_file(), "the package holds no {file}");
    }
    let told = shell::capture(Command::new(root.join("usr/bin/bivouac")).arg("--version"))?;
    ensure!(told.starts_with("bivouac "), "the installed command says {told:?}");
    powerless(root)?;
    clear(root)
}

/// Nothing of an installed package gives whoever runs it more than they have, and nothing of it runs at its
/// installation, which could make it so later.
fn powerless(root: &Path) -> Result<()> {
    let powerful = powerful(root)?;
    ensure!(powerful.is_empty(), "the package gives away powers: {}", powerful.join(", "));
    let scripts = root.join("var/lib/dpkg/info");
    for entry in fs::read_dir(&scripts).with_context(|| format!("cannot read {}", scripts.display()))? {
        let name = entry?.file_name();
        let plain = Path::new(&name).extension().is_none_or(|kind| kind == "list" || kind == "md5sums");
        ensure!(plain, "the package runs something at its installation: {}", name.display());
    }
    Ok(())
}

/// What below a folder is set-user-id, set-group-id, or has capabilities of its own.
fn powerful(folder: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        found.extend(powers(&path)?);
        if fs::symlink_metadata(&path)?.is_dir() {
            found.extend(powerful(&path)?);
        }
    }
    Ok(found)
}

/// What one file or folder gives to whoever runs it or writes in it.
fn powers(path: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let status = fs::symlink_metadata(path).with_context(|| format!("cannot look at {}", path.display()))?;
    if status.mode() & 0o6000 != 0 {
        found.push(format!("{} has mode {:o}", path.display(), status.mode() & 0o7777));
    }
    match rustix::fs::lgetxattr(path, "security.capability", &mut [0; 64]) {
        Ok(_) => found.push(format!("{} has capabilities", path.display())),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
        Err(errno) => return Err(errno).with_context(|| format!("cannot ask about {}", path.display())),
    }
    Ok(found)
}

fn clear(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    Ok(())
}

fn folder_of(file: &Path) -> Result<()> {
    let folder = file.parent().context("a file without a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
}

fn place(from: &Path, to: &Path, mode: u32) -> Result<()> {
    folder_of(to)?;
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(mode)).context("cannot set a mode")
}

fn put(to: &Path, text: &str) -> Result<()> {
    folder_of(to)?;
    shell::write(to, text)?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o644)).context("cannot set a mode")
}

/// Every example, with its folders.
fn examples(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let place_of = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            examples(&entry.path(), &place_of)?;
        } else {
            place(&entry.path(), &place_of, 0o644)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Covers: CVE-2020-5291
    #[test]
    fn a_file_that_gives_away_powers_is_found_in_a_package() {
        let folder = std::env::temp_dir().join(format!("bivouac-test-powers-{}", std::process::id()));
        let bin = folder.join("usr/bin");
        fs::create_dir_all(&bin).unwrap();
        fs::create_dir_all(folder.join("var/lib/dpkg/info")).unwrap();
        let file = |name: &str, mode: u32| {
            fs::write(folder.join(name), "").unwrap();
            fs::set_permissions(folder.join(name), fs::Permissions::from_mode(mode)).unwrap();
        };
        file("usr/bin/plain", 0o755);
        file("var/lib/dpkg/info/x.list", 0o644);
        powerless(&folder).unwrap();
        for (mode, shown) in [(0o4755, "4755"), (0o2755, "2755"), (0o6711, "6711")] {
            file("usr/bin/strong", mode);
            let told = powerless(&folder).unwrap_err().to_string();
            assert!(told.contains("usr/bin/strong") && told.contains(shown), "{told}");
        }
        file("usr/bin/strong", 0o755);
        fs::set_permissions(&bin, fs::Permissions::from_mode(0o2755)).unwrap();
        assert!(powerless(&folder).unwrap_err().to_string().contains("usr/bin has mode 2755"));
        fs::set_permissions(&bin, fs::Permissions::from_mode(0o755)).unwrap();
        // Everything, permitted and effective, as the kernel keeps it; only root can write it.
        let all: [u8; 20] = [1, 0, 0, 2, 255, 255, 255, 255, 0, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 0];
        let flags = rustix::fs::XattrFlags::empty();
        match rustix::fs::setxattr(bin.join("strong"), "security.capability", &all, flags) {
            Ok(()) => {
                let told = powerless(&folder).unwrap_err().to_string();
                assert!(told.contains("usr/bin/strong has capabilities"), "{told}");
                fs::remove_file(bin.join("strong")).unwrap();
            }
            Err(errno) => {
                say(format!("SKIPPED: a_file_that_gives_away_powers_is_found_in_a_package: {errno}"))
            }
        }
        file("usr/bin/strong", 0o755);
        file("var/lib/dpkg/info/x.postinst", 0o755);
        assert!(powerless(&folder).unwrap_err().to_string().contains("x.postinst"));
        clear(&folder).unwrap();
    }
}
