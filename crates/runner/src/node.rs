//! What is known of this machine: the names that a job file's `${node.*}`, `${attr.*}` and constraints ask for.

use bivouac_driver::host::processors;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

/// The machine as job files see it: `node.*` and `attr.*`, by their whole name. It is looked at when one of them is
/// asked for, which few job files do. What cannot be read is left out: a constraint on it says so.
#[derive(Debug, Default)]
pub struct Node(OnceLock<BTreeMap<String, String>>);

impl Node {
    /// This machine.
    pub fn of_this_machine() -> Node {
        Node::default()
    }

    /// A machine of these names alone.
    #[cfg(test)]
    pub(crate) fn of(attributes: BTreeMap<String, String>) -> Node {
        Node(attributes.into())
    }

    /// One of the names.
    pub fn get(&self, name: &str) -> Option<String> {
        self.0.get_or_init(Node::look).get(name).cloned()
    }

    fn look() -> BTreeMap<String, String> {
        let uname = rustix::system::uname();
        let hostname = uname.nodename().to_string_lossy().into_owned();
        let mut attributes = BTreeMap::new();
        let mut set = |name: &str, value: String| attributes.insert(name.to_owned(), value);
        set("node.unique.id", boot_independent_id().unwrap_or_else(|| hostname.clone()));
        set("node.unique.name", hostname.clone());
        set("node.datacenter", "dc1".to_owned());
        set("node.region", "global".to_owned());
        set("node.class", String::new());
        set("node.pool", "default".to_owned());
        set("attr.unique.hostname", hostname);
        set("attr.kernel.name", "linux".to_owned());
        set("attr.kernel.version", uname.release().to_string_lossy().into_owned());
        set("attr.kernel.arch", uname.machine().to_string_lossy().into_owned());
        set("attr.cpu.arch", nomad_arch(&uname.machine().to_string_lossy()).to_owned());
        set("attr.cpu.numcores", processors().to_string());
        set("attr.cpu.totalcompute", total_mhz().to_string());
        if let Some(bytes) = total_memory() {
            set("attr.memory.totalbytes", bytes.to_string());
        }
        if let Ok(release) = std::fs::read_to_string("/etc/os-release") {
            let field = |key: &str| os_release(&release, key);
            set("attr.os.name", field("ID").unwrap_or_default());
            set("attr.os.version", field("VERSION_ID").unwrap_or_default());
        }
        set("attr.driver.exec", "1".to_owned());
        set("attr.driver.bivouac", "1".to_owned());
        attributes
    }
}

/// What the processors of this machine can do together, in MHz.
pub fn total_mhz() -> u64 {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    processors() * mhz_of_one(Path::new("/sys/devices/system/cpu"), &info)
}

/// What so many of them can do, in MHz.
pub fn mhz_of(count: u32) -> u64 {
    u64::from(count) * (total_mhz() / processors().max(1))
}

/// A processor counts as so many MHz where the kernel does not tell its speed: as a guest, for one.
const UNKNOWN_MHZ: u64 = 1000;

/// The mean of the speeds that processors run at for long, or else may reach, or else have at the moment.
fn mhz_of_one(cpus: &Path, info: &str) -> u64 {
    let khz = |directory: &Path| {
        let read = |file: &str| {
            let text = std::fs::read_to_string(directory.join("cpufreq").join(file)).ok()?;
            text.trim().parse::<u64>().ok()
        };
        read("base_frequency").or_else(|| read("cpuinfo_max_freq"))
    };
    let directories = std::fs::read_dir(cpus).into_iter().flatten().flatten();
    let numbered = |name: &str| name.strip_prefix("cpu").is_some_and(|rest| rest.parse::<u32>().is_ok());
    let directories = directories.filter(|entry| entry.file_name().to_str().is_some_and(numbered));
    let kept: Vec<u64> = directories.filter_map(|entry| Some(khz(&entry.path())? / 1000)).collect();
    let now = info.lines().filter(|line| line.starts_with("cpu MHz"));
    let now = now.filter_map(|line| line.split(':').nth(1)?.trim().parse::<f64>().ok()).map(|mhz| mhz as u64);
    let speeds = if kept.is_empty() { now.collect() } else { kept };
    let sum: u64 = speeds.iter().sum();
    sum.checked_div(speeds.len() as u64).filter(|mean| *mean > 0).unwrap_or(UNKNOWN_MHZ)
}

fn boot_independent_id() -> Option<String> {
    let text = std::fs::read_to_string("/etc/machine-id").ok()?;
    let id = text.trim();
    (!id.is_empty()).then(|| id.to_owned())
}

fn nomad_arch(machine: &str) -> &str {
    match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn total_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

fn os_release(text: &str, key: &str) -> Option<String> {
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
    Some(value.trim_matches(['"', '\'']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_os_release() {
        let text = "NAME=\"Debian\"\nVERSION_ID=\"12\"\nID=debian\n";
        assert_eq!(os_release(text, "ID").as_deref(), Some("debian"));
        assert_eq!(os_release(text, "VERSION_ID").as_deref(), Some("12"));
        assert_eq!(os_release(text, "NONE"), None);
    }

    #[test]
    fn the_speed_of_a_processor_is_what_the_kernel_tells() {
        let dir = tempfile::tempdir().unwrap();
        let info = "processor: 0\ncpu MHz\t\t: 2300.500\nprocessor: 1\ncpu MHz\t\t: 2100.000\n";
        assert_eq!(mhz_of_one(dir.path(), ""), UNKNOWN_MHZ);
        assert_eq!(mhz_of_one(dir.path(), "cpu MHz : none\ncpu MHz\n"), UNKNOWN_MHZ);
        assert_eq!(mhz_of_one(dir.path(), info), 2200);
        for (cpu, file, khz) in
            [("cpu0", "cpuinfo_max_freq", "3000000\n"), ("cpu1", "base_frequency", "2000000\n")]
        {
            let frequencies = dir.path().join(cpu).join("cpufreq");
            std::fs::create_dir_all(&frequencies).unwrap();
            std::fs::write(frequencies.join(file), khz).unwrap();
        }
        // A slow and a fast one; what they do at the moment does not count.
        assert_eq!(mhz_of_one(dir.path(), info), 2500);
        std::fs::write(dir.path().join("cpu0/cpufreq/base_frequency"), "1000000\n").unwrap();
        assert_eq!(mhz_of_one(dir.path(), info), 1500);
    }

    #[test]
    fn this_machine_runs_the_driver() {
        let node = Node::of_this_machine();
        assert_eq!(node.get("attr.driver.exec").as_deref(), Some("1"));
        assert_eq!(node.get("attr.kernel.name").as_deref(), Some("linux"));
    }
}
