//! What is asked of a bridge such as `bridge0`: its members, and to leave one out.
//!
//! Source: xnu 11417.101.15, `struct ifdrv` of `<net/if.h>`, and `bsd/net/if_bridgevar.h`, which is
//! private to Apple: `ifconfig` of Apple's network_cmds asks in the same way.

use std::{ffi::c_void, ptr};

use super::{super::Unparsed, NAME_BYTES, interface_name, iow, iowr, name_in};

const TOOL: &str = "ifconfig bridge0 (BRDGGIFS)";

/// `SIOCSDRVSPEC` of `<sys/sockio.h>`: an order to the driver.
pub const SIOCSDRVSPEC: u32 = iow(b'i', 123, size_of::<DriverRequest>());
/// `SIOCGDRVSPEC` of `<sys/sockio.h>`: a question to the driver.
pub const SIOCGDRVSPEC: u32 = iowr(b'i', 123, size_of::<DriverRequest>());

/// `BRDGDEL`: leaves out a member. Root; `ENOENT` if it is none.
pub const DELETE: u64 = 1;
/// `BRDGGIFS`: lists the members.
pub const MEMBERS: u64 = 6;

/// Most members that are read: a Mac has at most eight Thunderbolt ports, and each virtual machine
/// adds one. The kernel fills what room it is given and does not say that there are more, so a list
/// that fills it all is refused.
pub const MEMBERS_MAX: usize = 64;

/// `struct ifdrv`: which bridge, which command, and where its argument is.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct DriverRequest {
    /// `ifd_name`.
    pub name: [u8; NAME_BYTES],
    /// `ifd_cmd`.
    pub command: u64,
    /// `ifd_len`: the argument's size, which must be the command's own.
    pub size_bytes: u64,
    /// `ifd_data`: the argument.
    pub data: *mut c_void,
}

impl DriverRequest {
    /// A command to a bridge, with its argument; `None` for a name that can't be.
    pub fn new<T>(bridge: &str, command: u64, argument: &mut T) -> Option<Self> {
        Some(Self {
            name: interface_name(bridge)?,
            command,
            size_bytes: size_of::<T>() as u64,
            data: ptr::from_mut(argument).cast(),
        })
    }
}

/// `struct ifbifconf`, packed to 4 bytes: a buffer for the members.
#[repr(C, packed(4))]
#[derive(Clone, Copy, Debug)]
pub struct MemberList {
    /// `ifbic_len`: its size, and then how much of it the kernel has filled.
    pub size_bytes: u32,
    /// `ifbic_buf`.
    pub buffer: *mut c_void,
}

/// `struct ifbreq`: one member.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// `ifbr_ifsname`.
    pub name: [u8; NAME_BYTES],
    /// `ifbr_ifsflags`.
    pub flags: u32,
    /// `ifbr_stpflags`.
    pub stp_flags: u32,
    /// `ifbr_path_cost`.
    pub path_cost: u32,
    /// `ifbr_portno`, `ifbr_priority`, `ifbr_proto` and `ifbr_role`.
    pub port: [u8; 4],
    /// `ifbr_state`, and 3 bytes of padding.
    pub state: [u8; 4],
    /// `ifbr_addrcnt`, `ifbr_addrmax` and `ifbr_addrexceeded`.
    pub addresses: [u32; 3],
    /// `pad`.
    pub pad: [u8; 32],
}

impl Member {
    /// No member, to be filled in.
    pub const EMPTY: Self = Self {
        name: [0; NAME_BYTES],
        flags: 0,
        stp_flags: 0,
        path_cost: 0,
        port: [0; 4],
        state: [0; 4],
        addresses: [0; 3],
        pad: [0; 32],
    };

    /// The member of this name, as `BRDGDEL` wants it; `None` for a name that can't be.
    pub fn named(link: &str) -> Option<Self> {
        Some(Self { name: interface_name(link)?, ..Self::EMPTY })
    }
}

/// Whether an interface of this name is a bridge: `bridge` and its number, as every bridge of macOS
/// is called (`bridge_cloner` of `bsd/net/if_bridge.c`).
pub fn is_bridge(name: &str) -> bool {
    name.strip_prefix("bridge")
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

/// The names of the members that the kernel wrote into `room`, of which it says that it has filled
/// `size_bytes`.
///
/// # Errors
/// A size that is not of whole members or fills the room, which may leave some out; a member without
/// a name.
pub fn names(room: &[Member], size_bytes: u32) -> Result<Vec<String>, Unparsed> {
    let size = usize::try_from(size_bytes).unwrap_or(usize::MAX);
    let room_bytes = size_of_val(room).saturating_sub(size_of::<Member>());
    Unparsed::bound(TOOL, size, room_bytes)?;
    if !size.is_multiple_of(size_of::<Member>()) {
        let wanted = "members of 80 bytes each";
        return Err(Unparsed::form(TOOL, wanted, &format!("{size} bytes")));
    }
    let filled = room.iter().take(size / size_of::<Member>());
    filled
        .map(|member| {
            let wanted = "a member's name with its closing zero";
            name_in(&member.name)
                .map(str::to_owned)
                .ok_or_else(|| Unparsed::form(TOOL, wanted, &format!("{:02x?}", member.name)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use proptest::{prelude::*, test_runner::RngSeed};

    use super::*;

    const MEMBER_BYTES: u32 = 80;

    fn room(names: &[&str]) -> Vec<Member> {
        let mut room = vec![Member::EMPTY; MEMBERS_MAX];
        for (at, name) in names.iter().enumerate() {
            room[at] = Member::named(name).unwrap();
        }
        room
    }

    #[test]
    fn requests_are_laid_out_as_in_the_headers() {
        assert_eq!((SIOCGDRVSPEC, SIOCSDRVSPEC), (0xC028_697B, 0x8028_697B));
        assert_eq!(size_of::<DriverRequest>(), 40);
        let at = [
            offset_of!(DriverRequest, command),
            offset_of!(DriverRequest, size_bytes),
            offset_of!(DriverRequest, data),
        ];
        assert_eq!(at, [16, 24, 32]);
        assert_eq!(size_of::<MemberList>(), 12);
        assert_eq!(offset_of!(MemberList, buffer), 4);
        assert_eq!(size_of::<Member>(), 80);
        let at = [
            offset_of!(Member, flags),
            offset_of!(Member, stp_flags),
            offset_of!(Member, path_cost),
            offset_of!(Member, port),
            offset_of!(Member, state),
            offset_of!(Member, addresses),
            offset_of!(Member, pad),
        ];
        assert_eq!(at, [16, 20, 24, 28, 32, 36, 48]);
    }

    #[test]
    fn a_command_goes_to_its_bridge_with_its_argument() {
        let mut member = Member::named("en5").unwrap();
        let place = ptr::from_mut(&mut member).cast();
        let order = DriverRequest::new("bridge0", DELETE, &mut member).unwrap();
        assert_eq!(name_in(&order.name), Some("bridge0"));
        assert_eq!((order.command, order.size_bytes, order.data), (1, 80, place));
        assert!(DriverRequest::new("", DELETE, &mut member).is_none());
        assert_eq!(Member::named("a name that is too long"), None);
    }

    #[test]
    fn members_are_listed_by_name() {
        let room = room(&["en1", "en5"]);
        assert_eq!(names(&room, 2 * MEMBER_BYTES).unwrap(), ["en1", "en5"]);
        assert_eq!(names(&room, MEMBER_BYTES).unwrap(), ["en1"]);
        assert_eq!(names(&room, 0).unwrap(), Vec::<String>::new(), "a bridge without members");
    }

    #[test]
    fn a_list_that_may_lack_members_is_refused() {
        let full = room(&["en5"; MEMBERS_MAX]);
        let size = |members: usize| u32::try_from(members * 80).unwrap();
        assert_eq!(names(&full, size(MEMBERS_MAX - 1)).unwrap().len(), MEMBERS_MAX - 1);
        for members in [MEMBERS_MAX, MEMBERS_MAX + 1] {
            let seen = names(&full, size(members));
            assert!(matches!(seen, Err(Unparsed::TooLong { .. })), "{members}: {seen:?}");
        }
        for (size, story) in [(79, "half a member"), (160, "the second has no name")] {
            let seen = names(&room(&["en5"]), size);
            assert!(matches!(seen, Err(Unparsed::Form { .. })), "{story}: {seen:?}");
        }
        assert!(names(&[], 0).unwrap().is_empty());
    }

    #[test]
    fn bridges_are_known_by_their_name() {
        for name in ["bridge0", "bridge100"] {
            assert!(is_bridge(name), "{name}");
        }
        for name in ["bridge", "bridge0a", "en0", "mybridge0", ""] {
            assert!(!is_bridge(name), "{name}");
        }
    }

    proptest! {
        // The same cases in every run.
        #![proptest_config(ProptestConfig {
            rng_seed: RngSeed::Fixed(9), failure_persistence: None, ..Default::default()
        })]

        #[test]
        fn any_bytes_are_read_as_names_or_refused(
            fields in prop::collection::vec(any::<[u8; NAME_BYTES]>(), 0..8),
            size in prop_oneof![(0..10_u32).prop_map(|n| n * MEMBER_BYTES), any::<u32>()],
        ) {
            let room: Vec<Member> =
                fields.iter().map(|name| Member { name: *name, ..Member::EMPTY }).collect();
            if let Ok(seen) = names(&room, size) {
                prop_assert_eq!(seen.len() as u32 * MEMBER_BYTES, size);
                for (name, field) in seen.iter().zip(&fields) {
                    prop_assert!(field.starts_with(name.as_bytes()), "{}", name);
                    prop_assert_eq!(field[name.len()], 0);
                }
            }
        }
    }
}
