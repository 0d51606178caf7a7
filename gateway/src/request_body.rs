//! Reads and parses a request's body, within bounds of size and time.

use std::time::Duration;

use axum::{
    body::Body,
    extract::Request,
    http::{
        Extensions, HeaderMap, StatusCode,
        header::{CONTENT_ENCODING, CONTENT_TYPE},
    },
};

use http_body_util::BodyExt;

use crate::{Settings, app::App, arrival::Arrival, door, error::ApiError, request::Fields};

/// Most bytes read of a body only to throw them away: some seconds of a fast network.
const DISCARD_BYTES_MAX: usize = 64 << 20;

/// How a gzip file begins; no JSON does.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// The fields of the request, and that its `model` is the served one.
pub(crate) async fn fields(app: &App, request: Request) -> Result<Fields, ApiError> {
    // Also keeps web pages out: a browser asks first before it sends JSON to another site, and
    // gets no leave here.
    if !is_json(request.headers()) {
        discard_unread(app.settings.read_timeout(), request).await;
        return Err(ApiError::http(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_content_type",
            "Send the request with 'Content-Type: application/json'.",
        ));
    }
    if let Some(encoding) = encoding(request.headers()) {
        discard_unread(app.settings.read_timeout(), request).await;
        return Err(compressed(&encoding));
    }
    let (parts, body) = request.into_parts();
    let body = read(&app.settings, &parts.extensions, body).await?;
    // A client may compress and forget to say so.
    if body.starts_with(&GZIP) {
        return Err(compressed("gzip"));
    }
    let fields = Fields::parse(&body)?;
    // One model is served, so a request that names none means that one.
    if let Some(name) = fields.string("model")? {
        app.served_name(name)?;
    }
    Ok(fields)
}

/// The body's encoding, if it has one.
fn encoding(headers: &HeaderMap) -> Option<String> {
    let all = headers.get_all(CONTENT_ENCODING).iter();
    let named: String = all.map(|value| String::from_utf8_lossy(value.as_bytes()) + ",").collect();
    let mut named = named.split(',').map(|one| one.trim().to_ascii_lowercase());
    let name = named.find(|one| !one.is_empty() && one != "identity")?;
    // It is the client's: as much of it as helps to find the mistake.
    Some(name.chars().take(40).collect())
}

fn compressed(encoding: &str) -> ApiError {
    ApiError::http(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported_content_encoding",
        format!(
            "The body is encoded as '{encoding}', which is not taken; send it as it is, without \
             'Content-Encoding'."
        ),
    )
}

/// All of a body. With it the request has arrived, and needs a place from now on.
pub(crate) async fn read(
    settings: &Settings,
    extensions: &Extensions,
    mut body: Body,
) -> Result<Vec<u8>, ApiError> {
    let max_bytes = settings.max_body_bytes as usize;
    let all = async {
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame
                .map_err(|e| ApiError::invalid(format!("The body did not arrive whole: {e}.")))?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            if bytes.len() + data.len() > max_bytes {
                discard(&mut body).await;
                return Err(ApiError::http(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "body_too_large",
                    format!("The body is over {max_bytes} bytes."),
                ));
            }
            if let Some(arrival) = extensions.get::<Arrival>() {
                arrival.grows(data.len())?;
            }
            bytes.extend_from_slice(&data);
        }
        door::arrived(extensions)?;
        Ok(bytes)
    };
    tokio::time::timeout(settings.read_timeout(), all).await.unwrap_or_else(|_| {
        Err(ApiError::http(
            StatusCode::REQUEST_TIMEOUT,
            "body_timeout",
            "The body took too long to arrive.",
        ))
    })
}

/// Reads what is left of a refused body, within reason. A client that still writes when the
/// connection closes is told of a reset by its system and never reads the refusal.
async fn discard(body: &mut Body) {
    let mut left = DISCARD_BYTES_MAX;
    while let Some(Ok(frame)) = body.frame().await {
        let Some(rest) = left.checked_sub(frame.data_ref().map_or(0, |data| data.len())) else {
            return;
        };
        left = rest;
    }
}

/// As [`discard`], for a request that is refused before its body matters.
pub(crate) async fn discard_unread(limit: Duration, request: Request) {
    let mut body = request.into_body();
    let _ = tokio::time::timeout(limit, discard(&mut body)).await;
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = value.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_json_whatever_its_parameters() {
        let headers = |value: &'static str| {
            HeaderMap::from_iter([(CONTENT_TYPE, axum::http::HeaderValue::from_static(value))])
        };
        assert!(is_json(&headers("application/json")));
        assert!(is_json(&headers("Application/JSON; charset=utf-8")));
        for bad in ["text/plain", "", "application/jsonp", "application/x-www-form-urlencoded"] {
            assert!(!is_json(&headers(bad)), "{bad}");
        }
        assert!(!is_json(&HeaderMap::new()));
    }
}
