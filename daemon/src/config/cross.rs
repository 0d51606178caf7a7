//! Names that must fit where they go, and values that are fine alone but keep each other from serving.

use std::net::IpAddr;

use super::Config;

/// Least `engine.context_tokens`: below it nothing that people ask for fits, and the request that
/// proves serving must: some templates put several hundred tokens of their own before any message, and
/// its answer has up to 256.
const CONTEXT_TOKENS_MIN: u32 = 1_024;

/// Longest name of a model, in bytes: every answer, log line and metric carries it.
const MODEL_NAME_BYTES_MAX: usize = 256;

/// Most further names of the model: they are all listed to every client that asks.
const ALIASES_MAX: usize = 64;

/// Longest name of a machine, in bytes: what pairing takes.
const NODE_NAME_BYTES_MAX: usize = 63;

impl Config {
    /// What goes into requests, answers, reports and labels as it is.
    pub(super) fn check_names(&self, problems: &mut Vec<String>) {
        if self.model.served_id().is_empty() {
            problems.push("model.id is empty and model.path has no last folder to name it".into());
        }
        if self.model.aliases.iter().any(String::is_empty) {
            problems.push("model.aliases has an empty name; remove it".into());
        }
        if self.model.aliases.len() > ALIASES_MAX {
            problems.push(format!(
                "model.aliases has {} names; it must have at most {ALIASES_MAX}",
                self.model.aliases.len()
            ));
        }
        let model = MODEL_NAME_BYTES_MAX;
        let mut names = vec![
            ("node.name", self.node.name.clone(), NODE_NAME_BYTES_MAX),
            ("node.user", self.node.user.clone(), NODE_NAME_BYTES_MAX),
            ("model.id", self.model.served_id(), model),
            ("fallback.id", self.fallback.served_id(), model),
        ];
        names.extend(self.model.aliases.iter().map(|name| ("model.aliases", name.clone(), model)));
        for (key, name, most) in names {
            if name.len() > most {
                let bytes = name.len();
                problems.push(format!("{key} is {bytes} bytes long; it must have at most {most}"));
            } else if name.chars().any(char::is_control) {
                problems.push(format!("{key} has a control character in it; remove it"));
            }
        }
    }

    /// Values that are fine alone and keep each other from serving.
    pub(super) fn check_limits(&self, problems: &mut Vec<String>) {
        let context = self.engine.context_tokens;
        if (1..CONTEXT_TOKENS_MIN).contains(&context) {
            problems.push(format!(
                "engine.context_tokens is {context}; it must be 0 for the model's own limit, or at least \
                 {CONTEXT_TOKENS_MIN}: a chat's template and the request that proves serving must fit"
            ));
        }
        let least = [
            (
                "gateway.request_timeout_ms",
                self.gateway.request_timeout_ms,
                "canary.timeout_ms",
                self.canary.timeout_ms,
                "the gateway ends the request that proves serving before it had its time",
            ),
            (
                "supervise.start_timeout_ms",
                self.supervise.start_timeout_ms,
                "engine.form_timeout_ms",
                self.engine.form_timeout_ms,
                "a start is given up while the ranks still wait for each other",
            ),
            (
                "supervise.stall_timeout_ms",
                self.supervise.stall_timeout_ms,
                "engine.step_timeout_ms",
                self.engine.step_timeout_ms,
                "ranks are restarted in a step that has not yet taken too long",
            ),
            (
                "supervise.silence_timeout_ms",
                self.supervise.silence_timeout_ms,
                "engine.silence_timeout_ms",
                self.engine.silence_timeout_ms,
                "ranks are restarted before they could find out who of them is lost",
            ),
            (
                "reboot.return_timeout_ms",
                self.reboot.return_timeout_ms,
                "supervise.start_timeout_ms",
                self.supervise.start_timeout_ms,
                "a reboot counts as one that did not help while the ranks still start",
            ),
        ];
        for (key, value, other, low, or) in least {
            if value < low {
                problems.push(format!(
                    "{key} is {value}; it must be at least {other} ({low}), or {or}"
                ));
            }
        }
        let (asked, allowed) = (self.engine.wired_limit_mib, self.host.wired_limit_mib);
        if allowed > 0 && asked > allowed {
            problems.push(format!(
                "engine.wired_limit_mib is {asked}; it must be at most host.wired_limit_mib ({allowed}), \
                 or MLX refuses to start"
            ));
        }
        for (key, address) in
            [("gateway.listen", self.gateway.listen), ("pair.listen", self.pair.listen)]
        {
            let ip = address.ip();
            let is_broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
            if ip.is_multicast() || is_broadcast {
                problems.push(format!(
                    "{key} is {address}; it must be an address of this machine, or 0.0.0.0 for all"
                ));
            }
        }
        // What is never reached need not be named; a moment's silence at a start is no absence.
        let (low, high) = (1_000, 86_400_000);
        if !(low..=high).contains(&self.fallback.after_ms) {
            let after_ms = self.fallback.after_ms;
            problems
                .push(format!("fallback.after_ms is {after_ms}; it must be from {low} to {high}"));
        }
    }
}
