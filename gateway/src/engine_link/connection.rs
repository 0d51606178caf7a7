//! The task that owns the socket: carries events to [`LinkState`] and does what it says.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use tandem_wire::{FRAME_BYTES_MAX, FromRank, ToRank};
use tokio::{
    io::AsyncWriteExt,
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{sleep_until, timeout},
};
use tokio_util::codec::{FramedRead, LengthDelimitedCodec};

use super::{
    Command, EngineStatus, Load, Outlet, Progress,
    state::{Action, Event, LinkState},
};

/// Pauses between attempts to connect: the first, and what doubling stops at. The engine takes a
/// second or more to come back, and a connect to a missing socket costs nothing.
const RETRY: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_millis(1_000);

/// How long the rank may leave a frame unread. It reads on a thread of its own, so this long a
/// silence means that it hangs.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs until all handles are gone.
pub(super) async fn own(
    socket: PathBuf,
    max_submitted: usize,
    mut commands: mpsc::UnboundedReceiver<Command>,
    publisher: watch::Sender<EngineStatus>,
    weigher: watch::Sender<Load>,
) {
    let mut state = LinkState::new(max_submitted, Instant::now());
    let mut outlets = HashMap::new();
    let mut wire = Wire::Down { retry_at: Instant::now(), pause: RETRY };
    loop {
        let wake = state.next_wake();
        let event = tokio::select! {
            command = commands.recv() => match command {
                Some(command) => event_of(command, &mut outlets),
                None => return,
            },
            event = wire.next(&socket) => event,
            () = sleep_until(wake.unwrap_or_else(Instant::now).into()), if wake.is_some() => {
                Event::Tick
            }
        };
        let closing = apply(&mut state, event, &mut outlets, &wire);
        if let Some(why) = closing {
            wire = Wire::Down { retry_at: Instant::now() + RETRY_MAX, pause: RETRY_MAX };
            apply(&mut state, Event::Disconnected(why), &mut outlets, &wire);
        }
        publish(&publisher, state.status());
        weigher.send_replace(state.load());
    }
}

fn event_of(command: Command, outlets: &mut HashMap<u64, (u32, Outlet)>) -> Event {
    match command {
        Command::Submit { id, slot, job, outlet } => {
            outlets.insert(id, (slot, outlet));
            Event::Submit { id, job: *job }
        }
        Command::Cancel { id } => {
            outlets.remove(&id);
            Event::Cancel { id }
        }
        Command::FailAll => Event::FailAll,
    }
}

/// Lets the state take an event and does what follows; gives why the connection must be closed,
/// if it must.
fn apply(
    state: &mut LinkState,
    event: Event,
    outlets: &mut HashMap<u64, (u32, Outlet)>,
    wire: &Wire,
) -> Option<String> {
    let mut closing = None;
    for action in state.handle(Instant::now(), event) {
        match action {
            // If the writer is gone, its end is the next event and the flight is submitted anew.
            Action::Send(message) => wire.send(message.into()),
            Action::Deliver { id, progress } => {
                let last = matches!(progress, Progress::Done(_) | Progress::Failed(_));
                if let Some((slot, outlet)) = outlets.get(&id) {
                    // A reader that is gone has sent a cancel, too.
                    let _ = outlet.send((*slot, progress));
                }
                if last {
                    outlets.remove(&id);
                }
            }
            Action::Close(why) => closing = Some(why),
        }
    }
    closing
}

fn publish(publisher: &watch::Sender<EngineStatus>, status: EngineStatus) {
    publisher.send_if_modified(|current| {
        let changed = *current != status;
        if changed {
            match status.ready() {
                Ok(_) => tracing::info!(epoch = status.epoch, "the engine takes requests"),
                Err(reason) => tracing::info!(epoch = status.epoch, "not ready: {reason}"),
            }
            *current = status;
        }
        changed
    });
}

enum Wire {
    Down {
        retry_at: Instant,
        pause: Duration,
    },
    Up {
        reader: FramedRead<OwnedReadHalf, LengthDelimitedCodec>,
        /// Holds one message: the next one is sent when this was written.
        outbox: mpsc::Sender<ToRank>,
        written: mpsc::Receiver<()>,
        writer: JoinHandle<String>,
    },
}

impl Wire {
    /// Waits for what the connection does next. Can be dropped and called again without loss.
    async fn next(&mut self, socket: &Path) -> Event {
        match self {
            Self::Down { retry_at, pause } => {
                sleep_until((*retry_at).into()).await;
                match UnixStream::connect(socket).await {
                    Ok(stream) => {
                        *self = Self::up(stream);
                        Event::Connected
                    }
                    Err(e) => {
                        *pause = (*pause * 2).min(RETRY_MAX);
                        *retry_at = Instant::now() + *pause;
                        Event::Disconnected(format!("{}: {e}", socket.display()))
                    }
                }
            }
            Self::Up { reader, written, writer, .. } => {
                let why = tokio::select! {
                    frame = reader.next() => match frame {
                        Some(Ok(body)) => match tandem_wire::decode::<FromRank>(&body) {
                            Ok(message) => return Event::Message(message),
                            Err(e) => e.to_string(),
                        },
                        Some(Err(e)) => e.to_string(),
                        None => "the rank closed the connection".to_owned(),
                    },
                    Some(()) = written.recv() => return Event::Written,
                    end = writer => end.unwrap_or_else(|e| e.to_string()),
                };
                *self = Self::Down { retry_at: Instant::now() + RETRY, pause: RETRY };
                Event::Disconnected(why)
            }
        }
    }

    fn up(stream: UnixStream) -> Self {
        let (read, write) = stream.into_split();
        let reader = LengthDelimitedCodec::builder()
            .little_endian()
            .length_field_type::<u32>()
            .max_frame_length(FRAME_BYTES_MAX)
            .new_read(read);
        let (outbox, queue) = mpsc::channel(1);
        let (done, written) = mpsc::channel(1);
        Self::Up { reader, outbox, written, writer: tokio::spawn(write_all(write, queue, done)) }
    }

    fn send(&self, message: ToRank) {
        if let Self::Up { outbox, .. } = self {
            let _ = outbox.try_send(message);
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if let Self::Up { writer, .. } = self {
            writer.abort();
        }
    }
}

/// Writes until told no more, and tells of each message when it is written; gives why it ended.
async fn write_all(
    mut stream: OwnedWriteHalf,
    mut queue: mpsc::Receiver<ToRank>,
    done: mpsc::Sender<()>,
) -> String {
    while let Some(message) = queue.recv().await {
        let frame = match tandem_wire::encode(&message) {
            Ok(frame) => frame,
            Err(e) => return e.to_string(),
        };
        match timeout(WRITE_TIMEOUT, stream.write_all(&frame)).await {
            Ok(Ok(())) => drop(done.send(()).await),
            Ok(Err(e)) => return format!("writing to the rank failed: {e}"),
            Err(_) => return "the rank does not read".to_owned(),
        }
    }
    "done".to_owned()
}
