//! Numbers for tasks that name no user: one for each task, from the operator's range.

use super::IdRange;
use bivouac_sandbox::HostPath;

/// Who hands out numbers. The engine keeps them on disk; a dry run only tells the likely one.
pub trait Numbers {
    /// The number of the task whose private directory is `owner`: the same at each of its starts, and of no other
    /// task. `known` tells numbers that are somebody's already.
    ///
    /// # Errors
    /// A sentence; the start fails then.
    fn claim(&self, range: IdRange, owner: &HostPath, known: &dyn Fn(u32) -> bool) -> Result<u32, String>;
}

/// Claims nothing: for `bivouac inspect --plan`.
#[derive(Clone, Copy, Debug)]
pub struct DryNumbers;

impl Numbers for DryNumbers {
    fn claim(&self, range: IdRange, owner: &HostPath, known: &dyn Fn(u32) -> bool) -> Result<u32, String> {
        range.from(seed(owner)).find(|id| !known(*id)).ok_or_else(|| full(range))
    }
}

/// Where the search begins: from the name alone, so that a task whose files outlive a reboot finds its number again.
/// (FNV-1a; it need not be secret, only spread.)
pub(crate) fn seed(owner: &HostPath) -> u64 {
    let bytes = owner.as_path().as_os_str().as_encoded_bytes().iter();
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

pub(crate) fn full(range: IdRange) -> String {
    format!("all of {range} are in use or known to this host; widen the range")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_somebody_has_are_passed_over() {
        let range = IdRange::parse("100000-100003").unwrap();
        let owner = HostPath::new("/var/lib/bivouac/a/web").unwrap();
        let first = DryNumbers.claim(range, &owner, &|_| false).unwrap();
        assert!(range.contains(first));
        let second = DryNumbers.claim(range, &owner, &|id| id == first).unwrap();
        assert!(range.contains(second) && second != first);
        assert!(DryNumbers.claim(range, &owner, &|_| true).unwrap_err().contains("100000-100003"));
        let all: std::collections::BTreeSet<u32> = range.from(seed(&owner)).collect();
        assert_eq!(all.len(), 4);
    }
}
