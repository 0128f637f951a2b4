//! The kernel: system calls that no well-kept crate offers, one file per theme.
//!
//! Data flow: callers hand in borrowed descriptors, `&CStr` and plain values, and get owned descriptors or an
//! [`Errno`] back. Names are the kernel's, every function links its man page, and there is no policy here:
//! this room knows nothing of sandboxes. What `rustix` offers is used from `rustix` by the rooms above; here
//! stands only the rest. **This is the only crate with `unsafe`**; each block says why its call is sound.

pub mod bpf;

pub use rustix::io::Errno;
