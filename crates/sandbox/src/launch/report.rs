//! What a child tells its parent before it is the task: a page for *where and why*, a pipe for *when*.
//!
//! The page survives the child being killed at any moment; the pipe is close-on-exec, so its end with the child
//! alive means that the command runs. What a child wrote is read as data only: by then it may be hostile.

use super::find::Hint;
use super::steps::Step;
use bivouac_sys::Errno;
use bivouac_sys::page::{Number, PAGE_SIZE, SharedPage};

const STEP: usize = 0;
const FAILED: usize = 1;
const ERRNO: usize = 4;
const ITEM: usize = 8;
const FOUND: usize = 12;
const HINT: usize = 16;
const DETAIL_LENGTH: usize = 18;
const ENTERED: usize = 20;
const DETAIL: usize = 24;
const DETAIL_MAX: usize = PAGE_SIZE - DETAIL;

/// The child's side, and the parent's. The child's calls neither allocate nor fail.
#[derive(Debug)]
pub(crate) struct Report {
    page: SharedPage,
}

/// What the parent reads after the pipe has closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// The last step that was begun.
    pub(crate) step: Step,
    /// Set when that step failed.
    pub(crate) failure: Option<Errno>,
    /// Which row of the fill, or which mask, the step was at.
    pub(crate) item: usize,
    /// Which candidate was found to be the command.
    pub(crate) found: usize,
    /// What is odd about the command's file.
    pub(crate) hint: Hint,
    /// The name that belongs to the hint.
    pub(crate) detail: Vec<u8>,
}

impl Report {
    pub(crate) fn new() -> Result<Report, Errno> {
        Ok(Report { page: SharedPage::new()? })
    }

    pub(crate) fn begin(&self, step: Step) {
        self.page.write(STEP, &[step as u8]);
    }

    pub(crate) fn item(&self, index: usize) {
        self.page.write(ITEM, &(index as u32).to_ne_bytes());
    }

    pub(crate) fn found(&self, index: usize) {
        self.page.write(FOUND, &(index as u32).to_ne_bytes());
    }

    /// Where the kernel writes the number of the process that enters; 0 before.
    pub(crate) fn entered(&self) -> Number<'_> {
        self.page.number::<ENTERED>()
    }

    pub(crate) fn hint(&self, hint: Hint, detail: &[u8]) {
        let detail = detail.get(..DETAIL_MAX).unwrap_or(detail);
        self.page.write(DETAIL, detail);
        self.page.write(DETAIL_LENGTH, &(detail.len() as u16).to_ne_bytes());
        self.page.write(HINT, &[hint as u8]);
    }

    pub(crate) fn fail(&self, errno: Errno) {
        self.page.write(ERRNO, &errno.raw_os_error().to_ne_bytes());
        self.page.write(FAILED, &[1]);
    }

    pub(crate) fn read(&self) -> Told {
        let byte = |offset| self.page.read(offset, 1).first().copied().unwrap_or(0);
        let number = |offset| {
            let bytes: [u8; 4] = self.page.read(offset, 4).try_into().unwrap_or_default();
            u32::from_ne_bytes(bytes)
        };
        let length: [u8; 2] = self.page.read(DETAIL_LENGTH, 2).try_into().unwrap_or_default();
        let errno = number(ERRNO) as i32;
        Told {
            step: Step::from_number(byte(STEP)),
            // Outside the kernel's range it was not the launch that wrote it.
            failure: (byte(FAILED) == 1).then(|| {
                if (1..4096).contains(&errno) { Errno::from_raw_os_error(errno) } else { Errno::IO }
            }),
            item: number(ITEM) as usize,
            found: number(FOUND) as usize,
            hint: Hint::from_number(byte(HINT)),
            detail: self.page.read(DETAIL, usize::from(u16::from_ne_bytes(length))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_read() {
        let report = Report::new().unwrap();
        report.begin(Step::FillRoot);
        report.item(7);
        report.found(2);
        report.hint(Hint::InterpreterMissing, b"/lib/ld.so");
        report.fail(Errno::NOENT);
        let told = report.read();
        assert_eq!(
            (told.step, told.failure, told.item, told.found),
            (Step::FillRoot, Some(Errno::NOENT), 7, 2)
        );
        assert_eq!((told.hint, told.detail.as_slice()), (Hint::InterpreterMissing, b"/lib/ld.so".as_slice()));
    }

    /// Covers: CVE-2021-43784
    #[test]
    fn a_detail_of_any_length_stays_in_its_page() {
        for length in [0, DETAIL_MAX - 1, DETAIL_MAX, DETAIL_MAX + 1, 65_535, 65_536, 65_537, 1 << 20] {
            let report = Report::new().unwrap();
            report.item(usize::MAX);
            report.hint(Hint::InterpreterMissing, &vec![b'x'; length]);
            let told = report.read();
            assert_eq!(told.detail.len(), length.min(DETAIL_MAX));
            assert!(told.detail.iter().all(|byte| *byte == b'x'));
        }
    }

    #[test]
    fn garbage_of_a_hostile_child_is_harmless() {
        let report = Report::new().unwrap();
        report.page.write(0, &[0xff; PAGE_SIZE]);
        let told = report.read();
        assert!(told.detail.len() <= PAGE_SIZE);
        let _ = told.step;
    }
}
