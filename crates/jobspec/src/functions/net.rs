//! IP address arithmetic.

use super::{Answer, Call, Function, MANY, row};
use crate::value::Value;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(super) const TABLE: &[Function] = &[
    row("cidrhost", "cidrhost(prefix, number)", 2, 2, cidrhost),
    row("cidrnetmask", "cidrnetmask(prefix)", 1, 1, |call| {
        let block = Block::read(call, 0)?;
        if block.width == 128 {
            return Err(call.bad(0, "an IPv6 prefix has no netmask"));
        }
        call.give(block.show(mask(block.width, block.prefix)))
    }),
    row("cidrsubnet", "cidrsubnet(prefix, new bits, number)", 3, 3, cidrsubnet),
    row("cidrsubnets", "cidrsubnets(prefix, new bits...)", 1, MANY, cidrsubnets),
];

/// An address block. IPv4 addresses use the low 32 bits.
#[derive(Clone, Copy)]
struct Block {
    address: u128,
    prefix: u32,
    width: u32,
}

fn mask(width: u32, prefix: u32) -> u128 {
    let all = u128::MAX >> (128 - width);
    if prefix == 0 { 0 } else { all & !(all.checked_shr(prefix).unwrap_or(0)) }
}

impl Block {
    fn read(call: &Call<'_>, at: usize) -> Answer<Block> {
        let text = call.text(at)?;
        let bad = || call.bad(at, format!("{text:?} is not an address block such as 10.0.0.0/8"));
        let (address, prefix) = text.split_once('/').ok_or_else(bad)?;
        let (address, width) = match address.parse().map_err(|_| bad())? {
            IpAddr::V4(address) => (u128::from(u32::from(address)), 32),
            IpAddr::V6(address) => (u128::from(address), 128),
        };
        let prefix = prefix.parse().ok().filter(|prefix| *prefix <= width).ok_or_else(bad)?;
        Ok(Block { address: address & mask(width, prefix), prefix, width })
    }

    fn show(&self, address: u128) -> String {
        if self.width == 32 {
            Ipv4Addr::from(address as u32).to_string()
        } else {
            Ipv6Addr::from(address).to_string()
        }
    }

    /// The block of `prefix + bits` with this number.
    fn child(&self, bits: u32, number: u128) -> Option<Block> {
        let prefix = self.prefix.checked_add(bits).filter(|prefix| *prefix <= self.width)?;
        if bits < 128 && number >> bits != 0 {
            return None;
        }
        let address = self.address | number.checked_shl(self.width - prefix).unwrap_or(0);
        Some(Block { address, prefix, width: self.width })
    }
}

fn cidrhost(call: &Call<'_>) -> Answer {
    let (block, number) = (Block::read(call, 0)?, i128::from(call.int(1)?));
    let bits = block.width - block.prefix;
    let size = if bits >= 127 { i128::MAX } else { 1_i128 << bits };
    let offset = if number < 0 { size + number } else { number };
    if offset < 0 || offset >= size {
        return Err(call.bad(1, format!("a block of /{} has no host {number}", block.prefix)));
    }
    call.give(block.show(block.address | offset as u128))
}

fn bits(call: &Call<'_>, at: usize) -> Answer<u32> {
    u32::try_from(call.int(at)?)
        .ok()
        .filter(|bits| *bits <= 128)
        .ok_or_else(|| call.bad(at, "expected 0 to 128 bits"))
}

fn cidrsubnet(call: &Call<'_>) -> Answer {
    let (block, new, number) = (Block::read(call, 0)?, bits(call, 1)?, call.int(2)?);
    let child = u128::try_from(number).ok().and_then(|number| block.child(new, number));
    let child = child.ok_or_else(|| {
        call.bad(2, format!("a /{} block has no sub-block {number} with {new} more bits", block.prefix))
    })?;
    call.give(format!("{}/{}", child.show(child.address), child.prefix))
}

fn cidrsubnets(call: &Call<'_>) -> Answer {
    let block = Block::read(call, 0)?;
    let last = block.address | !mask(block.width, block.prefix) & (u128::MAX >> (128 - block.width));
    let mut next = Some(block.address);
    let mut out = Vec::new();
    for at in 1..call.args.len() {
        let full = || call.bad(at, format!("not enough room left in the /{} block", block.prefix));
        let prefix = block.prefix + bits(call, at)?;
        if prefix > block.width {
            return Err(call.bad(at, format!("a prefix of /{prefix} is too long")));
        }
        let size_minus_one = !mask(block.width, prefix) & (u128::MAX >> (128 - block.width));
        // Each block begins at a multiple of its own size.
        let start = next.ok_or_else(full)?.checked_add(size_minus_one).ok_or_else(full)? & !size_minus_one;
        let end = start.checked_add(size_minus_one).filter(|end| *end <= last).ok_or_else(full)?;
        out.push(Value::text(format!("{}/{prefix}", block.show(start))));
        next = end.checked_add(1);
    }
    call.give_list(out)
}
