//! Refusals, in OpenAI's shape.

use std::fmt;

use axum::{
    Json,
    http::{HeaderName, HeaderValue, StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

/// What a client is told instead of an answer:
/// `{"error": {"message", "type", "param", "code"}}` with a status that fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) kind: &'static str,
    pub(crate) code: Option<&'static str>,
    pub(crate) param: Option<String>,
    pub(crate) message: String,
    /// After how many seconds it makes sense to try again.
    pub(crate) retry_after_s: Option<u32>,
}

/// Seconds after which a client may try again when the queue was full: some request will have
/// ended by then.
const RETRY_FULL_S: u32 = 2;
/// The same when the engine is not ready: it takes seconds to minutes to load.
const RETRY_NOT_READY_S: u32 = 5;

impl ApiError {
    /// 400: something about the request, not about one field.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            kind: "invalid_request_error",
            code: None,
            param: None,
            message: message.into(),
            retry_after_s: None,
        }
    }

    /// 400: one field of the request. `problem` follows the field's name in the message.
    pub(crate) fn field(param: impl fmt::Display, problem: impl fmt::Display) -> Self {
        Self {
            param: Some(param.to_string()),
            code: Some("invalid_value"),
            ..Self::invalid(format!("'{param}' {problem}."))
        }
    }

    /// 400: a field that OpenAI's API has and this server can't honour.
    pub(crate) fn unsupported(param: impl fmt::Display, what: impl fmt::Display) -> Self {
        Self {
            param: Some(param.to_string()),
            code: Some("unsupported_parameter"),
            ..Self::invalid(format!("{what}; leave '{param}' out."))
        }
    }

    /// Refusals of the HTTP layer.
    pub(crate) fn http(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code: Some(code), ..Self::invalid(message) }
    }

    /// 404: a model that is not served. It never reaches the engine.
    pub(crate) fn model_not_found(model: &str, served: &str) -> Self {
        // The name is the client's: as much of it as helps to find the mistake.
        let shown: String = model.chars().take(200).collect();
        Self {
            param: Some("model".into()),
            ..Self::http(
                StatusCode::NOT_FOUND,
                "model_not_found",
                format!("The model '{shown}' does not exist here; '{served}' is served."),
            )
        }
    }

    /// 400: more prompt than the model's context takes.
    pub(crate) fn context_length(param: &str, prompt_tokens: usize, context_tokens: u32) -> Self {
        Self {
            param: Some(param.into()),
            code: Some("context_length_exceeded"),
            ..Self::invalid(format!(
                "This model's context is {context_tokens} tokens and the prompt has \
                 {prompt_tokens}, which leaves no room for an answer."
            ))
        }
    }

    /// 400: so much prompt that it is not even read to its end.
    pub(crate) fn prompt_too_long(param: &str, context_tokens: u32) -> Self {
        Self {
            param: Some(param.into()),
            code: Some("context_length_exceeded"),
            ..Self::invalid(format!(
                "This model's context is {context_tokens} tokens and the prompt has more; shorten it."
            ))
        }
    }

    /// 429: as many requests as the gateway holds.
    pub(crate) fn queue_full(max_queued: u32) -> Self {
        Self {
            kind: "rate_limit_error",
            retry_after_s: Some(RETRY_FULL_S),
            ..Self::http(
                StatusCode::TOO_MANY_REQUESTS,
                "queue_full",
                format!("The queue is full ({max_queued} generations); try again soon."),
            )
        }
    }

    /// 503: no engine to serve it, or no will to.
    pub(crate) fn unavailable(code: &'static str, reason: impl Into<String>) -> Self {
        Self {
            kind: "service_unavailable_error",
            retry_after_s: Some(RETRY_NOT_READY_S),
            ..Self::http(StatusCode::SERVICE_UNAVAILABLE, code, reason)
        }
    }

    /// 504: the engine got nothing done for `request_timeout_ms`.
    pub(crate) fn timeout(timeout_ms: u64) -> Self {
        Self {
            kind: "server_error",
            ..Self::http(
                StatusCode::GATEWAY_TIMEOUT,
                "request_timeout",
                format!(
                    "The engine got nothing done for {timeout_ms} ms while this request waited \
                     (gateway.request_timeout_ms)."
                ),
            )
        }
    }

    /// 500: our fault or the engine's.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self {
            kind: "server_error",
            ..Self::http(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", message)
        }
    }

    /// The body of the answer, and of an error event in a stream.
    pub(crate) fn to_json(&self) -> Value {
        json!({"error": {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.code,
        }})
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.to_json())).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after_s {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        // OpenAI's clients try some statuses again by themselves; here it would never help.
        if self.retry_after_s.is_none() && self.status.is_client_error() {
            let name = HeaderName::from_static("x-should-retry");
            headers.insert(name, HeaderValue::from_static("false"));
        }
        response
    }
}
