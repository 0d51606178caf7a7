//! One scrape's metrics.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use prometheus_client::{
    encoding::text,
    metrics::{counter::Counter, family::Family, gauge::Gauge, info::Info},
    registry::Registry,
};

type Labels = Vec<(&'static str, String)>;
type Float = Gauge<f64, AtomicU64>;

/// A registry that lives for one scrape.
pub(super) struct Sheet(Registry);

impl Sheet {
    pub(super) fn new() -> Self {
        Self(Registry::with_prefix("tandem"))
    }

    /// A metric whose label is all it says; its name gets `_info`.
    pub(super) fn info(&mut self, name: &str, help: &str, label: &'static str, value: &str) {
        self.0.register(name, help, Info::new(vec![(label, value.to_owned())]));
    }

    /// No line if there is no value.
    pub(super) fn gauge(&mut self, name: &str, help: &str, value: Option<f64>) {
        if let Some(value) = value {
            let gauge = Float::default();
            gauge.set(value);
            self.0.register(name, help, gauge);
        }
    }

    pub(super) fn gauges(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        rows: impl IntoIterator<Item = (String, f64)>,
    ) {
        let family = Family::<Labels, Float>::default();
        for (of, value) in rows {
            family.get_or_create(&vec![(label, of)]).set(value);
        }
        self.0.register(name, help, family);
    }

    /// Its name gets `_total`. No line if there is no value.
    pub(super) fn counter(&mut self, name: &str, help: &str, value: Option<u64>) {
        if let Some(value) = value {
            let counter = Counter::<u64>::default();
            counter.inner().store(value, Ordering::Relaxed);
            self.0.register(name, help, counter);
        }
    }

    /// Its name gets `_total`. What was never counted is 0.
    pub(super) fn counters(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        rows: impl IntoIterator<Item = (String, Option<u64>)>,
    ) {
        let family = Family::<Labels, Counter>::default();
        for (of, value) in rows {
            let counter = family.get_or_create(&vec![(label, of)]);
            counter.inner().store(value.unwrap_or(0), Ordering::Relaxed);
        }
        self.0.register(name, help, family);
    }

    pub(super) fn text(&self) -> Result<String, fmt::Error> {
        let mut encoded = String::new();
        text::encode(&mut encoded, &self.0)?;
        Ok(encoded)
    }
}
