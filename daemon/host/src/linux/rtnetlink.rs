//! Questions and orders about one interface, by rtnetlink(7).

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressMessage, AddressScope},
    link::{InfoPortKind, LinkAttribute, LinkInfo, LinkMessage},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// Longest answer. The kernel builds one about a link in at most 32 KiB (`NLMSG_GOODSIZE` and its
/// larger retry), about 2 KiB being common.
const ANSWER_BYTES_MAX: usize = 32 * 1024;

/// Longest name of an interface with its closing zero (`IFNAMSIZ`).
const NAME_BYTES_MAX: usize = 16;

/// Prefix of 169.254/16 (RFC 3927, 2.1).
const LINK_LOCAL_PREFIX: u8 = 16;

/// What is asked about an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) hardware_address: Vec<u8>,
    /// Whether it is a port of a bridge; a port of a bond, a team or a VRF is not.
    pub(super) is_bridged: bool,
}

/// Asks about an interface. `ENODEV` if there is none.
pub(super) fn link(name: &str) -> io::Result<Link> {
    if name.is_empty() || name.len() >= NAME_BYTES_MAX || name.contains('\0') {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    let mut question = LinkMessage::default();
    question.attributes.push(LinkAttribute::IfName(name.into()));
    match exchange(RouteNetlinkMessage::GetLink(question), 0)? {
        Some(RouteNetlinkMessage::NewLink(answer)) => Ok(understood(answer)),
        other => Err(io::Error::other(format!("no answer about a link: {other:?}"))),
    }
}

fn understood(answer: LinkMessage) -> Link {
    let mut link =
        Link { index: answer.header.index, hardware_address: Vec::new(), is_bridged: false };
    for attribute in answer.attributes {
        match attribute {
            LinkAttribute::Address(bytes) => link.hardware_address = bytes,
            LinkAttribute::LinkInfo(infos) => {
                link.is_bridged |= infos.contains(&LinkInfo::PortKind(InfoPortKind::Bridge));
            }
            _ => {}
        }
    }
    link
}

/// Takes an interface out of what it is a port of.
pub(super) fn leave(index: u32) -> io::Result<()> {
    let mut order = LinkMessage::default();
    order.header.index = index;
    order.attributes.push(LinkAttribute::Controller(0));
    exchange(RouteNetlinkMessage::SetLink(order), NLM_F_ACK).map(drop)
}

/// Gives an interface a link-local address.
pub(super) fn add_address(index: u32, address: Ipv4Addr) -> io::Result<()> {
    let mut order = AddressMessage::default();
    order.header.family = AddressFamily::Inet;
    order.header.prefix_len = LINK_LOCAL_PREFIX;
    order.header.scope = AddressScope::Link;
    order.header.index = index;
    order.attributes = vec![
        AddressAttribute::Local(IpAddr::V4(address)),
        AddressAttribute::Address(IpAddr::V4(address)),
        AddressAttribute::Broadcast(Ipv4Addr::new(169, 254, 255, 255)),
    ];
    let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
    exchange(RouteNetlinkMessage::NewAddress(order), flags).map(drop)
}

/// Sends one message to the kernel and takes its answer; `None` is an acknowledgement.
fn exchange(message: RouteNetlinkMessage, flags: u16) -> io::Result<Option<RouteNetlinkMessage>> {
    let mut request = NetlinkMessage::from(message);
    request.header.flags = NLM_F_REQUEST | flags;
    request.header.sequence_number = 1;
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);

    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    // Connected to the kernel, so that no process can answer in its place.
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&bytes, 0)?;
    let mut answer = vec![0; ANSWER_BYTES_MAX];
    // The kernel answers within the send, so an answer that is not there never comes.
    let length = socket.recv(&mut &mut answer[..], libc::MSG_DONTWAIT)?;
    answer.truncate(length);
    let answer = NetlinkMessage::deserialize(&answer).map_err(io::Error::other)?;
    match answer.payload {
        NetlinkPayload::InnerMessage(message) => Ok(Some(message)),
        NetlinkPayload::Error(error) if error.code.is_none() => Ok(None),
        NetlinkPayload::Error(error) => Err(error.to_io()),
        other => Err(io::Error::other(format!("an unexpected netlink message: {other:?}"))),
    }
}
