//! MLX's errors as values.
//!
//! mlx-c's default handler prints and calls `exit`; `mlx-rs` replaces it by one whose message only
//! `mlx-rs` can read. Ours replaces both, so that the calls made here and those made by `mlx-rs`
//! report through one place.

#![allow(unsafe_code)]

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_void};
use std::sync::Once;

use mlx_rs::Array;
use mlx_rs::error::{ConversionError, Exception};

use crate::EngineError;

thread_local! {
    static LAST: Cell<Option<String>> = const { Cell::new(None) };
}

static INSTALL: Once = Once::new();

extern "C" fn keep_message(message: *const c_char, _data: *mut c_void) {
    // SAFETY: mlx-c passes a NUL-terminated string that lives until the handler returns.
    let message = unsafe { CStr::from_ptr(message) }.to_string_lossy().into_owned();
    LAST.set(Some(message));
}

/// Makes every MLX error a value instead of an exit. Call before the first MLX call; calling again
/// does nothing.
pub fn install_error_handler() {
    INSTALL.call_once(|| {
        // mlx-rs installs its own handler once, at its first operation: let that pass first.
        let _ = Array::from_int(0).abs();
        // SAFETY: the handler is a plain function without data, valid for ever.
        unsafe { mlx_sys::mlx_set_error_handler(Some(keep_message), std::ptr::null_mut(), None) };
    });
}

/// MLX's message for the call on this thread that just failed.
pub(super) fn last_message() -> String {
    LAST.take().unwrap_or_else(|| "MLX gave no reason".to_owned())
}

/// Adds what was being computed to a failed MLX call.
pub trait During<T> {
    /// Turns MLX's error into [`EngineError::Mlx`].
    fn during(self, what: &'static str) -> Result<T, EngineError>;
}

impl<T> During<T> for Result<T, Exception> {
    fn during(self, what: &'static str) -> Result<T, EngineError> {
        self.map_err(|exception| EngineError::Mlx { what, message: explain(&exception) })
    }
}

impl<T> During<T> for Result<T, ConversionError> {
    fn during(self, what: &'static str) -> Result<T, EngineError> {
        self.map_err(|error| EngineError::Mlx {
            what,
            message: LAST.take().unwrap_or_else(|| error.to_string()),
        })
    }
}

fn explain(exception: &Exception) -> String {
    match LAST.take() {
        Some(message) => format!("{message} ({})", exception.location()),
        None => exception.to_string(),
    }
}

/// Inside a computation MLX's errors travel with `?`; the phase that runs it names itself with
/// [`During`].
impl From<Exception> for EngineError {
    fn from(exception: Exception) -> Self {
        Self::Mlx { what: "compute", message: explain(&exception) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_operation_is_an_error_with_mlx_own_words() {
        install_error_handler();
        let a = Array::from_slice(&[1.0f32, 2.0], &[2]);
        let b = Array::from_slice(&[1.0f32, 2.0, 3.0], &[3]);
        let error = a.add(&b).during("adding what can't be added").unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("adding what can't be added: "), "{text}");
        assert!(text.contains("broadcast"), "{text}");
    }
}
