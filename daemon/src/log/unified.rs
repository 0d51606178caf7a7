//! macOS's unified log. Compiled on macOS only.

use tracing::Subscriber;
use tracing_oslog::OsLogger;
use tracing_subscriber::{Layer, filter::filter_fn, registry::LookupSpan};

use super::category::Category;

/// By which `log show --predicate 'subsystem == "io.tandem"'` finds it.
const SUBSYSTEM: &str = "io.tandem";

/// One layer a category: a logger of the system has one for good.
pub(super) fn layers<S>() -> Vec<Box<dyn Layer<S> + Send + Sync>>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let layer = |category: Category| {
        let is_its = filter_fn(move |metadata| Category::of(metadata.target()) == category);
        OsLogger::new(SUBSYSTEM, category.name()).with_filter(is_its).boxed()
    };
    Category::ALL.into_iter().map(layer).collect()
}
