//! Reads and parses a request's body, within bounds of size and time.

use std::time::Duration;

use axum::{
    body::{Body, to_bytes},
    extract::Request,
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE},
};

use crate::{app::App, error::ApiError, request::Fields};

/// The fields of the request, and that its `model` is the served one.
pub(super) async fn fields(app: &App, request: Request) -> Result<Fields, ApiError> {
    let (parts, body) = request.into_parts();
    // Also keeps web pages out: a browser asks first before it sends JSON to another site, and
    // gets no leave here.
    if !is_json(&parts.headers) {
        return Err(ApiError::http(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_content_type",
            "Send the request with 'Content-Type: application/json'.",
        ));
    }
    let fields = Fields::parse(&read(app, body).await?)?;
    match fields.string("model")? {
        Some(name) => app.check_model(name)?,
        None => return Err(ApiError::field("model", "is required")),
    }
    Ok(fields)
}

async fn read(app: &App, body: Body) -> Result<bytes::Bytes, ApiError> {
    let max_bytes = app.settings.max_body_bytes;
    let limit = Duration::from_millis(app.settings.read_timeout_ms);
    let too_large = || {
        ApiError::http(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body_too_large",
            format!("The body is over {max_bytes} bytes."),
        )
    };
    match tokio::time::timeout(limit, to_bytes(body, max_bytes as usize)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(e)) if is_over_limit(&e) => Err(too_large()),
        Ok(Err(e)) => Err(ApiError::invalid(format!("The body did not arrive: {e}."))),
        Err(_) => Err(ApiError::http(
            StatusCode::REQUEST_TIMEOUT,
            "body_timeout",
            "The body took too long to arrive.",
        )),
    }
}

fn is_over_limit(error: &axum::Error) -> bool {
    let source = std::error::Error::source(error);
    source.is_some_and(|e| e.is::<http_body_util::LengthLimitError>())
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
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
        for bad in [
            "text/plain",
            "",
            "application/jsonp",
            "application/x-www-form-urlencoded",
        ] {
            assert!(!is_json(&headers(bad)), "{bad}");
        }
        assert!(!is_json(&HeaderMap::new()));
    }
}
