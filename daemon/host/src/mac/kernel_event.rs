//! Events of the kernel about interfaces: messages of `socket(PF_SYSTEM, SOCK_RAW, SYSPROTO_EVENT)`.
//!
//! They tell what routing messages leave out, such as an interface that comes or goes, and tell the
//! rest a second time: neither socket says when it had to throw messages away.
//!
//! Source: xnu 11417.101.15, `<sys/kern_event.h>` and `<net/net_kev.h>`. A message is a header of six
//! 32-bit numbers, in the Mac's own byte order, and data that is not read here.

use super::{Unparsed, layout};

const TOOL: &str = "socket(PF_SYSTEM)";

/// `KEV_MSG_HEADER_SIZE`.
const HEADER_BYTES: usize = 24;

/// `KEV_VENDOR_APPLE`.
const VENDOR_APPLE: u32 = 1;
/// `KEV_NETWORK_CLASS`.
const CLASS_NETWORK: u32 = 1;
/// `KEV_DL_SUBCLASS`: the data link, which is to say interfaces.
const SUBCLASS_DATA_LINK: u32 = 2;

/// Codes of that subclass that change what is read of an interface.
const CHANGES: [u32; 7] = [
    1,  // KEV_DL_SIFFLAGS
    3,  // KEV_DL_SIFMTU
    9,  // KEV_DL_IF_ATTACHED
    11, // KEV_DL_IF_DETACHED
    12, // KEV_DL_LINK_OFF
    13, // KEV_DL_LINK_ON
    16, // KEV_DL_LINK_ADDRESS_CHANGED
];

/// `SIOCSKEVFILT`: which events the socket is to get.
pub const SIOCSKEVFILT: u32 = layout::iow(b'e', 2, size_of::<Filter>());

/// `struct kev_request`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filter {
    /// `vendor_code`.
    pub vendor: u32,
    /// `kev_class`.
    pub class: u32,
    /// `kev_subclass`.
    pub subclass: u32,
}

/// Events about interfaces.
pub const INTERFACES: Filter =
    Filter { vendor: VENDOR_APPLE, class: CLASS_NETWORK, subclass: SUBCLASS_DATA_LINK };

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Vendor, class and subclass.
    pub about: Filter,
    /// Its code in the subclass.
    pub code: u32,
}

impl Event {
    /// Whether an interface came, went or changed in flags, MTU, link or address.
    pub fn changes_interface(&self) -> bool {
        self.about == INTERFACES && CHANGES.contains(&self.code)
    }
}

/// The events of one read, in order. After an error there are no more: where the next one begins is
/// not known then.
pub fn events(bytes: &[u8]) -> impl Iterator<Item = Result<Event, Unparsed>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let message = std::mem::take(&mut rest);
        let size = number(message, 0).and_then(|size| usize::try_from(size).ok());
        let parts = size
            .filter(|size| *size >= HEADER_BYTES)
            .and_then(|size| message.split_at_checked(size));
        let event = parts.and_then(|(event, after)| {
            rest = after;
            let about = Filter {
                vendor: number(event, 1)?,
                class: number(event, 2)?,
                subclass: number(event, 3)?,
            };
            Some(Event { about, code: number(event, 5)? })
        });
        Some(event.ok_or_else(|| {
            let wanted = "an event of at least 24 bytes, as long as it says";
            Unparsed::form(TOOL, wanted, &format!("{message:02x?}"))
        }))
    })
}

/// The header's number at this place, counted from 0.
fn number(bytes: &[u8], place: usize) -> Option<u32> {
    let at = place * 4;
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use proptest::{prelude::*, test_runner::RngSeed};

    use super::*;

    /// A message with the event number 77 and as much data as `struct net_event_data` has.
    fn message(about: Filter, code: u32) -> Vec<u8> {
        let header = [48, about.vendor, about.class, about.subclass, 77, code];
        let mut bytes: Vec<u8> = header.iter().flat_map(|n| n.to_le_bytes()).collect();
        bytes.extend(2_u32.to_le_bytes());
        bytes.extend(5_u32.to_le_bytes());
        bytes.extend(b"en\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        bytes
    }

    #[test]
    fn the_filter_is_laid_out_as_in_the_header() {
        assert_eq!(SIOCSKEVFILT, 0x800C_6502);
        assert_eq!(size_of::<Filter>(), 12);
        assert_eq!([offset_of!(Filter, class), offset_of!(Filter, subclass)], [4, 8]);
    }

    #[test]
    fn events_that_change_an_interface_are_told_from_others() {
        for (code, changes, story) in [
            (1, true, "flags"),
            (3, true, "MTU"),
            (9, true, "attached"),
            (10, false, "detaching: it is still there, and detached follows"),
            (11, true, "detached"),
            (12, true, "link off"),
            (13, true, "link on"),
            (16, true, "hardware address"),
            (20, false, "link quality"),
            (14, false, "a protocol attached"),
        ] {
            let bytes = message(INTERFACES, code);
            let seen: Vec<Event> = events(&bytes).map(Result::unwrap).collect();
            assert_eq!(seen, [Event { about: INTERFACES, code }], "{story}");
            assert_eq!(seen[0].changes_interface(), changes, "{story}");
        }
        let firewall = Filter { class: 5, ..INTERFACES };
        let bytes = message(firewall, 3);
        assert!(!events(&bytes).next().unwrap().unwrap().changes_interface(), "another class");
    }

    #[test]
    fn several_events_of_one_read_are_walked_and_a_cut_one_ends_the_walk() {
        let mut bytes = message(INTERFACES, 12);
        bytes.extend(message(INTERFACES, 13));
        let codes: Vec<u32> = events(&bytes).map(|event| event.unwrap().code).collect();
        assert_eq!(codes, [12, 13]);
        bytes.pop();
        let seen: Vec<bool> = events(&bytes).map(|event| event.is_ok()).collect();
        assert_eq!(seen, [true, false]);
        for (size, story) in
            [(0_u32, "no length"), (23, "less than a header"), (49, "past the end")]
        {
            let mut bytes = message(INTERFACES, 12);
            bytes[..4].copy_from_slice(&size.to_le_bytes());
            let seen: Vec<bool> = events(&bytes).map(|event| event.is_ok()).collect();
            assert_eq!(seen, [false], "{story}");
        }
    }

    proptest! {
        // The same cases in every run.
        #![proptest_config(ProptestConfig {
            rng_seed: RngSeed::Fixed(11), failure_persistence: None, ..Default::default()
        })]

        #[test]
        fn any_bytes_are_walked_to_an_end(
            codes in prop::collection::vec(any::<u32>(), 0..6),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            noise in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut bytes: Vec<u8> =
                codes.iter().flat_map(|code| message(INTERFACES, *code)).collect();
            let seen: Vec<u32> = events(&bytes).map(|event| event.unwrap().code).collect();
            prop_assert_eq!(seen, codes);
            if !bytes.is_empty() {
                let length = bytes.len();
                changes.iter().for_each(|(at, byte)| bytes[at.index(length)] = *byte);
            }
            for bytes in [bytes, noise] {
                let seen: Vec<_> = events(&bytes).collect();
                let wrong = seen.iter().filter(|event| event.is_err()).count();
                prop_assert!(wrong <= 1 && seen.len() <= bytes.len() / HEADER_BYTES + 1);
            }
        }
    }
}
