//! The frame that ends an exchange before both sides have proven the code. Anyone on the way can
//! forge it, so it is a hint for the operator and changes nothing.

use std::time::Duration;

use super::frame::{Frame, Kind};

/// Why an exchange was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The code is not the one shown there.
    #[error("the code is wrong; look at the one that `tandem pair init` shows there")]
    WrongCode,
    /// After a wrong code this machine has to wait.
    #[error("a wrong code was sent from here before; try again in {seconds} s")]
    Paused {
        /// Until it may try again, rounded up.
        seconds: u16,
    },
    /// Another machine is being paired, or the offer has ended.
    #[error("it is pairing with another machine, or has just ended; look at its terminal")]
    Busy,
    /// It speaks another version of the protocol.
    #[error("it speaks another version of the protocol; install the same tandem on both")]
    Version,
}

impl Refused {
    pub(super) fn paused(rest: Duration) -> Self {
        let seconds = rest.as_secs() + u64::from(rest.subsec_nanos() > 0);
        Self::Paused { seconds: u16::try_from(seconds).unwrap_or(u16::MAX) }
    }

    pub(super) fn frame(self) -> Frame {
        let (number, seconds) = match self {
            Self::WrongCode => (1, 0),
            Self::Paused { seconds } => (2, seconds),
            Self::Busy => (3, 0),
            Self::Version => (4, 0),
        };
        let [high, low] = u16::to_be_bytes(seconds);
        Frame { kind: Kind::Refused, body: vec![number, high, low] }
    }

    /// Reads it back; `None` for what this version does not know.
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        match *body {
            [1, ..] => Some(Self::WrongCode),
            [2, high, low] => Some(Self::Paused { seconds: u16::from_be_bytes([high, low]) }),
            [3, ..] => Some(Self::Busy),
            [4, ..] => Some(Self::Version),
            _ => None,
        }
    }
}
