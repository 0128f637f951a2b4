//! Reading a job file and the variables around it. All that can be wrong with them is told with its place.

use bivouac_jobspec::{
    Diagnostics, Feature, FolderFiles, Input, Outcome, SourceFile, Support, VariableSources,
};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Where a job and its variables come from.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// The job file; `-` is standard input.
    pub job: PathBuf,
    /// `NAME=VALUE` each, as given on the command line.
    pub variables: Vec<String>,
    /// Files of variables, later ones win.
    pub variable_files: Vec<PathBuf>,
    /// `NOMAD_VAR_<name>` and its value.
    pub environment: Vec<(String, String)>,
}

/// A job that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file that cannot be read.
    #[error("cannot read {path}: {error}")]
    File {
        /// Which.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// A file larger than any job.
    #[error("{path} is larger than {} KiB, which no job file is", bivouac_jobspec::MAX_BYTES / 1024)]
    TooLarge {
        /// Which.
        path: String,
    },
    /// `-var` without `=`.
    #[error("variable {0:?} is not NAME=VALUE")]
    Variable(String),
    /// What is wrong with the text, each with its place.
    #[error(transparent)]
    Text(Box<Diagnostics>),
}

/// What this version runs; everything else in a job file is an error that names it.
pub fn support() -> Support {
    Support::only(&[
        Feature::Count,
        Feature::Artifact,
        Feature::Template,
        Feature::Leader,
        Feature::Lifecycle,
        Feature::Restart,
        Feature::Service,
        Feature::Check,
        Feature::Action,
        Feature::Parameterized,
        Feature::Periodic,
        Feature::MaxRunDuration,
        Feature::ShutdownDelay,
        Feature::StickyDisk,
        Feature::NetworkNone,
        Feature::NetworkBridge,
        Feature::NetworkCni,
        Feature::Port,
        Feature::Dns,
        Feature::Hostname,
        Feature::Volume,
        Feature::Logs,
        Feature::Secret,
        Feature::SecretsMemory,
        Feature::Cores,
    ])
}

impl Origin {
    /// Reads everything and makes a job of it.
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn load(&self) -> Result<Outcome, LoadError> {
        let job = source(&self.job)?;
        let folder = match self.job.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
            _ => PathBuf::from("."),
        };
        let files = FolderFiles::new(&folder, None)
            .map_err(|error| LoadError::File { path: folder.display().to_string(), error })?;
        let input = Input {
            job,
            variables: VariableSources {
                environment: self.environment.clone(),
                files: self.variable_files.iter().map(|path| source(path)).collect::<Result<_, _>>()?,
                arguments: self.variables.iter().map(|text| split(text)).collect::<Result<_, _>>()?,
            },
            files: Some(&files),
            support: support(),
        };
        bivouac_jobspec::parse(&input).map_err(|problems| LoadError::Text(Box::new(problems)))
    }
}

/// Reads the operator's configuration: the driver's options, as the plugin's `config` block has them.
///
/// # Errors
/// [`LoadError`].
pub fn operator(path: &Path) -> Result<bivouac_driver::options::Value, LoadError> {
    Ok(crate::convert::config(&settings(path)?))
}

/// Reads a file of settings: arguments and blocks with constant values.
///
/// # Errors
/// [`LoadError`].
pub fn settings(path: &Path) -> Result<bivouac_jobspec::ConfigTree, LoadError> {
    bivouac_jobspec::settings(&source(path)?).map_err(|problems| LoadError::Text(Box::new(problems)))
}

fn split(text: &str) -> Result<(String, String), LoadError> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(LoadError::Variable(text.to_owned())),
    }
}

/// Reads a text, never more of it than any job file has.
fn source(path: &Path) -> Result<SourceFile, LoadError> {
    let name = if path == Path::new("-") { "<stdin>".to_owned() } else { path.display().to_string() };
    let failed = |error| LoadError::File { path: name.clone(), error };
    let limit = bivouac_jobspec::MAX_BYTES as u64 + 1;
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        std::io::stdin().lock().take(limit).read_to_end(&mut bytes).map_err(failed)?;
    } else {
        let status = std::fs::metadata(path).map_err(failed)?;
        if status.is_dir() {
            return Err(failed(std::io::Error::from(std::io::ErrorKind::IsADirectory)));
        }
        std::fs::File::open(path).map_err(failed)?.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    }
    if bytes.len() > bivouac_jobspec::MAX_BYTES {
        return Err(LoadError::TooLarge { path: name });
    }
    Ok(SourceFile::new(name, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_named() {
        let origin = |job: &str| Origin { job: PathBuf::from(job), ..Origin::default() };
        let text = |job: &str| origin(job).load().unwrap_err().to_string();
        assert!(text("/no/such.nomad.hcl").starts_with("cannot read /no/such.nomad.hcl"));
        assert!(text("/etc").starts_with("cannot read /etc: is a directory"));
        assert_eq!(split("x").unwrap_err().to_string(), "variable \"x\" is not NAME=VALUE");
    }
}
