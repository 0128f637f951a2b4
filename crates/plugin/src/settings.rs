//! The operator's options that only matter under Nomad, with their meaning.

use crate::convert::{RequestError, absolute};
use crate::face::{DynamicUsers, LogLimits, LogSeries, Output};
use crate::options::Values;
use crate::wire::driver as pb;
use std::num::NonZeroU32;

/// Most log files that may be kept per stream.
const MAX_FILES: i64 = 100_000;
/// Nomad's own default, of both limits.
const TEN: NonZeroU32 = NonZeroU32::new(10).unwrap();
/// Largest log file, in MiB.
const MAX_FILE_SIZE: i64 = 1_048_576;

/// The face's own settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    isolation: Isolation,
    collection: Collection,
    limits: LogLimits,
    /// Whether the client hands out users that no database knows.
    pub(crate) dynamic_users: DynamicUsers,
    /// Variables of the agent that no task sees.
    pub(crate) denylist: Vec<String>,
}

/// What the client is told about file systems.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Isolation {
    /// The client copies nothing and leaves its environment out.
    Image,
    /// The client builds a root of its own, which we do not use, and puts its environment in.
    Chroot,
}

/// Who writes the tasks' log files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Collection {
    Nomad,
    Bivouac,
}

/// A value that is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SettingError {
    #[error("{option} must be \"{first}\" or \"{second}\", got {got:?}")]
    Choice { option: &'static str, first: &'static str, second: &'static str, got: String },
    #[error("{option} must be a number from 1 to {most}, got {got}")]
    Range { option: &'static str, most: i64, got: i64 },
}

impl Default for Settings {
    /// What holds before the operator's options are known.
    fn default() -> Self {
        Self {
            isolation: Isolation::Image,
            collection: Collection::Nomad,
            limits: LogLimits { max_files: TEN, max_file_size_mib: TEN },
            dynamic_users: DynamicUsers::Off,
            denylist: crate::environment::DEFAULT_DENYLIST.iter().map(|&name| name.to_owned()).collect(),
        }
    }
}

impl Settings {
    /// Reads the values of [`crate::options::face_operator_options`].
    pub(crate) fn read(values: &Values) -> Result<Self, SettingError> {
        let before = Self::default();
        let isolation =
            choice(values, "fs_isolation", [("image", Isolation::Image), ("chroot", Isolation::Chroot)])?;
        let collection = choice(
            values,
            "log_collection",
            [("nomad", Collection::Nomad), ("bivouac", Collection::Bivouac)],
        )?;
        Ok(Self {
            isolation: isolation.unwrap_or(before.isolation),
            collection: collection.unwrap_or(before.collection),
            limits: limits(values, before.limits)?,
            dynamic_users: match values.flag("dynamic_workload_users") {
                Some(true) => DynamicUsers::On,
                Some(false) => DynamicUsers::Off,
                None => before.dynamic_users,
            },
            denylist: values.list("env_denylist").map_or(before.denylist, <[String]>::to_vec),
        })
    }

    /// Whether the client leaves its own environment out of the tasks'.
    pub(crate) fn adds_host_environment(&self) -> bool {
        self.isolation == Isolation::Image
    }

    /// Whether log files are ours to write.
    pub(crate) fn collects(&self) -> bool {
        self.collection == Collection::Bivouac
    }

    /// What the client is told that we can do. Constant for the life of a configured process.
    pub(crate) fn capabilities(&self) -> pb::DriverCapabilities {
        use pb::network_isolation_spec::NetworkIsolationMode as Mode;
        let isolation = match self.isolation {
            Isolation::Image => pb::driver_capabilities::FsIsolation::Image,
            Isolation::Chroot => pb::driver_capabilities::FsIsolation::Chroot,
        };
        pb::DriverCapabilities {
            send_signals: true,
            exec: true,
            fs_isolation: isolation.into(),
            network_isolation_modes: vec![Mode::Host.into(), Mode::Group.into()],
            must_create_network: false,
            mount_configs: pb::driver_capabilities::MountConfigs::AnyMounts.into(),
            disable_log_collection: self.collects(),
            dynamic_workload_users: self.dynamic_users == DynamicUsers::On,
        }
    }

    /// Where a task's output and errors go; `values` are its [`crate::options::face_task_options`].
    pub(crate) fn outputs(
        &self,
        config: &pb::TaskConfig,
        values: &Values,
    ) -> Result<[Output; 2], OutputError> {
        let limits = limits(values, self.limits)?;
        let one = |stream: &str, field: &'static str, path: &str| -> Result<Output, OutputError> {
            // The path is set whoever collects; `/dev/null` stands for `logs { disabled = true }`.
            if path.is_empty() || path == "/dev/null" {
                return Ok(Output::Discard);
            }
            Ok(match self.collection {
                Collection::Nomad => Output::Path(absolute(field, path)?),
                Collection::Bivouac => Output::Collect(LogSeries {
                    directory: absolute("allocation directory", &config.alloc_dir)?.join("alloc/logs"),
                    name: format!("{}.{stream}", config.name),
                    limits,
                }),
            })
        };
        Ok([
            one("stdout", "standard output", &config.stdout_path)?,
            one("stderr", "standard error", &config.stderr_path)?,
        ])
    }
}

/// Why it is not known where output should go.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OutputError {
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Setting(#[from] SettingError),
}

fn choice<T: Copy>(
    values: &Values,
    option: &'static str,
    allowed: [(&'static str, T); 2],
) -> Result<Option<T>, SettingError> {
    let Some(got) = values.text(option).filter(|text| !text.is_empty()) else { return Ok(None) };
    let [(first, one), (second, two)] = allowed;
    match got {
        got if got == first => Ok(Some(one)),
        got if got == second => Ok(Some(two)),
        got => Err(SettingError::Choice { option, first, second, got: got.to_owned() }),
    }
}

fn limits(values: &Values, default: LogLimits) -> Result<LogLimits, SettingError> {
    let range = |option, most, default| match values.count(option) {
        None => Ok(default),
        Some(got) => match u32::try_from(got) {
            Ok(n) if got <= most => NonZeroU32::new(n).ok_or(SettingError::Range { option, most, got }),
            _ => Err(SettingError::Range { option, most, got }),
        },
    };
    Ok(LogLimits {
        max_files: range("log_max_files", MAX_FILES, default.max_files)?,
        max_file_size_mib: range("log_max_file_size", MAX_FILE_SIZE, default.max_file_size_mib)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{Value, face_operator_options};
    use std::path::PathBuf;

    fn values(pairs: &[(&str, Value)]) -> Values {
        Values(pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
    }

    #[test]
    fn the_defaults_of_the_options_are_the_defaults() {
        let defaults =
            face_operator_options().into_iter().filter_map(|opt| Some((opt.name.to_owned(), opt.default?)));
        assert_eq!(Settings::read(&Values(defaults.collect())), Ok(Settings::default()));
        assert_eq!(Settings::read(&Values::default()), Ok(Settings::default()));
    }

    #[test]
    fn refusals_name_the_option_and_what_is_allowed() {
        let refused = |name, value| Settings::read(&values(&[(name, value)])).unwrap_err().to_string();
        insta::assert_snapshot!(refused("fs_isolation", Value::Text("none".into())), @r#"fs_isolation must be "image" or "chroot", got "none""#);
        insta::assert_snapshot!(refused("log_collection", Value::Text("docker".into())), @r#"log_collection must be "nomad" or "bivouac", got "docker""#);
        insta::assert_snapshot!(refused("log_max_files", Value::Count(0)), @"log_max_files must be a number from 1 to 100000, got 0");
        insta::assert_snapshot!(refused("log_max_file_size", Value::Count(i64::MAX)), @"log_max_file_size must be a number from 1 to 1048576, got 9223372036854775807");
    }

    #[test]
    fn output_goes_where_the_operator_says() {
        let config = pb::TaskConfig {
            name: "web".into(),
            alloc_dir: "/alloc".into(),
            stdout_path: "/alloc/alloc/logs/.web.stdout.fifo".into(),
            ..Default::default()
        };
        let nomad = Settings::default().outputs(&config, &Values::default());
        let stdout = PathBuf::from("/alloc/alloc/logs/.web.stdout.fifo");
        assert_eq!(nomad, Ok([Output::Path(stdout), Output::Discard]));
        let own = Settings { collection: Collection::Bivouac, ..Settings::default() };
        let task = values(&[("log_max_files", Value::Count(2))]);
        let series = LogSeries {
            directory: "/alloc/alloc/logs".into(),
            name: "web.stdout".into(),
            limits: LogLimits { max_files: NonZeroU32::new(2).unwrap(), max_file_size_mib: TEN },
        };
        assert_eq!(own.outputs(&config, &task), Ok([Output::Collect(series), Output::Discard]));
        let off =
            pb::TaskConfig { stdout_path: "/dev/null".into(), stderr_path: "/dev/null".into(), ..config };
        assert_eq!(own.outputs(&off, &task), Ok([Output::Discard, Output::Discard]));
        let relative = pb::TaskConfig { stdout_path: "x".into(), ..off };
        assert!(Settings::default().outputs(&relative, &task).is_err());
        let zero = values(&[("log_max_files", Value::Count(0))]);
        assert!(own.outputs(&relative, &zero).is_err());
    }
}
