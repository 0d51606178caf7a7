//! SIGTERM and SIGINT ask for an orderly unload.

use std::sync::Arc;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use super::shared::Shared;
use crate::EngineError;

/// Listens until dropped.
pub(super) struct Listening(Handle);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Starts listening, on a thread of its own.
pub(super) fn listen(shared: Arc<Shared>) -> Result<Listening, EngineError> {
    let os = |source| EngineError::Os { what: "signals can't be listened for".into(), source };
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(os)?;
    let handle = signals.handle();
    let wait = move || {
        for signal in signals.forever() {
            shared.ask_unload(if signal == SIGTERM { "SIGTERM" } else { "SIGINT" });
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(wait).map_err(os)?;
    Ok(Listening(handle))
}
