//! The `[gateway]` section of `tandem.toml`.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::auth;

/// How the HTTP API behaves. Every field has a default; see `config/tandem.toml` for the reason of
/// each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Address and port to listen on.
    pub listen: SocketAddr,
    /// TCP port of the node with rank 0 that the other nodes' gateways proxy to; not 0. Unused where
    /// all ranks are on one node.
    pub peer_port: u16,
    /// Keys that clients may present, hashed as [`crate::hash_api_key`] prints them.
    pub api_keys: Vec<String>,
    /// Serve clients beyond this machine without any key.
    pub allow_unauthenticated_network: bool,
    /// Ask clients on this machine for a key too. Needed behind a reverse proxy on this machine,
    /// since all its clients seem to come from loopback.
    pub require_key_on_loopback: bool,
    /// Most bytes in the body of a request.
    pub max_body_bytes: u32,
    /// Most open connections; one more gets 503.
    pub max_connections: u32,
    /// Most generations (choices of requests) waiting or running; one more gets 429.
    pub max_queued: u32,
    /// Most of these handed to rank 0 at once; at most what `[engine]` takes (`max_active` plus
    /// `max_queued`), or the rank refuses and the gateway tries again later.
    pub max_submitted: u32,
    /// Most choices a request may ask for with `n`, and most prompts in one completion request.
    pub max_choices: u32,
    /// Tokens to generate when a request says nothing; always cut to what the context leaves.
    pub max_tokens_default: u32,
    /// Where a sampling value comes from that a request does not give.
    pub sampling_defaults: SamplingDefaults,
    /// Most time that the engine may get nothing done at all while a request waits for it, in
    /// milliseconds. Neither queueing nor a long prompt counts.
    pub request_timeout_ms: u64,
    /// Most time for a request's head or body to arrive, and for an idle connection to stay, in
    /// milliseconds.
    pub read_timeout_ms: u64,
    /// Most time that a client may leave what is sent unread, in milliseconds.
    pub write_timeout_ms: u64,
    /// Longest silence on a stream before a life sign is sent, in milliseconds.
    pub keep_alive_ms: u64,
    /// What a life sign is.
    pub keep_alive: KeepAlive,
    /// Most time for running requests to end after SIGTERM, in milliseconds.
    pub drain_timeout_ms: u64,
}

/// Where sampling values come from that a request does not give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SamplingDefaults {
    /// The model's `generation_config.json` where it has them, else as [`Self::Openai`].
    Model,
    /// `temperature` 1 and everything else off, as in OpenAI's documentation.
    Openai,
}

/// What a silent stream sends to show that it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeepAlive {
    /// A comment, which clients skip.
    Comment,
    /// A chunk without text, for clients that count only `data:` lines.
    Chunk,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            peer_port: 52_300,
            api_keys: Vec::new(),
            allow_unauthenticated_network: false,
            require_key_on_loopback: false,
            max_body_bytes: 8 << 20,
            max_connections: 512,
            max_queued: 256,
            max_submitted: 64,
            max_choices: 8,
            max_tokens_default: 4_096,
            sampling_defaults: SamplingDefaults::Model,
            request_timeout_ms: 600_000,
            read_timeout_ms: 30_000,
            write_timeout_ms: 60_000,
            keep_alive_ms: 10_000,
            keep_alive: KeepAlive::Comment,
            drain_timeout_ms: 30_000,
        }
    }
}

impl Settings {
    /// Checks ranges and that the listener is not open to all by accident. The error names the
    /// key, what it holds and what it may hold.
    pub fn validate(&self) -> Result<(), String> {
        self.validate_ranges()?;
        for (index, key) in self.api_keys.iter().enumerate() {
            auth::parse_hash(key).ok_or_else(|| {
                format!(
                    "gateway.api_keys[{index}] is not a hashed key; it must be \"sha256:\" and \
                     64 hex digits, as `tandem key` prints them"
                )
            })?;
        }
        if self.require_key_on_loopback && self.api_keys.is_empty() {
            return Err("gateway.require_key_on_loopback is true but gateway.api_keys is empty; \
                        add a key or nobody can come in"
                .into());
        }
        let beyond = !self.listen.ip().to_canonical().is_loopback();
        if beyond && self.api_keys.is_empty() && !self.allow_unauthenticated_network {
            return Err(format!(
                "gateway.listen is {}, which other machines may reach, and gateway.api_keys is \
                 empty; add a key (`tandem key`), listen on 127.0.0.1, or set \
                 gateway.allow_unauthenticated_network = true",
                self.listen
            ));
        }
        Ok(())
    }

    /// `read_timeout_ms`.
    pub(crate) fn read_timeout(&self) -> Duration {
        Duration::from_millis(self.read_timeout_ms)
    }

    /// `drain_timeout_ms`.
    pub(crate) fn drain_timeout(&self) -> Duration {
        Duration::from_millis(self.drain_timeout_ms)
    }

    fn validate_ranges(&self) -> Result<(), String> {
        let within = |key: &str, value: u64, low: u64, high: u64| {
            if (low..=high).contains(&value) {
                Ok(())
            } else {
                Err(format!("gateway.{key} is {value}; it must be from {low} to {high}"))
            }
        };
        within("peer_port", self.peer_port.into(), 1, u16::MAX.into())?;
        within("max_body_bytes", self.max_body_bytes.into(), 1 << 10, 64 << 20)?;
        within("max_connections", self.max_connections.into(), 1, 16_384)?;
        within("max_queued", self.max_queued.into(), 1, 16_384)?;
        within("max_submitted", self.max_submitted.into(), 1, 4_096)?;
        within("max_choices", self.max_choices.into(), 1, 128)?;
        within("max_tokens_default", self.max_tokens_default.into(), 1, 1 << 20)?;
        within("request_timeout_ms", self.request_timeout_ms, 1_000, 86_400_000)?;
        within("read_timeout_ms", self.read_timeout_ms, 100, 600_000)?;
        within("write_timeout_ms", self.write_timeout_ms, 100, 600_000)?;
        within("keep_alive_ms", self.keep_alive_ms, 100, 600_000)?;
        within("drain_timeout_ms", self.drain_timeout_ms, 0, 600_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_a_bad_value_is_named() {
        Settings::default().validate().unwrap();
        let bad = Settings { max_queued: 0, ..Settings::default() };
        assert!(bad.validate().unwrap_err().contains("gateway.max_queued is 0"));
    }

    #[test]
    fn listening_beyond_loopback_needs_a_key_or_the_owners_word() {
        for listen in ["0.0.0.0:8080", "192.168.1.2:80", "[::]:8080"] {
            let open = Settings { listen: listen.parse().unwrap(), ..Settings::default() };
            let message = open.validate().unwrap_err();
            assert!(message.contains("allow_unauthenticated_network"), "{message}");
            let keyed = Settings { api_keys: vec![crate::hash_api_key("k")], ..open.clone() };
            keyed.validate().unwrap();
            Settings { allow_unauthenticated_network: true, ..open }.validate().unwrap();
        }
        for listen in ["127.0.0.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            let here = Settings { listen: listen.parse().unwrap(), ..Settings::default() };
            here.validate().unwrap();
        }
    }

    #[test]
    fn keys_in_clear_are_refused() {
        let bad = Settings { api_keys: vec!["sk-secret".into()], ..Settings::default() };
        let message = bad.validate().unwrap_err();
        assert!(message.contains("api_keys[0]") && !message.contains("secret"), "{message}");
    }
}
