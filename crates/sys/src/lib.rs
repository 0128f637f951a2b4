//! The kernel: system calls that no well-kept crate offers, one file per theme.
//!
//! Data flow: callers hand in borrowed descriptors, `&CStr` and plain values, and get owned descriptors or an
//! [`Errno`] back. Names are the kernel's, every function links its man page, and there is no policy here:
//! this room knows nothing of sandboxes. What `rustix` offers is used from `rustix` by the rooms above; here
//! stands only the rest. **This is the only crate with `unsafe`**; each block says why its call is sound.
//!
//! | file | theme |
//! |---|---|
//! | `bpf` | device programs of cgroup v2 |
//! | `clone` | `clone3`, the proof of a single thread, leaving a child |
//! | `credentials` | groups, securebits, keyring, the capability sets of one thread |
//! | `exec` | `execve`, placing and closing descriptors |
//! | `features` | what this kernel can do, probed once |
//! | `landlock` | path rules that a process puts on itself |
//! | `mount` | `mount_setattr` and namespaced propagation |
//! | `net` | bringing the loopback interface up |
//! | `page` | one page shared by a parent and the child it clones |
//! | `quota` | project quotas of a file system |
//! | `replace` | replacing and removing files without waiting for a disk |
//! | `seccomp` | loading a filter |
//! | `signal` | dispositions, masks, `signalfd`, signals to a pidfd |
//! | `spawn` | a vfork-like start of a helper program, for faces with much memory |
//! | `wait` | reaping with resource usage |

pub mod bpf;
pub mod clone;
pub mod credentials;
pub mod exec;
pub mod features;
pub mod landlock;
pub mod mount;
pub mod net;
pub mod page;
pub mod quota;
pub mod replace;
pub mod seccomp;
pub mod signal;
pub mod spawn;
pub mod wait;

pub use rustix::io::Errno;

/// Turns the answer of `libc::syscall` into a result; `errno` is read only after a failure.
pub(crate) fn check(answer: libc::c_long) -> Result<libc::c_long, Errno> {
    if answer == -1 { Err(last_errno()) } else { Ok(answer) }
}

/// The calling thread's `errno`, as the kernel set it in the call just made.
pub(crate) fn last_errno() -> Errno {
    // `last_os_error` only reads the thread's errno: no allocation, no lock, safe in a cloned child.
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
