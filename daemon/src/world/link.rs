//! The supervisor's connection to one rank's socket.

use std::{path::PathBuf, time::Duration};

use tandem_wire::{FRAME_BYTES_MAX, FromRank, PROTOCOL_VERSION, ToRank, decode, encode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    time::{sleep, timeout},
};
use tracing::{debug, warn};

use super::child::{Shared, Who};

/// Pause between two tries to connect: a rank opens its socket within milliseconds of its start.
const RETRY: Duration = Duration::from_millis(100);

/// How often a rank is asked for its vitals.
const VITALS_PERIOD: Duration = Duration::from_secs(1);

/// How long `Hello` may take: it is the first thing that a rank sends.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest silence of a rank: it answers for its vitals once a second, whatever it computes. Then the
/// connection counts as lost, and so does what was known of the rank.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(5);

/// Orders that may wait to be sent. One unload is all that is ever sent by the turn.
const ORDERS_MAX: usize = 4;

/// Keeps a connection to a rank's socket for as long as the process runs. `number` is the one that the
/// rank itself goes by.
pub(super) async fn keep(shared: Shared, rank: u32, number: u32, pid: u32, socket: PathBuf) {
    let who = Who::Rank(rank);
    while shared.is_running(who, pid) {
        if let Ok(stream) = UnixStream::connect(&socket).await {
            let why = serve(&shared, rank, number, pid, stream).await;
            debug!(rank, "connection to the rank ended: {why}");
            shared.change_child(who, pid, |child| {
                child.phase = None;
                child.vitals = None;
                child.orders = None;
            });
        }
        sleep(RETRY).await;
    }
}

/// Serves one connection until it breaks; returns why it did.
async fn serve(shared: &Shared, rank: u32, number: u32, pid: u32, stream: UnixStream) -> String {
    let (mut reader, writer) = stream.into_split();
    match timeout(HELLO_TIMEOUT, read(&mut reader)).await {
        Ok(Ok(FromRank::Hello(hello))) => {
            if hello.protocol != PROTOCOL_VERSION || hello.rank != number || hello.pid != pid {
                // An old socket of another process; ours will replace it.
                return format!("it says that it is another process: {hello:?}");
            }
            // Whoever has the children's user can say so too, but the kernel knows who speaks.
            let speaker = reader.as_ref().peer_cred().ok().and_then(|speaker| speaker.pid());
            if speaker.and_then(|speaker| u32::try_from(speaker).ok()) != Some(pid) {
                return format!("another process says that it is the rank: {speaker:?}");
            }
        }
        Ok(Ok(_)) => return "it did not say Hello first".into(),
        Ok(Err(reason)) => return reason,
        Err(_) => return "no Hello came".into(),
    }
    let (orders, inbox) = mpsc::channel(ORDERS_MAX);
    shared.change_child(Who::Rank(rank), pid, |child| child.orders = Some(orders));
    tokio::select! {
        reason = listen(shared, rank, pid, reader) => reason,
        reason = talk(writer, inbox) => reason,
    }
}

async fn listen(shared: &Shared, rank: u32, pid: u32, mut reader: OwnedReadHalf) -> String {
    let who = Who::Rank(rank);
    loop {
        let Ok(message) = timeout(SILENCE_TIMEOUT, read(&mut reader)).await else {
            return "it does not answer".into();
        };
        match message {
            Ok(FromRank::Phase { phase, .. }) => {
                shared.change_child(who, pid, |child| child.phase = Some(phase));
            }
            // No reason for a turn of its own: what is decided by counters can wait for the next.
            Ok(FromRank::Vitals(vitals)) => {
                if let Some(child) = shared.facts().child(who).filter(|c| c.pid() == Some(pid)) {
                    child.vitals = Some(vitals);
                }
            }
            Ok(other) => warn!(rank, "unexpected message from the rank: {other:?}"),
            Err(reason) => return reason,
        }
    }
}

async fn talk(mut writer: OwnedWriteHalf, mut inbox: mpsc::Receiver<ToRank>) -> String {
    loop {
        let order = match timeout(VITALS_PERIOD, inbox.recv()).await {
            Ok(Some(order)) => order,
            Ok(None) => return "the rank was replaced".into(),
            Err(_) => ToRank::Vitals,
        };
        let sent = match encode(&order) {
            Ok(frame) => writer.write_all(&frame).await.map_err(|e| e.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(reason) = sent {
            return reason;
        }
    }
}

/// One message.
async fn read(reader: &mut OwnedReadHalf) -> Result<FromRank, String> {
    let length = reader.read_u32_le().await.map_err(|e| e.to_string())? as usize;
    if length > FRAME_BYTES_MAX {
        return Err(format!("a frame of {length} bytes"));
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).await.map_err(|e| e.to_string())?;
    decode(&body).map_err(|e| e.to_string())
}
