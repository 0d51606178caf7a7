//! Messages of the routing socket, built by the layout of xnu's headers.

#![allow(clippy::unwrap_used)]

use std::net::Ipv4Addr;

use tandem_host::mac::{
    Unparsed,
    route::{self, Message, ROUTE_BYTES_MAX},
};

const NEWADDR: u8 = 0xc;
const DELADDR: u8 = 0xd;
const IFINFO: u8 = 0xe;
const IFINFO2: u8 = 0x12;
const RTA_NETMASK: u32 = 0x4;
const RTA_IFP: u32 = 0x10;
const RTA_IFA: u32 = 0x20;
const RTA_BRD: u32 = 0x80;

/// A message: header, addresses' mask, flags and number, then `body` from byte 14 on.
fn message(kind: u8, addresses: u32, flags: u32, index: u16, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(14 + body.len()).unwrap();
    let mut bytes = length.to_le_bytes().to_vec();
    bytes.extend([5, kind]);
    bytes.extend(addresses.to_le_bytes());
    bytes.extend(flags.to_le_bytes());
    bytes.extend(index.to_le_bytes());
    bytes.extend(body);
    bytes
}

/// `struct if_msghdr`: 112 bytes with the MTU at 24.
fn ifinfo(index: u16, flags: u32, mtu: u32) -> Vec<u8> {
    let mut body = [0; 98];
    body[10..14].copy_from_slice(&mtu.to_le_bytes());
    message(IFINFO, 0, flags, index, &body)
}

/// `struct if_msghdr2`: 160 bytes with the MTU at 40, and an address of the link after it.
fn ifinfo2(index: u16, flags: u32, mtu: u32) -> Vec<u8> {
    let mut body = [0; 146 + 20];
    body[26..30].copy_from_slice(&mtu.to_le_bytes());
    message(IFINFO2, RTA_IFP, flags, index, &body)
}

/// `struct ifa_msghdr`: 20 bytes, then the addresses.
fn with_address(kind: u8, which: u32, index: u16, addresses: &[&[u8]]) -> Vec<u8> {
    let mut body = vec![0; 6];
    addresses.iter().for_each(|address| body.extend(*address));
    message(kind, which, 0, index, &body)
}

fn inet(octets: [u8; 4]) -> Vec<u8> {
    let mut bytes = vec![16, 2, 0, 0];
    bytes.extend(octets);
    bytes.extend([0; 8]);
    bytes
}

/// A netmask as the kernel writes it: cut after its last byte that is not 0, then padded.
const MASK_CUT: [u8; 8] = [6, 0, 0, 0, 255, 255, 0, 0];
const MASK_EMPTY: [u8; 4] = [0; 4];
/// `struct sockaddr_dl` of 20 bytes: length, family 18, number 9 and a name of 3.
const LINK: [u8; 20] = [20, 18, 9, 0, 6, 3, 6, 0, b'e', b'n', b'5', 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn walk(bytes: &[u8]) -> Vec<Result<Message, Unparsed>> {
    route::messages(bytes).unwrap().collect()
}

#[test]
fn an_interface_message_tells_number_flags_and_mtu() {
    let rows = [(ifinfo(9, 0x8863, 9000), 112), (ifinfo2(9, 0x8863, 9000), 180)];
    for (bytes, size) in rows {
        assert_eq!(bytes.len(), size);
        let wanted = Message::Interface { index: 9, flags: 0x8863, mtu_bytes: 9000 };
        assert_eq!(walk(&bytes), [Ok(wanted)]);
    }
}

#[test]
fn an_address_is_found_behind_the_ones_before_it() {
    let ours = inet([169, 254, 0, 1]);
    let broadcast = inet([169, 254, 255, 255]);
    let ipv4 = Some(Ipv4Addr::new(169, 254, 0, 1));
    let all = RTA_NETMASK | RTA_IFP | RTA_IFA | RTA_BRD;
    let rows: [(&str, u32, Vec<&[u8]>, _); 6] = [
        ("alone", RTA_IFA, vec![&ours], ipv4),
        ("as the kernel sends it", all, vec![&MASK_CUT, &LINK, &ours, &broadcast], ipv4),
        ("after an empty mask", RTA_NETMASK | RTA_IFA, vec![&MASK_EMPTY, &ours], ipv4),
        ("before another", RTA_IFA | RTA_BRD, vec![&ours, &broadcast], ipv4),
        ("of another family", RTA_IFA, vec![&LINK], None),
        ("none", RTA_NETMASK | RTA_BRD, vec![&MASK_CUT, &broadcast], None),
    ];
    for (name, which, addresses, ipv4) in rows {
        let added = walk(&with_address(NEWADDR, which, 9, &addresses));
        assert_eq!(added, [Ok(Message::AddressAdded { index: 9, ipv4 })], "{name}");
        let deleted = walk(&with_address(DELADDR, which, 9, &addresses));
        assert_eq!(deleted, [Ok(Message::AddressDeleted { index: 9, ipv4 })], "{name}");
    }
}

#[test]
fn several_messages_of_one_read_come_in_order() {
    let mut bytes = ifinfo(9, 0x8802, 1500);
    bytes.extend(message(0x1, 0, 0, 0, &[7; 80]));
    bytes.extend(with_address(NEWADDR, RTA_IFA, 9, &[&inet([10, 0, 0, 1])]));
    bytes.extend(ifinfo(9, 0x8863, 9000));
    let wanted = [
        Message::Interface { index: 9, flags: 0x8802, mtu_bytes: 1500 },
        Message::Other { kind: 1 },
        Message::AddressAdded { index: 9, ipv4: Some(Ipv4Addr::new(10, 0, 0, 1)) },
        Message::Interface { index: 9, flags: 0x8863, mtu_bytes: 9000 },
    ];
    assert_eq!(walk(&bytes), wanted.map(Ok));
    assert_eq!(walk(&[]), []);
}

#[test]
fn a_message_that_can_not_be_read_ends_the_walk() {
    let good = ifinfo(9, 0x8863, 9000);
    let changed = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let cut = |length: u16, bytes: &[u8]| {
        let mut bytes = bytes[..usize::from(length)].to_vec();
        bytes[..2].copy_from_slice(&length.to_le_bytes());
        bytes
    };
    let address = with_address(NEWADDR, RTA_IFA, 9, &[&inet([10, 0, 0, 1])]);
    let far = with_address(NEWADDR, RTA_IFP | RTA_IFA, 9, &[&[255, 18, 0, 0]]);
    let short = with_address(NEWADDR, RTA_IFA, 9, &[&[7, 2, 0, 0, 10, 0, 0, 1]]);
    let rows = [
        ("length 0", changed(0, 0)),
        ("length 3", changed(0, 3)),
        ("one byte longer than what is there", changed(0, 113)),
        ("as long as can be said", changed(1, 255)),
        ("one byte alone", vec![112]),
        ("another version", changed(2, 4)),
        ("shorter than its type", cut(111, &good)),
        ("the header alone", cut(4, &good)),
        ("a list's message shorter than its type", cut(159, &ifinfo2(9, 0, 9000))),
        ("no address where one is announced", cut(20, &address)),
        ("an address that is cut", cut(27, &address)),
        ("an address beyond the end", far),
        ("an address shorter than itself", short),
    ];
    for (name, bad) in rows {
        let bytes = [good.as_slice(), &bad].concat();
        let mut messages = route::messages(&bytes).unwrap();
        assert!(matches!(messages.next(), Some(Ok(Message::Interface { .. }))), "{name}");
        assert!(matches!(messages.next(), Some(Err(Unparsed::Form { .. }))), "{name}");
        assert_eq!(messages.next(), None, "{name}");
        assert_eq!(messages.rest_bytes(), 0, "{name}");
    }
}

#[test]
fn more_than_a_read_can_hold_is_refused() {
    let many = ifinfo(9, 0, 9000).repeat(ROUTE_BYTES_MAX / 112 + 1);
    assert!(matches!(route::messages(&many), Err(Unparsed::TooLong { .. })));
    let most = &many[..ROUTE_BYTES_MAX / 112 * 112];
    assert_eq!(walk(most).into_iter().filter(Result::is_ok).count(), ROUTE_BYTES_MAX / 112);
}
