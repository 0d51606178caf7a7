//! How two nodes come to trust each other: one shows a short one-time code, the other is told it.
//!
//! ```text
//!   joiner  (tandem pair join)                      offerer  (tandem pair init)
//!   hello: SPAKE2 message A            ─────────▶
//!                                      ◀─────────   hello: SPAKE2 message B
//!   introduction, tag                  ─────────▶   a wrong tag is a wrong code: counted, refused
//!                                      ◀─────────   introduction, tag        (or verdict: why not)
//!   verdict, tag                       ─────────▶   pins the joiner
//!   pins the offerer                   ◀─────────   verdict, tag
//! ```
//!
//! The code is the password of a balanced key exchange, so a capture lets nobody try codes, and one
//! who takes part tries one code for each exchange. The joiner proves it first: to break off tells
//! nothing, and every try that could tell something is counted. Nothing exchanged is secret; what
//! the tags protect is whose certificate is pinned. `docs/peer-protocol.md` has it byte by byte.
//!
//! Only `tandem pair init` listens, while it runs; the supervisor never parses a stranger's bytes.

mod attempts;
mod code;
mod connection;
mod discovery;
mod frame;
mod introduction;
mod join;
mod offer;
mod refused;
mod session;
#[cfg(test)]
mod tests;
mod trust;

use std::time::Duration;

pub use code::{Code, NotACode};
pub use discovery::{Advert, BROWSE, DiscoveryError, Found, browse};
pub use introduction::{CERTIFICATE_BYTES_MAX, is_node_name};
pub use join::{JoinError, join};
pub use offer::{Ended, Notice, offer};
pub use refused::Refused;
pub use trust::{Node, Paired, Refusal};

/// How long things may take and how many there may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long an offer stands: as long as it takes to walk to the other machine.
    pub offer: Duration,
    /// How long one exchange may take, whatever comes: it is two round trips and four
    /// multiplications, so this is a thousand times what a slow network needs.
    pub connection: Duration,
    /// How long connecting to one address may take.
    pub connect: Duration,
    /// How long a machine has to wait after its first wrong code; each further one doubles it.
    pub first_pause: Duration,
    /// Most connections to an offer at once. With the longest frame they hold 40 KiB.
    pub connections_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            offer: Duration::from_secs(600),
            connection: Duration::from_secs(10),
            connect: Duration::from_secs(3),
            first_pause: Duration::from_secs(1),
            connections_max: 8,
        }
    }
}
