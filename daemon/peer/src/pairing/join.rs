//! The side of a pairing that types the code.

use std::{io, net::SocketAddr};

use tokio::{net::TcpStream, time};

use crate::link;

use super::{
    Limits,
    code::Code,
    frame::{Frame, Kind},
    introduction::Introduction,
    refused::Refused,
    session::{HelloError, Role, Start},
    trust::{Node, Paired, Refusal, read_verdict, verdict},
};

/// Most addresses of one host that are tried; each costs up to `Limits::connect`.
const ADDRESSES_MAX: usize = 8;

/// Why a node could not be joined. Nothing was trusted on either side, but for the last two.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// No address of the host took a connection.
    #[error(
        "nothing answers at {tried}; run `tandem pair init` there, and see that its firewall lets \
         the port in"
    )]
    NotReached {
        /// The addresses.
        tried: String,
        /// Of the last one.
        #[source]
        source: io::Error,
    },
    /// The connection broke.
    #[error("the exchange broke off; nothing was trusted, try again")]
    Broken(#[source] io::Error),
    /// It took too long.
    #[error("the other side took longer than {seconds} s; nothing was trusted, try again")]
    TimedOut {
        /// How long it may take.
        seconds: u64,
    },
    /// The other side ended it.
    #[error("refused; nothing was trusted: {0}")]
    Refused(Refused),
    /// What came is not this protocol.
    #[error("what answers there is not `tandem pair init`, or was altered on its way")]
    NotPairing,
    /// It did not prove that it knows the code.
    #[error(
        "the other side did not prove that it knows the code; nothing was trusted. It is not the \
         machine that shows the code, or its answer was altered on its way"
    )]
    NotProven,
    /// This node does not want the other.
    #[error("{name} is not trusted here: {refusal}")]
    Here {
        /// The other's name.
        name: String,
        /// Why.
        refusal: Refusal,
    },
    /// The other node does not want this one.
    #[error("not trusted there: {0}")]
    There(Refusal),
    /// The other trusts this node, which could not save the other's key.
    #[error(
        "{name} trusts this node now, but its key could not be saved here (the log says why); mend \
         that and pair them again"
    )]
    NotKept {
        /// The other's name.
        name: String,
    },
    /// It broke after both agreed.
    #[error(
        "the connection broke after both agreed: {name} may trust this node, which does not yet \
         trust {name}; pair them again"
    )]
    Unsure {
        /// The other's name.
        name: String,
    },
}

/// Joins the node that shows this code at one of these addresses: both trust each other then, or an
/// error says why not.
///
/// # Errors
///
/// See [`JoinError`].
pub async fn join(
    addresses: &[SocketAddr],
    node: &Node,
    code: &Code,
    limits: &Limits,
) -> Result<Paired, JoinError> {
    let mut stream = connect(addresses, limits).await?;
    let at = stream.peer_addr().map_err(JoinError::Broken)?;
    let mut agreed = None;
    let exchange = exchange(&mut stream, at, node, code, &mut agreed);
    match time::timeout(limits.connection, exchange).await {
        Ok(ended) => ended,
        Err(_) => Err(match agreed {
            Some(name) => JoinError::Unsure { name },
            None => JoinError::TimedOut { seconds: limits.connection.as_secs() },
        }),
    }
}

async fn connect(addresses: &[SocketAddr], limits: &Limits) -> Result<TcpStream, JoinError> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in addresses.iter().take(ADDRESSES_MAX) {
        match time::timeout(limits.connect, link::connect(*address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    let tried: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    Err(JoinError::NotReached { tried: tried.join(", "), source: last })
}

/// `agreed` is set to the other's name once it may trust this node.
async fn exchange(
    stream: &mut TcpStream,
    at: SocketAddr,
    node: &Node,
    code: &Code,
    agreed: &mut Option<String>,
) -> Result<Paired, JoinError> {
    let start = Start::new(Role::Joiner, code);
    start.hello().write(stream).await.map_err(JoinError::Broken)?;
    let hello = read(stream, &[Kind::Hello, Kind::Refused]).await?;
    let mut session = start.finish(&hello).map_err(|error| match error {
        HelloError::Version => JoinError::Refused(Refused::Version),
        HelloError::Malformed => JoinError::NotPairing,
    })?;

    let own = session.seal(Kind::Introduction, &node.introduction());
    own.write(stream).await.map_err(JoinError::Broken)?;
    let answer = read(stream, &[Kind::Introduction, Kind::Verdict, Kind::Refused]).await?;
    let body = session.open(&answer).ok_or(JoinError::NotProven)?;
    if answer.kind == Kind::Verdict {
        let refusal = read_verdict(&body).err().unwrap_or(Refusal::Malformed);
        return Err(JoinError::There(refusal));
    }

    let other = Introduction::parse(&body);
    let judged = other.as_ref().ok_or(Refusal::Malformed).and_then(|other| node.judge(other));
    let sealed = session.seal(Kind::Verdict, &verdict(judged));
    let written = sealed.write(stream).await;
    let name = || other.as_ref().map_or_else(|| "it".to_owned(), |other| other.name.clone());
    judged.map_err(|refusal| JoinError::Here { name: name(), refusal })?;
    written.map_err(JoinError::Broken)?;

    // From here the other may have pinned this node.
    *agreed = Some(name());
    let unsure = |_| JoinError::Unsure { name: name() };
    let answer = Frame::read(stream, &[Kind::Verdict]).await.map_err(unsure)?;
    let body = session.open(&answer).ok_or_else(|| JoinError::Unsure { name: name() })?;
    read_verdict(&body).map_err(JoinError::There)?;
    let other = other.as_ref().ok_or(JoinError::NotPairing)?;
    node.pin(other, at).map_err(|_| JoinError::NotKept { name: name() })
}

/// The next frame; a refusal is an error.
async fn read(stream: &mut TcpStream, kinds: &[Kind]) -> Result<Frame, JoinError> {
    let frame = Frame::read(stream, kinds).await.map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => JoinError::NotPairing,
        _ => JoinError::Broken(error),
    })?;
    match frame.kind {
        Kind::Refused => {
            Err(Refused::parse(&frame.body).map_or(JoinError::NotPairing, JoinError::Refused))
        }
        _ => Ok(frame),
    }
}
