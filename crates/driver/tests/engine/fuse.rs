//! A file system in user space with one file, served by a thread: as much of the protocol (see fuse(4) and
//! `linux/fuse.h`) as a task needs to list a directory's file and read it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// What the one file, `f`, holds.
pub(crate) const CONTENT: &[u8] = b"from user space\n";

/// A mount whose server ends with it.
pub(crate) struct Fuse {
    at: PathBuf,
    server: Option<std::thread::JoinHandle<()>>,
}

impl Fuse {
    /// Mounts it; `None` where the kernel has no FUSE.
    pub(crate) fn at(at: &Path) -> Option<Fuse> {
        let device = File::options().read(true).write(true).open("/dev/fuse").ok()?;
        std::fs::create_dir(at).unwrap();
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", device.as_raw_fd());
        let options = std::ffi::CString::new(options).unwrap();
        let none = rustix::mount::MountFlags::empty();
        rustix::mount::mount("none", at, "fuse", none, Some(options.as_c_str())).unwrap();
        let server = Some(std::thread::spawn(move || serve(device)));
        Some(Fuse { at: at.to_owned(), server })
    }
}

impl Drop for Fuse {
    fn drop(&mut self) {
        // With its last mount, which is this one, reading from the device ends.
        let _ = rustix::mount::unmount(&self.at, rustix::mount::UnmountFlags::DETACH);
        let _ = self.server.take().map(std::thread::JoinHandle::join);
    }
}

const TOP: u64 = 1;
const FILE: u64 = 2;

fn serve(mut device: File) {
    let mut buffer = vec![0; 1 << 17];
    while let Ok(length) = device.read(&mut buffer) {
        let Some(answer) = answer(buffer.get(..length).unwrap()) else { continue };
        if device.write_all(&answer).is_err() {
            return;
        }
    }
}

/// The answer to one request; none to those that get none.
fn answer(request: &[u8]) -> Option<Vec<u8>> {
    let number = |at: usize, bytes: usize| -> u64 {
        let mut whole = [0; 8];
        whole[..bytes].copy_from_slice(&request[at..at + bytes]);
        u64::from_ne_bytes(whole)
    };
    let (operation, unique, node, body) = (number(4, 4), number(8, 8), number(16, 8), 40);
    let result = match operation {
        // LOOKUP
        1 if &request[body..] == b"f\0" => {
            Ok([[FILE, 0, 0, 0, 0].map(u64::to_ne_bytes).concat(), attributes(FILE)].concat())
        }
        1 => Err(rustix::io::Errno::NOENT),
        // FORGET, INTERRUPT, BATCH_FORGET
        2 | 36 | 42 => return None,
        // GETATTR
        3 => Ok([vec![0; 16], attributes(node)].concat()),
        // OPEN, OPENDIR
        14 | 27 => Ok(vec![0; 16]),
        // READ
        15 => {
            let (offset, size) = (number(body + 8, 8) as usize, number(body + 16, 4) as usize);
            Ok(CONTENT.iter().skip(offset).take(size).copied().collect())
        }
        // RELEASE, FLUSH, RELEASEDIR, DESTROY
        18 | 25 | 29 | 38 => Ok(Vec::new()),
        // INIT: version 7.31, and as little of it as the kernel takes.
        26 => {
            let words: [u32; 16] = [7, 31, 0, 0, 0, 4096, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            Ok(words.map(u32::to_ne_bytes).concat())
        }
        _ => Err(rustix::io::Errno::NOSYS),
    };
    let (error, body) = match result {
        Ok(body) => (0, body),
        Err(errno) => (-errno.raw_os_error(), Vec::new()),
    };
    let length = u32::try_from(16 + body.len()).unwrap();
    Some([&length.to_ne_bytes()[..], &error.to_ne_bytes(), &unique.to_ne_bytes(), &body].concat())
}

/// `struct fuse_attr`: number, size, blocks and three times, then what is of 32 bits.
fn attributes(node: u64) -> Vec<u8> {
    let (mode, size): (u32, u64) =
        if node == TOP { (0o040_755, 0) } else { (0o100_444, CONTENT.len() as u64) };
    let wide = [node, size, 0, 0, 0, 0].map(u64::to_ne_bytes).concat();
    let narrow: [u32; 10] = [0, 0, 0, mode, 1, 0, 0, 0, 4096, 0];
    [wide, narrow.map(u32::to_ne_bytes).concat()].concat()
}
