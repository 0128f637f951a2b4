//! A vfork-like start of a helper program.
//!
//! A face may have much memory, and `fork` pays for every page of it; sharing the memory until `execve` costs
//! the same for all. The child here only makes system calls on a struct prepared before, on a stack of its own,
//! while the caller is stopped in the kernel. It never enters a cgroup that holds a task.

use crate::clone::{CLONE_INTO_CGROUP, Child, RawCloneArgs};
use crate::exec::StringArray;
use crate::{Errno, check, signal};
use std::ffi::{CStr, CString, c_void};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// What to start and where.
#[derive(Debug)]
pub struct Spawn<'a> {
    /// The program.
    pub program: Executable<'a>,
    /// `argv`.
    pub arguments: &'a StringArray,
    /// `envp`.
    pub environment: &'a StringArray,
    /// What becomes descriptors 0, 1, 2, ... of the program; everything else must be close-on-exec.
    pub descriptors: &'a [BorrowedFd<'a>],
    /// The cgroup v2 directory that the program is born in.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Opened `tasks` files of cgroup v1 hierarchies that the child writes `0` to.
    pub tasks: &'a [BorrowedFd<'a>],
}

/// The program that is started.
#[derive(Clone, Copy, Debug)]
pub enum Executable<'a> {
    /// The one at a path, handed to `execve` as it is.
    At(&'a CStr),
    /// One that was opened: started by the name of its descriptor.
    Opened(BorrowedFd<'a>),
}

/// What the child reads, and the one field that it writes.
struct Order {
    program: *const libc::c_char,
    argv: *const *const libc::c_char,
    envp: *const *const libc::c_char,
    descriptors: *const i32,
    descriptor_count: usize,
    tasks: *const i32,
    task_count: usize,
    failure: i32,
}

const STACK_SIZE: usize = 64 * 1024;

/// Starts the program in a session of its own, all signals blocked (it is expected to set its mask), and
/// comes back when it has replaced the copy of this one.
///
/// # Errors
/// What clone3(2), a write to `tasks`, dup3(2) or execve(2) answered; nothing is left running then.
pub fn spawn(what: &Spawn<'_>) -> Result<Child, Errno> {
    // Whatever is placed, and the program, is moved above the targets first, so that placing one never closes another.
    let least = what.descriptors.len() as i32 + 3;
    let moved = |fd| {
        let number = crate::exec::duplicate_above(fd, least)?;
        // SAFETY: the kernel just made this descriptor for us.
        Ok::<_, Errno>(unsafe { OwnedFd::from_raw_fd(number) })
    };
    let sources = what.descriptors.iter().map(|fd| moved(*fd)).collect::<Result<Vec<_>, _>>()?;
    let (opened, name);
    let program = match what.program {
        Executable::At(path) => path,
        Executable::Opened(fd) => {
            opened = moved(fd)?;
            name = CString::new(format!("/proc/self/fd/{}", opened.as_raw_fd())).unwrap_or_default();
            name.as_c_str()
        }
    };
    let numbers: Vec<i32> = sources.iter().map(AsRawFd::as_raw_fd).collect();
    let tasks: Vec<i32> = what.tasks.iter().map(AsRawFd::as_raw_fd).collect();
    let mut order = Order {
        program: program.as_ptr(),
        argv: what.arguments.as_kernel(),
        envp: what.environment.as_kernel(),
        descriptors: numbers.as_ptr(),
        descriptor_count: numbers.len(),
        tasks: tasks.as_ptr(),
        task_count: tasks.len(),
        failure: 0,
    };
    let mut stack = vec![0u128; STACK_SIZE / size_of::<u128>()];
    let mut pidfd: i32 = -1;
    let mut args = RawCloneArgs {
        flags: (libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD) as u64,
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: libc::SIGCHLD as u64,
        stack: stack.as_mut_ptr() as u64,
        stack_size: STACK_SIZE as u64,
        ..RawCloneArgs::default()
    };
    if let Some(cgroup) = what.cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    let mask = signal::swap_mask(!0)?;
    // SAFETY: the child runs `child_main` on `stack`, which nobody else uses, and this thread is stopped
    // (CLONE_VFORK) until the child has called execve or _exit, so everything `order` points to outlives it.
    // Signals are blocked, so no handler of ours runs in the child.
    let answer = unsafe { clone_with_stack(&raw const args, child_main, (&raw mut order).cast()) };
    signal::swap_mask(mask)?;
    let pid = if answer < 0 { Err(Errno::from_raw_os_error(-answer as i32)) } else { Ok(answer) }?;
    // SAFETY: CLONE_PIDFD made the kernel store a fresh descriptor of ours there.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    // SAFETY: the child has exec'd or ended; nobody else writes the field now. Volatile, because the compiler
    // cannot see that the child wrote it.
    let failure = unsafe { (&raw const order.failure).read_volatile() };
    if failure != 0 {
        crate::wait::reap_blocking(std::os::fd::AsFd::as_fd(&pidfd))?;
        return Err(Errno::from_raw_os_error(failure));
    }
    Ok(Child { pid: pid as i32, pidfd })
}

/// The child: system calls only. Shares all memory with its parent, so it touches nothing but `order.failure`.
extern "C" fn child_main(order: *mut c_void) -> ! {
    let order: *mut Order = order.cast();
    // SAFETY: `spawn` keeps the struct alive until this process execs or ends, and is stopped meanwhile.
    let order = unsafe { &mut *order };
    // SAFETY: and so are all that it points to.
    let errno = unsafe { follow(order) };
    order.failure = errno.raw_os_error();
    crate::clone::exit(127)
}

/// # Safety
/// Every pointer in `order` must be valid for its count, and this must be a child about to be replaced.
unsafe fn follow(order: &mut Order) -> Errno {
    // SAFETY: `tasks` has `task_count` elements (this function's contract).
    let tasks = unsafe { std::slice::from_raw_parts(order.tasks, order.task_count) };
    for task in tasks {
        // SAFETY: one byte of a static string.
        let written = unsafe { libc::syscall(libc::SYS_write, *task, c"0".as_ptr(), 1usize) };
        if let Err(errno) = check(written) {
            return errno;
        }
    }
    // SAFETY: no arguments.
    if let Err(errno) = check(unsafe { libc::syscall(libc::SYS_setsid) }) {
        return errno;
    }
    // SAFETY: `descriptors` has `descriptor_count` elements (this function's contract).
    let sources = unsafe { std::slice::from_raw_parts(order.descriptors, order.descriptor_count) };
    for (target, source) in sources.iter().enumerate() {
        // SAFETY: plain numbers; without CLONE_FILES the child has a descriptor table of its own.
        if let Err(errno) = check(unsafe { libc::syscall(libc::SYS_dup3, *source, target, 0) }) {
            return errno;
        }
    }
    // SAFETY: terminated strings and null-terminated arrays (this function's contract).
    unsafe { libc::syscall(libc::SYS_execve, order.program, order.argv, order.envp) };
    crate::last_errno()
}

/// # Safety
/// `args` must name a stack of its own for the child and ask for CLONE_VFORK; `entry` must not return.
#[cfg(target_arch = "x86_64")]
unsafe fn clone_with_stack(
    args: *const RawCloneArgs,
    entry: extern "C" fn(*mut c_void) -> !,
    argument: *mut c_void,
) -> i64 {
    let answer: i64;
    // SAFETY: clone3 returns twice. In the parent the asm only changes what it declares. The child starts with
    // its own empty stack, keeps the two registers, calls `entry` with the stack aligned as the ABI wants, and
    // never comes back to Rust frames of the parent.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 => answer,
            in("rdi") args,
            in("rsi") size_of::<RawCloneArgs>(),
            in("r12") argument,
            in("r13") entry,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    answer
}

/// # Safety
/// `args` must name a stack of its own for the child and ask for CLONE_VFORK; `entry` must not return.
#[cfg(target_arch = "aarch64")]
unsafe fn clone_with_stack(
    args: *const RawCloneArgs,
    entry: extern "C" fn(*mut c_void) -> !,
    argument: *mut c_void,
) -> i64 {
    let answer: i64;
    // SAFETY: as for x86_64; x20 and x21 survive the call into the kernel.
    unsafe {
        std::arch::asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, x20",
            "blr x21",
            "brk 1",
            "2:",
            in("x8") libc::SYS_clone3,
            inlateout("x0") args => answer,
            in("x1") size_of::<RawCloneArgs>(),
            in("x20") argument,
            in("x21") entry,
            lateout("x30") _,
        );
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::AsFd;

    fn strings(list: &[&str]) -> StringArray {
        StringArray::new(list.iter().map(|text| CString::new(*text).unwrap()).collect())
    }

    #[test]
    fn a_program_gets_its_descriptors_and_its_status_comes_back() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        let (arguments, environment) = (strings(&["sh", "-c", "echo $A >&1; exit 7"]), strings(&["A=b"]));
        let child = spawn(&Spawn {
            program: Executable::At(c"/bin/sh"),
            arguments: &arguments,
            environment: &environment,
            descriptors: &[null.as_fd(), writer.as_fd(), null.as_fd()],
            cgroup: None,
            tasks: &[],
        })
        .unwrap();
        drop(writer);
        let mut output = String::new();
        reader.read_to_string(&mut output).unwrap();
        assert_eq!(output, "b\n");
        let reaped = crate::wait::reap_blocking(child.pidfd.as_fd()).unwrap();
        assert_eq!(reaped.ending, crate::wait::Ending::Exited(7));
    }

    #[test]
    fn an_opened_program_is_started_though_its_number_is_given_to_another() {
        let program = std::fs::File::open("/bin/sh").unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        let (arguments, environment) = (strings(&["sh", "-c", "exit 7"]), strings(&[]));
        let child = spawn(&Spawn {
            program: Executable::Opened(program.as_fd()),
            arguments: &arguments,
            environment: &environment,
            descriptors: &vec![null.as_fd(); program.as_raw_fd() as usize + 1],
            cgroup: None,
            tasks: &[],
        })
        .unwrap();
        let reaped = crate::wait::reap_blocking(child.pidfd.as_fd()).unwrap();
        assert_eq!(reaped.ending, crate::wait::Ending::Exited(7));
    }

    #[test]
    fn a_missing_program_is_an_error_and_no_child_is_left() {
        let (arguments, environment) = (strings(&["x"]), strings(&[]));
        let failed = spawn(&Spawn {
            program: Executable::At(c"/no/such/program"),
            arguments: &arguments,
            environment: &environment,
            descriptors: &[],
            cgroup: None,
            tasks: &[],
        });
        assert_eq!(failed.unwrap_err(), Errno::NOENT);
    }
}
