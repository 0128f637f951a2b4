//! Which addresses this machine has, asked of the kernel over netlink: the answer is parsed as bytes, like any input.
//! See rtnetlink(7).

use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netdevice, recv, send, socket_with,
};
use std::net::IpAddr;

/// An address, and the interface that has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The interface's name.
    pub name: String,
    /// The address.
    pub address: IpAddr,
}

/// Room for the largest message that the kernel makes of a dump.
const ROOM: usize = 32 * 1024;
/// Message types and flags, as `linux/netlink.h` and `linux/rtnetlink.h` have them.
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
/// Attributes of an address; `IFA_ADDRESS` is the other end's where there is one.
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
/// Another machine has it, or may have: nothing can be bound there.
const IFA_F_DADFAILED: u8 = 0x08;
const IFA_F_TENTATIVE: u8 = 0x40;
/// Lengths of `struct nlmsghdr`, `struct ifaddrmsg` and `struct rtattr`.
const HEADER: usize = 16;
const ABOUT: usize = 8;
const ATTRIBUTE: usize = 4;

/// All addresses of this machine, in the kernel's order: IPv4 before IPv6, each by interface.
///
/// # Errors
/// The kernel's answer.
pub fn of_this_machine() -> Result<Vec<Interface>, Errno> {
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    send(&socket, &request(), SendFlags::empty())?;
    let mut found = Vec::new();
    let mut buffer = vec![0; ROOM];
    loop {
        // With TRUNC the length is that of the whole message, also where it had no room.
        let (_, length) = recv(&socket, buffer.as_mut_slice(), RecvFlags::TRUNC)?;
        let messages = buffer.get(..length).ok_or(Errno::MSGSIZE)?;
        if read(messages, &mut found)? == More::Done {
            break;
        }
    }
    // The numbers have names for any socket but one of netlink.
    let asking = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .or_else(|_| socket_with(AddressFamily::INET6, SocketType::DGRAM, SocketFlags::CLOEXEC, None))?;
    Ok(found.into_iter().filter_map(|address| named(asking.as_fd(), address)).collect())
}

/// One that has gone meanwhile has no name.
fn named(socket: BorrowedFd<'_>, numbered: Numbered) -> Option<Interface> {
    let name = netdevice::index_to_name(socket, numbered.interface).ok()?;
    Some(Interface { name, address: numbered.address })
}

/// An address with the number of its interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Numbered {
    interface: u32,
    address: IpAddr,
}

/// Whether another message comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum More {
    Perhaps,
    Done,
}

/// Asks for every address of every interface.
fn request() -> [u8; HEADER + ABOUT] {
    let mut bytes = [0; HEADER + ABOUT];
    let length = (HEADER + ABOUT) as u32;
    let flags = NLM_F_REQUEST | NLM_F_DUMP;
    let header = length.to_ne_bytes().into_iter().chain(RTM_GETADDR.to_ne_bytes()).chain(flags.to_ne_bytes());
    bytes.iter_mut().zip(header).for_each(|(slot, byte)| *slot = byte);
    bytes
}

/// Reads what came with one call: several messages, each padded to four bytes.
fn read(mut rest: &[u8], found: &mut Vec<Numbered>) -> Result<More, Errno> {
    while let Some(length) = u32_at(rest, 0) {
        let message =
            usize::try_from(length).ok().and_then(|length| rest.get(..length)).ok_or(Errno::BADMSG)?;
        let kind = u16_at(message, 4).ok_or(Errno::BADMSG)?;
        let body = message.get(HEADER..).ok_or(Errno::BADMSG)?;
        match kind {
            NLMSG_DONE => return Ok(More::Done),
            NLMSG_ERROR => {
                let code = u32_at(body, 0).map_or(0, |bits| (bits as i32).unsigned_abs());
                return Err(Errno::from_raw_os_error(i32::try_from(code).unwrap_or_default()));
            }
            RTM_NEWADDR => found.extend(address(body)),
            _ => {}
        }
        rest = rest.get(padded(message.len())..).unwrap_or_default();
    }
    Ok(More::Perhaps)
}

/// What an `RTM_NEWADDR` is about, if something can be bound there.
fn address(body: &[u8]) -> Option<Numbered> {
    let flags = body.get(2)?;
    if flags & (IFA_F_DADFAILED | IFA_F_TENTATIVE) != 0 {
        return None;
    }
    let interface = u32_at(body, 4)?;
    let (mut own, mut other) = (None, None);
    let mut rest = body.get(ABOUT..)?;
    while let (Some(length), Some(kind)) = (u16_at(rest, 0), u16_at(rest, 2)) {
        let value = rest.get(ATTRIBUTE..usize::from(length))?;
        match kind {
            IFA_LOCAL => own = ip(value),
            IFA_ADDRESS => other = ip(value),
            _ => {}
        }
        rest = rest.get(padded(usize::from(length))..).unwrap_or_default();
    }
    own.or(other).map(|address| Numbered { interface, address })
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let four = || <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
    four().or_else(|| <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from))
}

fn padded(length: usize) -> usize {
    length.next_multiple_of(4)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(HEADER + body.len()).unwrap();
        let mut bytes = [length.to_ne_bytes().as_slice(), &kind.to_ne_bytes(), &[0; 10], body].concat();
        bytes.resize(padded(bytes.len()), 0);
        bytes
    }

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(ATTRIBUTE + value.len()).unwrap();
        let mut bytes = [length.to_ne_bytes().as_slice(), &kind.to_ne_bytes(), value].concat();
        bytes.resize(padded(bytes.len()), 0);
        bytes
    }

    fn new_address(flags: u8, interface: u32, attributes: &[Vec<u8>]) -> Vec<u8> {
        let about = [&[2, 24, flags, 0], interface.to_ne_bytes().as_slice()].concat();
        message(RTM_NEWADDR, &[about, attributes.concat()].concat())
    }

    #[test]
    fn addresses_are_read_and_those_in_doubt_left_out() {
        let six = "fd00::4".parse::<std::net::Ipv6Addr>().unwrap().octets();
        let messages = [
            // A point to point link: the other end's address is not ours.
            new_address(
                0,
                3,
                &[attribute(IFA_ADDRESS, &[10, 0, 0, 2]), attribute(IFA_LOCAL, &[10, 0, 0, 1])],
            ),
            new_address(0, 4, &[attribute(9, b"odd"), attribute(IFA_ADDRESS, &six)]),
            new_address(IFA_F_TENTATIVE, 5, &[attribute(IFA_ADDRESS, &six)]),
            new_address(IFA_F_DADFAILED, 6, &[attribute(IFA_ADDRESS, &six)]),
            message(99, b"something else"),
        ];
        let mut found = Vec::new();
        assert_eq!(read(&messages.concat(), &mut found), Ok(More::Perhaps));
        let expected = [(3, "10.0.0.1"), (4, "fd00::4")]
            .map(|(interface, address)| Numbered { interface, address: address.parse().unwrap() });
        assert_eq!(found, expected);
        assert_eq!(read(&message(NLMSG_DONE, &[0; 4]), &mut found), Ok(More::Done));
        let refused = message(NLMSG_ERROR, &(-Errno::PERM.raw_os_error()).to_ne_bytes());
        assert_eq!(read(&refused, &mut found), Err(Errno::PERM));
        assert_eq!(read(&[200, 0, 0, 0, 0, 0, 0, 0], &mut found), Err(Errno::BADMSG), "cut off");
    }

    #[test]
    fn this_machine_has_a_loopback_address() {
        let found = of_this_machine().unwrap();
        let loopback = Interface { name: "lo".into(), address: "127.0.0.1".parse().unwrap() };
        assert!(found.contains(&loopback), "{found:?}");
    }

    proptest! {
        #[test]
        fn no_bytes_panic_or_go_on_for_ever(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes, &mut Vec::new());
        }
    }
}
