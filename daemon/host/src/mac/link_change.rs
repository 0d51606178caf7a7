//! Whether what a socket said means that a link or an address changed.
//!
//! The routing socket also tells every route and neighbour that comes and goes, many a second on a
//! busy network; those are no reason to look at the links. What can't be read is one.

use super::{
    kernel_event::{self, Event},
    route::{self, Message},
};

/// Whether routing messages tell a change of an interface or of its addresses.
pub fn in_routing_messages(bytes: &[u8]) -> bool {
    let Ok(mut messages) = route::messages(bytes) else { return true };
    messages.any(|message| !matches!(message, Ok(Message::Other { .. })))
}

/// Whether kernel events tell a change of an interface.
pub fn in_kernel_events(bytes: &[u8]) -> bool {
    kernel_event::events(bytes).any(|event| event.as_ref().map_or(true, Event::changes_interface))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A routing message of so many bytes, of version 5.
    fn routing(kind: u8, size: u8) -> Vec<u8> {
        let mut bytes = vec![0; size.into()];
        bytes[..4].copy_from_slice(&[size, 0, 5, kind]);
        bytes
    }

    #[test]
    fn routes_that_come_and_go_are_no_change_of_a_link() {
        for (bytes, expected, story) in [
            (routing(0xe, 112), true, "RTM_IFINFO: flags or MTU"),
            (routing(0xc, 20), true, "RTM_NEWADDR"),
            (routing(0xd, 20), true, "RTM_DELADDR"),
            (routing(0x1, 92), false, "RTM_ADD: a route"),
            (routing(0x2, 92), false, "RTM_DELETE"),
            (routing(0xf, 20), false, "RTM_NEWMADDR: a multicast group"),
            (routing(0xe, 111), true, "an RTM_IFINFO that is too short"),
            (vec![9, 9], true, "what can't be read"),
            (vec![], false, "nothing"),
            ([routing(0x1, 92), routing(0xe, 112)].concat(), true, "a route, then a link"),
        ] {
            assert_eq!(in_routing_messages(&bytes), expected, "{story}");
        }
        assert!(in_routing_messages(&vec![0; route::ROUTE_BYTES_MAX + 1]), "too much to read");
    }

    #[test]
    fn an_event_that_can_not_be_read_is_a_change() {
        let header = |code: u32| -> Vec<u8> {
            [24_u32, 1, 1, 2, 7, code].iter().flat_map(|n| n.to_le_bytes()).collect()
        };
        for (bytes, expected, story) in [
            (header(13), true, "link on"),
            (header(20), false, "link quality"),
            ([header(20), header(12)].concat(), true, "link quality, then link off"),
            (header(20)[..23].to_vec(), true, "cut"),
            (vec![], false, "nothing"),
        ] {
            assert_eq!(in_kernel_events(&bytes), expected, "{story}");
        }
    }
}
