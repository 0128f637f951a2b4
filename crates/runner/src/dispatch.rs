//! Dispatching a parameterized job: the job that comes of it, with its payload and metadata.

use crate::allocation::PlanError;
use crate::planning::Payload;
use bivouac_jobspec::{Job, Payload as Rule};
use std::collections::BTreeMap;

/// The longest payload, as with Nomad.
const LONGEST: usize = 16 * 1024;

/// What is dispatched.
#[derive(Clone, Debug, Default)]
pub struct Dispatch {
    /// The payload, if there is one.
    pub payload: Option<Vec<u8>>,
    /// The metadata.
    pub meta: BTreeMap<String, String>,
    /// Tells this one from others: seconds since 1970.
    pub seconds: u64,
    /// And eight hexadecimal digits.
    pub digits: String,
}

impl Dispatch {
    /// Makes the job of a parameterized one, and says what is planted in its tasks.
    ///
    /// # Errors
    /// A payload or metadata that the job does not take, or lacks.
    pub fn apply(self, job: &mut Job) -> Result<Payload, PlanError> {
        let refused = |text: String| Err(PlanError::Other(text));
        let Some(rules) = job.parameterized.take() else {
            return refused(format!("job {:?} is not parameterized; `bivouac run` runs it", job.id));
        };
        match (rules.payload, &self.payload) {
            (Rule::Required, None) => {
                return refused("Payload is not provided but required by parameterized job".into());
            }
            (Rule::Forbidden, Some(_)) => {
                return refused("Payload provided but forbidden by parameterized job".into());
            }
            (_, Some(payload)) if payload.len() > LONGEST => {
                return refused(format!("payload of {} bytes is longer than {LONGEST}", payload.len()));
            }
            _ => {}
        }
        if let Some(key) = rules.meta_required.iter().find(|key| !self.meta.contains_key(*key)) {
            return refused(format!("Dispatch did not provide required meta keys: [{key}]"));
        }
        let known = |key: &String| rules.meta_required.contains(key) || rules.meta_optional.contains(key);
        if let Some(key) = self.meta.keys().find(|key| !known(key)) {
            return refused(format!("Dispatch request included unpermitted metadata keys: [{key}]"));
        }
        for key in rules.meta_optional {
            job.meta.entry(key).or_default();
        }
        job.meta.extend(self.meta);
        let parent = job.id.clone();
        job.id = format!("{parent}/dispatch-{}-{}", self.seconds, self.digits);
        job.name.clone_from(&job.id);
        Ok(Payload { bytes: self.payload.unwrap_or_default(), parent })
    }
}

/// A plain `run` of a job that waits to be dispatched starts nothing.
///
/// # Errors
/// Says so.
pub fn refuse_undispatched(job: &Job) -> Result<(), PlanError> {
    match &job.parameterized {
        None => Ok(()),
        Some(_) => Err(PlanError::Other(format!(
            "job {:?} is parameterized: start it with `bivouac dispatch`, which gives it payload and metadata",
            job.id
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bivouac_jobspec::{Input, SourceFile};

    fn job(block: &str) -> Job {
        let text = format!(
            "job \"j\" {{\n type = \"batch\"\n parameterized {{\n{block}\n}}\n group \"g\" {{\n task \"t\" {{\n driver = \"exec\"\n config {{\n command = \"/bin/true\"\n}}\n}}\n}}\n}}\n"
        );
        let input = Input {
            job: SourceFile::new("j.hcl".to_owned(), text.into_bytes()),
            variables: bivouac_jobspec::VariableSources::default(),
            files: None,
            support: bivouac_jobspec::Support::all(),
        };
        bivouac_jobspec::parse(&input).unwrap().job
    }

    fn dispatch(payload: Option<&str>, meta: &[(&str, &str)]) -> Dispatch {
        Dispatch {
            payload: payload.map(|text| text.as_bytes().to_vec()),
            meta: meta.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            seconds: 1_700_000_000,
            digits: "0123abcd".into(),
        }
    }

    #[test]
    fn a_dispatched_job_has_its_own_name_and_all_its_metadata() {
        let mut job = job("payload = \"required\"\n meta_required = [\"a\"]\n meta_optional = [\"b\"]");
        let payload = dispatch(Some("p"), &[("a", "1")]).apply(&mut job).unwrap();
        assert_eq!((payload.bytes.as_slice(), payload.parent.as_str()), (b"p".as_slice(), "j"));
        assert_eq!(job.id, "j/dispatch-1700000000-0123abcd");
        assert_eq!((job.meta["a"].as_str(), job.meta["b"].as_str()), ("1", ""));
        assert!(dispatch(None, &[]).apply(&mut job).is_err(), "it is parameterized no more");
    }

    #[test]
    fn what_a_job_does_not_take_is_refused() {
        for (block, payload, meta, text) in [
            ("payload = \"required\"", None, &[][..], "not provided but required"),
            ("payload = \"forbidden\"", Some("p"), &[], "provided but forbidden"),
            ("meta_required = [\"a\"]", None, &[], "required meta keys: [a]"),
            ("meta_optional = [\"a\"]", None, &[("z", "1")], "unpermitted metadata keys: [z]"),
        ] {
            let error = dispatch(payload, meta).apply(&mut job(block)).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
        let long = dispatch(Some(&"x".repeat(LONGEST + 1)), &[]).apply(&mut job("")).unwrap_err();
        assert!(long.to_string().contains("longer than"), "{long}");
        assert!(refuse_undispatched(&job("")).unwrap_err().to_string().contains("bivouac dispatch"));
    }
}
