//! Apple's kernel interfaces in bytes: numbers of ioctls and the requests that go with them.
//!
//! The requests are laid out here, and not taken from the `libc` crate, so that they are built and
//! tested on every platform; what is handed to a Mac's kernel is nothing else. Where `libc` has the
//! same structure, the Mac's build compares the sizes.
//!
//! Source: xnu 11417.101.15 (macOS 15.4), the headers named at each item. Numbers are in the Mac's
//! own byte order, which is little-endian on every Mac that Tandem runs on.

pub mod bridge;

use std::net::Ipv4Addr;

/// `IFNAMSIZ` of `<net/if.h>`: an interface's name with its closing zero, in bytes.
pub const NAME_BYTES: usize = 16;

/// `SIOCAIFADDR` of `<sys/sockio.h>`: gives an interface one more address. Root.
pub const SIOCAIFADDR: u32 = iow(b'i', 26, size_of::<AddressRequest>());
/// `SIOCGIFMTU` of `<sys/sockio.h>`: an interface's MTU.
pub const SIOCGIFMTU: u32 = iowr(b'i', 51, size_of::<InterfaceRequest>());
/// `SIOCSIFMTU` of `<sys/sockio.h>`: sets it. Root.
pub const SIOCSIFMTU: u32 = iow(b'i', 52, size_of::<InterfaceRequest>());

/// `AF_INET` of `<sys/socket.h>`.
const AF_INET: u8 = 2;

/// `_IOW` of `<sys/ioccom.h>`: an ioctl whose argument is read by the kernel. Bit 31 says so, bits 16
/// to 28 are the argument's size, then come the group's letter and the number in the group.
pub const fn iow(group: u8, number: u8, size_bytes: usize) -> u32 {
    request(0x8000_0000, group, number, size_bytes)
}

/// `_IOWR` of `<sys/ioccom.h>`: an ioctl whose argument is read and written by the kernel.
pub const fn iowr(group: u8, number: u8, size_bytes: usize) -> u32 {
    request(0xC000_0000, group, number, size_bytes)
}

/// Sizes have 13 bits; larger ones are cut, as the macro does. The numbers are compared in a test.
#[allow(clippy::cast_possible_truncation)]
const fn request(direction: u32, group: u8, number: u8, size_bytes: usize) -> u32 {
    let size = (size_bytes as u32 & 0x1fff) << 16;
    direction | size | (group as u32) << 8 | number as u32
}

/// An interface's name as the kernel takes it: with at least one zero after it. `None` for a name
/// that no interface can have; the kernel would look for one that is cut.
pub fn interface_name(name: &str) -> Option<[u8; NAME_BYTES]> {
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes.len() >= NAME_BYTES || bytes.contains(&0) {
        return None;
    }
    let mut field = [0; NAME_BYTES];
    field.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    Some(field)
}

/// The name in such a field; `None` if it is empty, has no closing zero or is not UTF-8.
pub fn name_in(field: &[u8]) -> Option<&str> {
    let end = field.iter().position(|byte| *byte == 0).filter(|end| *end > 0)?;
    std::str::from_utf8(field.get(..end)?).ok()
}

/// `struct ifreq` of `<net/if.h>`: an interface's name and a union of 16 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterfaceRequest {
    /// `ifr_name`.
    pub name: [u8; NAME_BYTES],
    /// `ifr_ifru`: an `int` for an MTU, in the first bytes.
    pub value: [u8; 16],
}

impl InterfaceRequest {
    /// A question about an interface.
    pub fn about(link: &str) -> Option<Self> {
        Some(Self { name: interface_name(link)?, value: [0; 16] })
    }

    /// An order to set its MTU; `None` too for more than an `int` holds.
    pub fn with_mtu(link: &str, mtu_bytes: u32) -> Option<Self> {
        let mut request = Self::about(link)?;
        let mtu = i32::try_from(mtu_bytes).ok()?;
        request.value.iter_mut().zip(mtu.to_le_bytes()).for_each(|(to, from)| *to = from);
        Some(request)
    }

    /// The MTU that the kernel wrote (`ifru_mtu`), in bytes; `None` if it is negative.
    pub fn mtu_bytes(&self) -> Option<u32> {
        let [a, b, c, d, ..] = self.value;
        u32::try_from(i32::from_le_bytes([a, b, c, d])).ok()
    }
}

/// `struct ifaliasreq` of `<net/if.h>`: an interface's name and three `struct sockaddr_in`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRequest {
    /// `ifra_name`.
    pub name: [u8; NAME_BYTES],
    /// `ifra_addr`.
    pub address: [u8; 16],
    /// `ifra_broadaddr`.
    pub broadcast: [u8; 16],
    /// `ifra_mask`.
    pub mask: [u8; 16],
}

impl AddressRequest {
    /// An order to give an interface an address in a network of this prefix. `None` for a name that
    /// can't be, or a prefix of more than 32 bits.
    pub fn new(link: &str, address: Ipv4Addr, prefix_bits: u8) -> Option<Self> {
        let host_bits = 32_u32.checked_sub(prefix_bits.into())?;
        let host = u32::MAX.checked_shr(prefix_bits.into()).filter(|_| host_bits > 0).unwrap_or(0);
        Some(Self {
            name: interface_name(link)?,
            address: inet(address),
            broadcast: inet(Ipv4Addr::from_bits(address.to_bits() | host)),
            mask: inet(Ipv4Addr::from_bits(!host)),
        })
    }
}

/// `struct sockaddr_in` of `<netinet/in.h>`: length, family, port, and the address in network order.
fn inet(address: Ipv4Addr) -> [u8; 16] {
    let [a, b, c, d] = address.octets();
    [16, AF_INET, 0, 0, a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0]
}

/// The hardware address in a `struct sockaddr_dl` of `<net/if_dl.h>`: its `sdl_data` holds the
/// interface's name of `sdl_nlen` bytes, then the address of `sdl_alen`. `None` if it does not fit.
pub fn hardware_address(name_bytes: u8, address_bytes: u8, data: &[u8]) -> Option<Vec<u8>> {
    let start = usize::from(name_bytes);
    data.get(start..start + usize::from(address_bytes)).map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;

    #[test]
    fn ioctls_have_the_numbers_of_the_headers() {
        for (name, computed, expected) in [
            ("SIOCAIFADDR", SIOCAIFADDR, 0x8040_691A),
            ("SIOCGIFMTU", SIOCGIFMTU, 0xC020_6933),
            ("SIOCSIFMTU", SIOCSIFMTU, 0x8020_6934),
            ("SIOCGIFXMEDIA of 44 bytes", iowr(b'i', 72, 44), 0xC02C_6948),
            ("SIOCSIFFLAGS of 32 bytes", iow(b'i', 16, 32), 0x8020_6910),
        ] {
            assert_eq!(computed, expected, "{name}: {computed:#x}");
        }
    }

    #[test]
    fn requests_are_laid_out_as_in_the_headers() {
        assert_eq!(size_of::<InterfaceRequest>(), 32);
        assert_eq!(offset_of!(InterfaceRequest, value), 16);
        assert_eq!(size_of::<AddressRequest>(), 64);
        let at = [
            offset_of!(AddressRequest, address),
            offset_of!(AddressRequest, broadcast),
            offset_of!(AddressRequest, mask),
        ];
        assert_eq!(at, [16, 32, 48]);
    }

    #[test]
    fn a_name_that_no_interface_can_have_is_refused_and_not_cut() {
        for name in ["", "abcdefghijklmnop", "en\0x"] {
            assert_eq!(interface_name(name), None, "{name:?}");
            assert_eq!(InterfaceRequest::about(name), None, "{name:?}");
            assert_eq!(AddressRequest::new(name, Ipv4Addr::LOCALHOST, 8), None, "{name:?}");
        }
        let longest = "abcdefghijklmno";
        assert_eq!(name_in(&interface_name(longest).unwrap()), Some(longest));
        assert_eq!(interface_name("en5").unwrap(), *b"en5\0\0\0\0\0\0\0\0\0\0\0\0\0");
        for field in [&b""[..], b"\0en5", b"en5", b"\xff\0"] {
            assert_eq!(name_in(field), None, "{field:?}");
        }
    }

    #[test]
    fn an_mtu_is_written_where_it_is_read() {
        let order = InterfaceRequest::with_mtu("en5", 9_000).unwrap();
        assert_eq!(order.value[..5], [0x28, 0x23, 0, 0, 0]);
        assert_eq!(order.mtu_bytes(), Some(9_000));
        assert_eq!(InterfaceRequest::with_mtu("en5", u32::MAX), None);
        let negative = InterfaceRequest { value: [0xff; 16], ..order };
        assert_eq!(negative.mtu_bytes(), None, "the kernel says a negative MTU");
    }

    #[test]
    fn an_address_goes_with_the_mask_and_broadcast_of_its_prefix() {
        for (address, prefix_bits, broadcast, mask) in [
            ([169, 254, 7, 9], 16, [169, 254, 255, 255], [255, 255, 0, 0]),
            ([192, 168, 3, 5], 30, [192, 168, 3, 7], [255, 255, 255, 252]),
            ([10, 0, 0, 1], 32, [10, 0, 0, 1], [255; 4]),
            ([10, 0, 0, 1], 0, [255; 4], [0; 4]),
        ] {
            let order = AddressRequest::new("en5", address.into(), prefix_bits).unwrap();
            let octets = |field: [u8; 16]| -> [u8; 4] { field[4..8].try_into().unwrap() };
            assert_eq!(octets(order.address), address, "/{prefix_bits}");
            assert_eq!(octets(order.broadcast), broadcast, "/{prefix_bits}");
            assert_eq!(octets(order.mask), mask, "/{prefix_bits}");
            for field in [order.address, order.broadcast, order.mask] {
                assert_eq!(field[..4], [16, 2, 0, 0], "length and family");
            }
        }
        assert_eq!(AddressRequest::new("en5", Ipv4Addr::LOCALHOST, 33), None);
    }

    #[test]
    fn a_hardware_address_stands_after_the_name() {
        let data = *b"en5\x36\x13\x4c\x5b\x80\x01\0\0\0";
        let expected = Some(vec![0x36, 0x13, 0x4c, 0x5b, 0x80, 0x01]);
        assert_eq!(hardware_address(3, 6, &data), expected);
        assert_eq!(hardware_address(3, 0, &data), Some(Vec::new()), "lo0 has none");
        assert_eq!(hardware_address(7, 6, &data), None, "a long name leaves too little room");
        assert_eq!(hardware_address(255, 255, &data), None);
    }
}
