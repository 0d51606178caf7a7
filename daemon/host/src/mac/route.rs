//! Changes of interfaces and addresses: messages of `socket(AF_ROUTE, SOCK_RAW, 0)`, and of
//! `sysctl` with `NET_RT_IFLIST2`, which has the same form.
//!
//! Source: route(4) and xnu's `<net/if.h>`, `<net/if_var.h>` and `<net/route.h>`. A read can hold
//! several messages; each begins with its length, a version and a type. Numbers are in the Mac's
//! own byte order, and every Mac that Tandem runs on is little-endian.

use std::net::Ipv4Addr;

use super::Unparsed;

const TOOL: &str = "socket(AF_ROUTE)";

/// Most bytes that are walked at once: a list of 256 interfaces with their addresses has half.
pub const ROUTE_BYTES_MAX: usize = 256 << 10;

/// `RTM_VERSION`.
const VERSION: u8 = 5;
/// `RTM_NEWADDR`.
const NEWADDR: u8 = 0xc;
/// `RTM_DELADDR`.
const DELADDR: u8 = 0xd;
/// `RTM_IFINFO`.
const IFINFO: u8 = 0xe;
/// `RTM_IFINFO2`.
const IFINFO2: u8 = 0x12;

/// `sizeof(struct if_msghdr)` and where `ifi_mtu` is in it.
const IFINFO_BYTES: (usize, usize) = (112, 24);
/// `sizeof(struct if_msghdr2)` and where `ifi_mtu` is in it.
const IFINFO2_BYTES: (usize, usize) = (160, 40);
/// `sizeof(struct ifa_msghdr)`; the addresses follow it.
const NEWADDR_BYTES: usize = 20;

/// Number of the bit `RTA_IFA` (0x20): the interface's own address. One address for every lower
/// bit that is set stands before it.
const RTA_IFA_BIT: u32 = 5;
/// `AF_INET`.
const AF_INET: u8 = 2;

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// An interface changed, or is listed.
    Interface {
        /// Its number.
        index: u16,
        /// Its `IFF_` flags.
        flags: u32,
        /// Its MTU, in bytes.
        mtu_bytes: u32,
    },
    /// It got an address.
    AddressAdded {
        /// The interface's number.
        index: u16,
        /// The address, if it is IPv4.
        ipv4: Option<Ipv4Addr>,
    },
    /// It lost an address.
    AddressDeleted {
        /// The interface's number.
        index: u16,
        /// The address, if it is IPv4.
        ipv4: Option<Ipv4Addr>,
    },
    /// Of another type, which is not read.
    Other {
        /// Its type.
        kind: u8,
    },
}

/// The messages of one read, in order. After an error there are no more: where the next message
/// begins is not known then, and whoever reads looks at all interfaces afresh.
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    rest: &'a [u8],
}

/// Walks the bytes of one read.
///
/// # Errors
/// More than [`ROUTE_BYTES_MAX`].
pub fn messages(bytes: &[u8]) -> Result<Messages<'_>, Unparsed> {
    Unparsed::bound(TOOL, bytes.len(), ROUTE_BYTES_MAX)?;
    Ok(Messages { rest: bytes })
}

impl Messages<'_> {
    /// How many bytes are not walked yet.
    pub fn rest_bytes(&self) -> usize {
        self.rest.len()
    }
}

impl Iterator for Messages<'_> {
    type Item = Result<Message, Unparsed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let rest = std::mem::take(&mut self.rest);
        let length = u16_at(rest, 0).map(usize::from);
        let Some((message, after)) = length.and_then(|length| rest.split_at_checked(length)) else {
            return Some(Err(wrong("a message as long as it says", rest)));
        };
        let read = read(message);
        if read.is_ok() {
            self.rest = after;
        }
        Some(read)
    }
}

/// A message of less than 4 bytes has no type and is an error, so every one that is read takes the
/// walk on.
fn read(message: &[u8]) -> Result<Message, Unparsed> {
    match (message.get(2), message.get(3)) {
        (Some(&VERSION), Some(&kind)) => {
            of_kind(kind, message).ok_or_else(|| wrong("the fields of its type", message))
        }
        _ => Err(wrong("version 5", message)),
    }
}

fn of_kind(kind: u8, message: &[u8]) -> Option<Message> {
    match kind {
        IFINFO => interface(message, IFINFO_BYTES),
        IFINFO2 => interface(message, IFINFO2_BYTES),
        NEWADDR => address(message).map(|(index, ipv4)| Message::AddressAdded { index, ipv4 }),
        DELADDR => address(message).map(|(index, ipv4)| Message::AddressDeleted { index, ipv4 }),
        kind => Some(Message::Other { kind }),
    }
}

fn interface(message: &[u8], (size, mtu_at): (usize, usize)) -> Option<Message> {
    Some(Message::Interface {
        index: u16_at(message, 12)?,
        flags: u32_at(message, 8)?,
        mtu_bytes: u32_at(message, mtu_at).filter(|_| message.len() >= size)?,
    })
}

/// The interface's number, and its address where that is IPv4.
fn address(message: &[u8]) -> Option<(u16, Option<Ipv4Addr>)> {
    let (which, index) = (u32_at(message, 4)?, u16_at(message, 12)?);
    let mut rest = message.get(NEWADDR_BYTES..)?;
    if which & (1 << RTA_IFA_BIT) == 0 {
        return Some((index, None));
    }
    for _ in (0..RTA_IFA_BIT).filter(|bit| which & (1 << bit) != 0) {
        // Each begins with its length and is padded to 4 bytes; length 0 takes 4 (`ROUNDUP32`).
        let padded = usize::from(*rest.first()?).max(1).next_multiple_of(4);
        rest = rest.get(padded..)?;
    }
    // `struct sockaddr_in`: length, family, port, and the address in network order.
    let (length, family) = (usize::from(*rest.first()?), *rest.get(1)?);
    let octets: Option<[u8; 4]> = rest.get(4..8).and_then(|octets| octets.try_into().ok());
    match family {
        AF_INET if length >= 8 => Some((index, Some(octets?.into()))),
        AF_INET => None,
        _ => Some((index, None)),
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// The first bytes of what can't be read, in hexadecimal.
fn wrong(wanted: &'static str, bytes: &[u8]) -> Unparsed {
    let start = bytes.iter().take(super::SEEN_BYTES_MAX / 2);
    let hex: String = start.map(|byte| format!("{byte:02x}")).collect();
    Unparsed::form(TOOL, wanted, &hex)
}
