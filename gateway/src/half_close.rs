//! Tells a client that has sent all it will ever send from one that is gone. Both end their half of the
//! connection, and some tools do so behind every request (`nc -N`). A word sent to who is gone is
//! answered by a reset; so an interim response, which clients skip, is sent to find out.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};

/// The word (RFC 9110, section 15.2: any number of these may come before an answer).
const INTERIM: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// How often the connection is looked at for the reset, and when first: on a network that is near it
/// comes at once.
const LOOK_EVERY: Duration = Duration::from_millis(20);
const FIRST_LOOK: Duration = Duration::from_millis(2);

/// What the HTTP side knows of the exchange on a connection.
#[derive(Clone, Default)]
pub(crate) struct Exchange(Arc<State>);

#[derive(Default)]
struct State {
    /// A request is being answered.
    is_open: AtomicBool,
    /// It may be sent an interim response: it is the first on its connection, and of HTTP/1.1.
    may_interrupt: AtomicBool,
}

impl Exchange {
    pub(crate) fn begin(&self, may_interrupt: bool) {
        self.0.may_interrupt.store(may_interrupt, Ordering::Relaxed);
        self.0.is_open.store(true, Ordering::Relaxed);
    }

    /// The head of the answer is there.
    pub(crate) fn answered(&self) {
        self.0.may_interrupt.store(false, Ordering::Relaxed);
    }

    pub(crate) fn end(&self) {
        self.0.is_open.store(false, Ordering::Relaxed);
    }
}

/// A connection whose other half may end before its request is answered.
pub(crate) struct HalfClose {
    stream: TcpStream,
    exchange: Exchange,
    has_written: bool,
    /// Set once the client has ended its half and may still be there.
    look: Option<Pin<Box<Sleep>>>,
}

impl HalfClose {
    pub(crate) fn new(stream: TcpStream, exchange: Exchange) -> Self {
        Self { stream, exchange, has_written: false, look: None }
    }

    /// The end of what the client sends; or nothing yet, while it waits for its answer.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let State { is_open, may_interrupt } = &*self.exchange.0;
        if self.look.is_none() {
            let can_ask = may_interrupt.load(Ordering::Relaxed) && !self.has_written;
            if !can_ask || self.stream.try_write(INTERIM).ok() != Some(INTERIM.len()) {
                return Poll::Ready(Ok(()));
            }
        }
        let look = self.look.get_or_insert_with(|| Box::pin(sleep(FIRST_LOOK)));
        loop {
            if !is_open.load(Ordering::Relaxed) {
                return Poll::Ready(Ok(()));
            }
            ready!(look.as_mut().poll(context));
            if let Some(error) = self.stream.take_error()? {
                return Poll::Ready(Err(error));
            }
            look.set(sleep(LOOK_EVERY));
        }
    }
}

impl AsyncRead for HalfClose {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.look.is_none() {
            let before = buffer.filled().len();
            ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
            if buffer.filled().len() > before || buffer.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
        }
        self.poll_end(context)
    }
}

impl AsyncWrite for HalfClose {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.has_written = true;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.has_written = true;
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
