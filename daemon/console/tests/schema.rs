//! `docs/status.schema.json` is what the types say.

#![allow(clippy::unwrap_used)]

use schemars::JsonSchema;
use tandem_policy::{Event, Status};

/// The JSON of the status endpoint.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "only its schema is used")]
struct Endpoint {
    /// `GET /status`.
    status: Status,
    /// The data of one message of `GET /events`.
    event: Event,
}

#[test]
fn the_schema_that_is_kept_is_that_of_the_types() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/status.schema.json");
    let wanted = serde_json::to_value(schemars::schema_for!(Endpoint)).unwrap();
    if std::env::var_os("TANDEM_BLESS").is_some() {
        std::fs::write(path, serde_json::to_string_pretty(&wanted).unwrap() + "\n").unwrap();
    }
    let kept = std::fs::read(path).unwrap_or_default();
    assert!(
        serde_json::from_slice::<serde_json::Value>(&kept).ok() == Some(wanted),
        "docs/status.schema.json is not what the types say; if they are right, rewrite it with \
         TANDEM_BLESS=1 cargo test -p tandem-console"
    );
}
