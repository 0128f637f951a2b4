//! One page of memory that a parent shares with the children it clones afterwards.

use crate::{Errno, last_errno};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, Ordering};

/// Size of the page in bytes: the smallest page of any supported machine.
pub const PAGE_SIZE: usize = 4096;

/// A zeroed page, shared over `clone`. Bytes are atomic, since the other side is another process.
#[derive(Debug)]
pub struct SharedPage {
    start: NonNull<AtomicU8>,
}

impl SharedPage {
    /// Maps a fresh page. See mmap(2).
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new() -> Result<SharedPage, Errno> {
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: an anonymous mapping at a place of the kernel's choice touches no memory of ours.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), PAGE_SIZE, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(last_errno());
        }
        NonNull::new(start.cast()).map(|start| SharedPage { start }).ok_or(Errno::NOMEM)
    }

    /// The bytes.
    pub fn bytes(&self) -> &[AtomicU8] {
        // SAFETY: the mapping is PAGE_SIZE bytes, lives as long as `self`, is zeroed at the start, and every
        // access to it, here and in the children, goes through these atomics.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), PAGE_SIZE) }
    }

    /// Copies `from` to `offset`; what does not fit is cut off.
    pub fn write(&self, offset: usize, from: &[u8]) {
        for (place, byte) in self.bytes().iter().skip(offset).zip(from) {
            place.store(*byte, Ordering::Relaxed);
        }
    }

    /// Copies `length` bytes at `offset`, fewer at the end of the page.
    pub fn read(&self, offset: usize, length: usize) -> Vec<u8> {
        self.bytes().iter().skip(offset).take(length).map(|byte| byte.load(Ordering::Relaxed)).collect()
    }
}

/// A place in a page where the kernel writes the number of a process: see [`crate::clone::clone_for_parent`].
#[derive(Clone, Copy, Debug)]
pub struct Number<'a> {
    page: &'a SharedPage,
    offset: usize,
}

impl SharedPage {
    /// The four bytes at `OFFSET`, which lie on their own boundary.
    pub fn number<const OFFSET: usize>(&self) -> Number<'_> {
        const { assert!(OFFSET.is_multiple_of(4) && OFFSET + 4 <= PAGE_SIZE) };
        Number { page: self, offset: OFFSET }
    }
}

impl Number<'_> {
    /// What is there now; 0 before anybody wrote.
    pub fn read(self) -> i32 {
        i32::from_ne_bytes(self.page.read(self.offset, 4).try_into().unwrap_or_default())
    }

    /// Where it is, for the kernel.
    pub(crate) fn address(self) -> usize {
        self.page.start.addr().get() + self.offset
    }
}

impl Drop for SharedPage {
    fn drop(&mut self) {
        // SAFETY: this value owns the mapping, and the borrow of `bytes` has ended.
        unsafe { libc::munmap(self.start.as_ptr().cast(), PAGE_SIZE) };
    }
}
