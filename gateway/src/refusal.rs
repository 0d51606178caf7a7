//! Gives the refusals that the HTTP library writes by itself a body in OpenAI's shape. It has no hook
//! for them, and they leave before any route is asked.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::error::ApiError;

/// Longest of these heads; a real one has about a hundred bytes.
const HEAD_BYTES_MAX: usize = 512;

/// A stream on which bare refusals are spoken.
pub(crate) struct Spoken<S> {
    inner: S,
    /// What is written in place of a head, and how much of it is.
    instead: Option<(Vec<u8>, usize)>,
}

impl<S> Spoken<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self { inner, instead: None }
    }
}

/// The refusal in place of this head, if it is a bare one of the library: each of the routes has an
/// id, and a body cannot look like one, since no JSON holds a bare line break.
fn spoken(head: &[u8]) -> Option<Vec<u8>> {
    if head.len() > HEAD_BYTES_MAX {
        return None;
    }
    let head = std::str::from_utf8(head).ok()?;
    let fields = head.strip_prefix("HTTP/1.")?.strip_suffix("\r\n\r\n")?.to_ascii_lowercase();
    if !fields.contains("content-length: 0") || fields.contains("x-request-id") {
        return None;
    }
    let status: u16 = fields.split(' ').nth(1)?.parse().ok()?;
    let status = StatusCode::from_u16(status).ok().filter(StatusCode::is_client_error)?;
    let (code, message) = match status {
        StatusCode::URI_TOO_LONG => ("uri_too_long", "The request's path is too long."),
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
            ("headers_too_large", "The request's headers are too large or too many.")
        }
        _ => ("bad_request", "This is not an HTTP request that can be read without doubt."),
    };
    let body = ApiError::http(status, code, message).to_json().to_string();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    Some((head + &body).into_bytes())
}

impl<S: AsyncWrite + Unpin> Spoken<S> {
    /// Writes what stands in place of `head`, if anything does; then the head counts as written.
    fn poll_instead(
        &mut self,
        context: &mut Context<'_>,
        head: &[u8],
    ) -> Poll<Option<io::Result<usize>>> {
        if self.instead.is_none() {
            self.instead = spoken(head).map(|text| (text, 0));
        }
        let Some((text, written)) = &mut self.instead else {
            return Poll::Ready(None);
        };
        while *written < text.len() {
            match ready!(Pin::new(&mut self.inner).poll_write(context, &text[*written..])) {
                Ok(0) => return Poll::Ready(Some(Err(io::ErrorKind::WriteZero.into()))),
                Ok(more) => *written += more,
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
        self.instead = None;
        Poll::Ready(Some(Ok(head.len())))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Spoken<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Spoken<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match ready!(self.poll_instead(context, bytes)) {
            Some(result) => Poll::Ready(result),
            None => Pin::new(&mut self.inner).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut filled = slices.iter().filter(|slice| !slice.is_empty());
        if let (Some(only), None) = (filled.next(), filled.next()) {
            return self.poll_write(context, only);
        }
        Pin::new(&mut self.inner).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bare_refusals_are_spoken() {
        for (status, code) in [
            ("400 Bad Request", "bad_request"),
            ("414 URI Too Long", "uri_too_long"),
            ("431 Request Header Fields Too Large", "headers_too_large"),
        ] {
            let bare =
                format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
            let text = String::from_utf8(spoken(bare.as_bytes()).unwrap()).unwrap();
            assert!(text.starts_with(&format!("HTTP/1.1 {}", &status[..3])), "{text}");
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("content-length: {}", body.len())));
            let body: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(body["error"]["code"], code);
        }
        for other in [
            "HTTP/1.1 100 Continue\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 404 Not Found\r\nx-request-id: a\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n{}",
            "data: HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n",
            "",
        ] {
            assert_eq!(spoken(other.as_bytes()), None, "{other}");
        }
    }
}
