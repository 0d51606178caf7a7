//! What the config tells policy.

use serde::Serialize;
use sha2::{Digest, Sha256};
use tandem_engine::settings::Backend;
use tandem_policy::{Setup, pair::NodePlace};

use super::Config;

impl Config {
    /// What policy is told.
    pub fn policy_setup(&self) -> Setup {
        let engine = &self.engine;
        // The step is left out: it is retuned, and the ranks are told it at their start.
        let step_tokens = engine.prefill_step_tokens;
        let engine_plan = tandem_engine::Settings { prefill_step_tokens: 0, ..engine.clone() };
        Setup {
            node: self.node.name.clone(),
            model: self.model.served_id(),
            ranks: u32::try_from(self.rank.len()).unwrap_or(u32::MAX),
            own_ranks: (0..u32::try_from(self.rank.len()).unwrap_or(u32::MAX)).collect(),
            nodes: vec![NodePlace {
                name: self.node.name.clone(),
                ranks: (0..u32::try_from(self.rank.len()).unwrap_or(u32::MAX)).collect(),
            }],
            plan: Vec::new(),
            version: env!("CARGO_PKG_VERSION").into(),
            os: String::new(),
            share_permille: 1_000,
            fallback: None,
            gateway_listen: self.gateway.listen.to_string(),
            rank_plan: digest(&(&self.model.path, &self.rank, &engine_plan, step_tokens)),
            gateway_plan: digest(&(&self.model, &self.gateway)),
            uses_fabric: engine.backend == Backend::Jaccl && self.rank.len() > 1,
            prefill_step_tokens: step_tokens,
            can_reboot: !self.reboot.command.is_empty() || cfg!(target_os = "macos"),
            supervise: self.supervise.clone(),
            host: self.host.clone(),
            invariants: self.invariants.clone(),
            leak: self.leak.clone(),
            canary: self.canary.clone(),
            reboot: self.reboot.clone(),
            pair: self.pair.clone(),
        }
    }

    /// Why a running supervisor can't take this config in place of the one in force: keys that it
    /// uses once, at its start.
    pub fn needs_restart(&self, in_force: &Self) -> Option<String> {
        let keys = [
            ("node.name", self.node.name != in_force.node.name),
            ("node.run_dir", self.node.run_dir != in_force.node.run_dir),
            ("node.state_dir", self.node.state_dir != in_force.node.state_dir),
            ("node.user", self.node.user != in_force.node.user),
            ("node.log_level", self.node.log_level != in_force.node.log_level),
            ("node.log_format", self.node.log_format != in_force.node.log_format),
            (
                "supervise.status_listen",
                self.supervise.status_listen != in_force.supervise.status_listen,
            ),
            ("the number of [[rank]] sections", self.rank.len() != in_force.rank.len()),
        ];
        let changed: Vec<&str> =
            keys.iter().filter(|(_, changed)| *changed).map(|(key, _)| *key).collect();
        if changed.is_empty() {
            return None;
        }
        Some(format!(
            "{} changed, which takes a restart of the supervisor; the old config stays in force \
             until then",
            changed.join(", ")
        ))
    }
}

/// A digest of settings, to tell two plans apart.
fn digest(settings: &impl Serialize) -> String {
    // Settings are plain data, so this can't fail; an empty digest would only restart ranks.
    let text = serde_json::to_vec(settings).unwrap_or_default();
    Sha256::digest(&text).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_changes_with_what_its_processes_can_not_change() {
        type Change = fn(&mut Config);
        let cases: [(Change, bool, bool, bool); 6] = [
            (|_| {}, false, false, false),
            (|c| c.engine.max_active = 3, true, false, false),
            (|c| c.model.aliases.push("x".into()), false, true, false),
            (|c| c.gateway.max_queued = 3, false, true, false),
            (|c| c.supervise.restarts_max = 3, false, false, false),
            (|c| c.node.run_dir = "/elsewhere".into(), false, false, true),
        ];
        let old = Config::default();
        for (index, (change, ranks, gateway, restart)) in cases.into_iter().enumerate() {
            let mut new = old.clone();
            change(&mut new);
            let (before, after) = (old.policy_setup(), new.policy_setup());
            assert_eq!(before.rank_plan != after.rank_plan, ranks, "case {index}");
            assert_eq!(before.gateway_plan != after.gateway_plan, gateway, "case {index}");
            assert_eq!(new.needs_restart(&old).is_some(), restart, "case {index}");
        }
    }
}
