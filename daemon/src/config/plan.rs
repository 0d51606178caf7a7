//! What the config tells policy.

use serde::Serialize;
use sha2::{Digest, Sha256};
use tandem_engine::settings::Backend;
use tandem_policy::{Setup, pair::Component};

use super::{Config, Rank};
use crate::world::rank_environment;

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
            own_ranks: self.own_ranks(),
            nodes: self.nodes(),
            plan: self.components(),
            version: env!("CARGO_PKG_VERSION").into(),
            os: tandem_host::os_version(),
            share_permille: self.share_permille(),
            fallback: self.fallback_setup(),
            gateway_listen: self.gateway.listen.to_string(),
            rank_plan: digest(&(&self.model.path, &self.rank, &engine_plan, step_tokens)),
            gateway_plan: digest(&(&self.model, &self.gateway, self.peer_listen())),
            uses_fabric: self.uses_fabric(),
            ring_fallback: engine.ring_fallback,
            prefill_step_tokens: step_tokens,
            can_reboot: !self.reboot.command.is_empty() || tandem_host::reboot_step(0).is_some(),
            supervise: self.supervise.clone(),
            host: self.host.clone(),
            invariants: self.invariants.clone(),
            leak: self.leak.clone(),
            canary: self.canary.clone(),
            reboot: self.reboot.clone(),
            pair: self.pair.clone(),
        }
    }

    /// Whether the ranks' group is to be an RDMA fabric; a rank alone has no group.
    pub fn uses_fabric(&self) -> bool {
        self.engine.backend == Backend::Jaccl && self.rank.len() > 1
    }

    /// What must be equal on all machines, value by value, so that a difference can be named. What
    /// only this machine's own processes see is left out.
    fn components(&self) -> Vec<Component> {
        let mut found = vec![component("model name", self.model.served_id())];
        for (number, rank) in self.rank.iter().enumerate() {
            let Rank { node, address, weight } = rank;
            let value = format!("node {node}, address {address}, weight {weight}");
            found.push(component(&format!("[[rank]] {number}"), value));
        }
        let engine = toml::Table::try_from(&self.engine).unwrap_or_default();
        // Machines of unequal memory wire unequally.
        let is_common = |(key, _): &(&String, &toml::Value)| *key != "wired_limit_mib";
        found.extend(
            engine
                .iter()
                .filter(is_common)
                .map(|(key, value)| component(&format!("engine.{key}"), value.to_string())),
        );
        found.push(component("gateway.peer_port", self.gateway.peer_port.to_string()));
        for (name, value) in rank_environment() {
            found.push(component(&format!("environment of ranks: {name}"), value.to_owned()));
        }
        found
    }

    /// The share of the weights that this machine's ranks hold, in thousandths, rounded up.
    fn share_permille(&self) -> u32 {
        let sum = |ranks: &mut dyn Iterator<Item = &Rank>| -> u64 {
            ranks.map(|rank| u64::from(rank.weight)).sum()
        };
        let all = sum(&mut self.rank.iter()).max(1);
        let own = sum(&mut self.rank.iter().filter(|rank| rank.node == self.node.name));
        u32::try_from((own * 1_000).div_ceil(all)).unwrap_or(1_000)
    }

    fn fallback_setup(&self) -> Option<tandem_policy::Fallback> {
        if !self.fallback.is_set() {
            return None;
        }
        let alone = self.alone().policy_setup();
        Some(tandem_policy::Fallback {
            model: alone.model,
            rank_plan: alone.rank_plan,
            gateway_plan: alone.gateway_plan,
            after_ms: self.fallback.after_ms,
        })
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
            ("node.log_dir", self.node.log_dir != in_force.node.log_dir),
            ("node.log_file_max_mib", self.node.log_file_max_mib != in_force.node.log_file_max_mib),
            ("node.log_files_max", self.node.log_files_max != in_force.node.log_files_max),
            (
                "supervise.status_listen",
                self.supervise.status_listen != in_force.supervise.status_listen,
            ),
            ("host.signatures", self.host.signatures != in_force.host.signatures),
            ("host.report_dirs", self.host.report_dirs != in_force.host.report_dirs),
            ("host.probe_timeout_ms", self.host.probe_timeout_ms != in_force.host.probe_timeout_ms),
            ("the number of [[rank]] sections", self.rank.len() != in_force.rank.len()),
            ("the machines of [[rank]]", self.nodes() != in_force.nodes()),
            ("the address of rank 0", self.peer_listen() != in_force.peer_listen()),
            ("[[peer]]", self.peer != in_force.peer),
            ("[pair]", self.pair != in_force.pair),
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

fn component(name: &str, value: String) -> Component {
    Component { name: name.to_owned(), value }
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
        let cases: [(Change, bool, bool, bool); 9] = [
            (|_| {}, false, false, false),
            (|c| c.engine.max_active = 3, true, false, false),
            (|c| c.model.aliases.push("x".into()), false, true, false),
            (|c| c.gateway.max_queued = 3, false, true, false),
            (|c| c.supervise.restarts_max = 3, false, false, false),
            (|c| c.node.run_dir = "/elsewhere".into(), false, false, true),
            (|c| c.host.signatures = "/signatures.toml".into(), false, false, true),
            (|c| c.host.report_dirs.push("/reports".into()), false, false, true),
            (|c| c.host.probe_timeout_ms += 1, false, false, true),
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
