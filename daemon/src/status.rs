//! The local status endpoint, and the client that prints it.

mod print;

use std::io::IsTerminal;

use axum::{Json, Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use tokio::{net::TcpListener, sync::watch};
use tracing::error;

use tandem_policy::{Health, SCHEMA, Status};

pub use print::human;

/// `tandem status` found everything serving.
pub const EXIT_HEALTHY: u8 = 0;
/// It starts or is being mended.
pub const EXIT_DEGRADED: u8 = 1;
/// It does not serve, and an operator is needed.
pub const EXIT_NOT_SERVING: u8 = 2;
/// No supervisor answers (`EX_UNAVAILABLE`).
pub const EXIT_UNREACHABLE: u8 = 69;

/// Most bytes of a status that are read: far more than eight ranks and all leaks take.
const STATUS_BYTES_MAX: u64 = 1 << 20;

type Published = watch::Receiver<Option<Status>>;

/// Answers `GET /status` and `GET /healthz` for ever.
pub async fn serve(listener: TcpListener, published: Published) {
    let router = Router::new()
        .route("/status", get(status))
        .route("/healthz", get(|| async { "ok\n" }))
        .with_state(published);
    if let Err(error) = axum::serve(listener, router).await {
        error!("the status endpoint ended: {error}");
    }
}

async fn status(State(published): State<Published>) -> impl IntoResponse {
    match published.borrow().clone() {
        Some(status) => Json(status).into_response(),
        None => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

/// Asks a supervisor, prints what it says, and returns the exit code.
pub fn show(url: &str, json: bool) -> u8 {
    let status = match ask(url) {
        Ok(status) => status,
        Err(reason) => {
            eprintln!(
                "no supervisor answers at {url}: {reason}\n\
                 Is one running with this config? (--config or --url names another)"
            );
            return EXIT_UNREACHABLE;
        }
    };
    if json {
        match serde_json::to_string_pretty(&status) {
            Ok(text) => println!("{text}"),
            Err(error) => eprintln!("{error}"),
        }
    } else {
        print!("{}", human(&status, std::io::stdout().is_terminal()));
    }
    match status.health {
        Health::Healthy => EXIT_HEALTHY,
        Health::Degraded => EXIT_DEGRADED,
        Health::NotServing => EXIT_NOT_SERVING,
    }
}

fn ask(url: &str) -> Result<Status, String> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(std::time::Duration::from_secs(5)))
        .proxy(None)
        .build()
        .into();
    let mut answer = agent
        .get(format!("{}/status", url.trim_end_matches('/')))
        .call()
        .map_err(|e| e.to_string())?;
    let text = answer
        .body_mut()
        .with_config()
        .limit(STATUS_BYTES_MAX)
        .read_to_string()
        .map_err(|e| e.to_string())?;
    let value: serde_json::Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
    match value.get("schema").and_then(serde_json::Value::as_u64) {
        Some(schema) if schema == u64::from(SCHEMA) => {
            serde_json::from_value(value).map_err(|e| e.to_string())
        }
        other => Err(format!(
            "it answers in schema {}, this command reads {SCHEMA}; use the same version of both",
            other.map_or("none".into(), |n| n.to_string())
        )),
    }
}
