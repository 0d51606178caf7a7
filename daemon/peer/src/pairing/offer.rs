//! The side of a pairing that shows the code and waits. Anyone may connect to it, so it is written
//! for strangers: nothing is parsed before its length is known, no connection waits for another,
//! and what a connection may hold, last and try is bounded.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use tokio::{
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
    time::{self, Duration, Instant},
};

use super::{
    Limits,
    attempts::Source,
    code::Code,
    connection::{Connection, Offer, Outcome, Progress, Stage},
    trust::{Node, Paired, Refusal},
};

/// Rest after a connection could not be accepted: that comes back at once when files run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How an offer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// A node joined, and both trust each other.
    Paired(Paired),
    /// Too many wrong codes came.
    TooManyWrong,
    /// The time was up.
    NobodyCame,
}

/// What the operator is told while an offer stands. Each is logged too.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Notice {
    /// A wrong code.
    #[error("a wrong code came from {source_ip}; {left} more end this offer")]
    WrongCode {
        /// From where.
        source_ip: IpAddr,
        /// How many more are allowed.
        left: u32,
    },
    /// The code was right, and this node does not want the other.
    #[error("{name} ({source_ip}) has the code but is not trusted: {refusal}")]
    Here {
        /// From where.
        source_ip: IpAddr,
        /// How it calls itself; "it" where that made no sense.
        name: String,
        /// Why.
        refusal: Refusal,
    },
    /// The code was right, and the other does not want this node.
    #[error("{name} ({source_ip}) has the code but does not trust this node: {refusal}")]
    There {
        /// From where.
        source_ip: IpAddr,
        /// Its name.
        name: String,
        /// Why.
        refusal: Refusal,
    },
    /// The code was right, and then the connection broke or was tampered with.
    #[error("{source_ip} has the code but broke off; it may try again")]
    Broken {
        /// From where.
        source_ip: IpAddr,
    },
}

/// Waits on a listener until a node with the code was paired, too many wrong codes came, or the
/// time is up. `notice` is called with what the operator should see.
pub async fn offer(
    listener: &TcpListener,
    node: Node,
    code: Code,
    limits: &Limits,
    mut notice: impl FnMut(&Notice),
) -> Ended {
    let began = Instant::now();
    let offer = Arc::new(Offer::new(node, code, began, limits.first_pause));
    let mut connections = Connections { tasks: JoinSet::new(), open: Vec::new() };
    let ended = loop {
        tokio::select! {
            () = time::sleep_until(began + limits.offer) => break Ended::NobodyCame,
            accepted = listener.accept() => match accepted {
                Ok((stream, from)) => connections.take_in(&offer, stream, from, limits),
                Err(error) => {
                    tracing::debug!(%error, "a connection could not be accepted");
                    time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(outcome) = connections.next() => match outcome {
                Outcome::Paired(paired) => return Ended::Paired(paired),
                Outcome::Told(told) => {
                    tell(&told, &mut notice);
                    if matches!(told, Notice::WrongCode { left: 0, .. }) {
                        break Ended::TooManyWrong;
                    }
                }
                Outcome::Nothing => {}
            },
        }
    };
    // One whose code was right may be pinned already; it has its own time limit.
    connections.drop_unjudged();
    while let Some(outcome) = connections.next().await {
        match outcome {
            Outcome::Paired(paired) => return Ended::Paired(paired),
            Outcome::Told(told) => tell(&told, &mut notice),
            Outcome::Nothing => {}
        }
    }
    ended
}

fn tell(told: &Notice, notice: &mut impl FnMut(&Notice)) {
    tracing::warn!("{told}");
    notice(told);
}

struct Connections {
    tasks: JoinSet<Outcome>,
    /// Those not dropped, oldest first.
    open: Vec<Open>,
}

struct Open {
    source: Source,
    progress: Progress,
    task: AbortHandle,
}

impl Connections {
    fn take_in(
        &mut self,
        offer: &Arc<Offer>,
        stream: TcpStream,
        from: SocketAddr,
        limits: &Limits,
    ) {
        if self.open.len() >= limits.connections_max {
            let rows: Vec<_> = self.open.iter().map(|o| (o.source, o.progress.stage())).collect();
            let Some(victim) = victim(&rows) else { return };
            self.open.remove(victim).task.abort();
        }
        let progress = Progress::default();
        let connection = Connection::new(offer.clone(), stream, from, progress.clone());
        let task = self.tasks.spawn(connection.run(limits.connection));
        self.open.push(Open { source: Source::of(from.ip()), progress, task });
    }

    /// The next connection that ended; `None` while there is none at all.
    async fn next(&mut self) -> Option<Outcome> {
        let (id, outcome) = match self.tasks.join_next_with_id().await? {
            Ok((id, outcome)) => (id, outcome),
            Err(error) => (error.id(), Outcome::Nothing),
        };
        self.open.retain(|open| open.task.id() != id);
        Some(outcome)
    }

    fn drop_unjudged(&mut self) {
        for open in &self.open {
            if open.progress.stage() < Stage::Judged {
                open.task.abort();
            }
        }
    }
}

/// Which connection makes room for a new one: of the source that has most, the one that has come
/// least far, the oldest of those. So neither connections that never say anything nor many from one
/// place keep out an honest join, which is through in a moment.
fn victim(open: &[(Source, Stage)]) -> Option<usize> {
    let crowd = |source: Source| open.iter().filter(|(other, _)| *other == source).count();
    open.iter()
        .enumerate()
        .filter(|(_, (_, stage))| *stage < Stage::Judged)
        .min_by_key(|(_, (source, stage))| (usize::MAX - crowd(*source), *stage))
        .map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_made_by_the_largest_crowd_its_least_far_and_its_oldest() {
        use Stage::{Connected as C, Greeted as G, Judged as J};
        type Row<'a> = (&'a [(u8, Stage)], Option<usize>);
        let rows: [Row; 6] = [
            (&[(1, C), (1, C)], Some(0)),
            (&[(1, G), (1, C), (1, C)], Some(1)),
            (&[(2, C), (1, G), (1, G)], Some(1)),
            (&[(2, C), (1, J), (1, G)], Some(2)),
            (&[(2, C), (1, J)], Some(0)),
            (&[(1, J)], None),
        ];
        for (open, expected) in rows {
            let of = |n: u8| Source::of(IpAddr::from([10, 0, 0, n]));
            let open: Vec<_> = open.iter().map(|(n, stage)| (of(*n), *stage)).collect();
            assert_eq!(victim(&open), expected, "{open:?}");
        }
    }
}
