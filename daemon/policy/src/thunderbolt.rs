//! Thunderbolt ports: which interface and RDMA device a port has, and which machine is at the other end.

use serde::{Deserialize, Serialize};

/// Most ports of one machine; more are not from us. A Mac Studio has six.
pub const PORTS_MAX: usize = 8;

/// One Thunderbolt port of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ThunderboltPort {
    /// Its network interface, such as `en5`.
    pub interface: String,
    /// Its RDMA device, such as `rdma_en5`; absent if the system lists none.
    pub rdma_device: Option<String>,
    /// UUID of its own Thunderbolt domain: what the other end sees of it.
    pub domain_uuid: String,
    /// UUID of the domain at the other end of its cable; absent without one.
    pub peer_domain_uuid: Option<String>,
}
