//! What can be checked without a supervisor: the config and the host as this user sees it.

use std::{path::Path, time::Duration};

use tandem_console::command::{Check, Outcome};
use tandem_host::probes;
use tandem_policy::invariant::{Invariant, Sighting, judge};

use crate::config::Config;

/// The config, then every invariant.
pub(crate) fn all(path: &Path, config: &Config) -> Vec<Check> {
    let mut checks = vec![of_config(path)];
    checks.extend(Invariant::ALL.into_iter().filter_map(|invariant| of(config, invariant)));
    checks
}

/// Whether there is a config and it is a good one.
fn of_config(path: &Path) -> Check {
    let outcome = match Config::load(path) {
        Ok(_) => Outcome::Fine(path.display().to_string()),
        Err(error) => Outcome::Wrong(format!("{:#}", anyhow::Error::new(error))),
    };
    let remedy = "mend the file; config/tandem.toml explains every key".into();
    Check { name: "config".into(), outcome, remedy }
}

/// One invariant, read now, in a bounded time. `None` for what this platform lacks or the config does
/// not ask for: there is nothing to do about it.
pub(crate) fn of(config: &Config, invariant: Invariant) -> Option<Check> {
    let row = invariant.row();
    let host = config.host.clone();
    let disks = [config.node.state_dir.clone(), config.model.path.clone()];
    let limit = Duration::from_millis(host.probe_timeout_ms);
    let read =
        probes::bounded(row.name, limit, move || tandem_host::read(invariant, &host, &disks));
    let now = tandem_host::now();
    let sighting = match read {
        Ok((found, source)) => Sighting::Known { found, source, at_ms: now.boot_ms },
        Err(unknown) => Sighting::Unknown(unknown),
    };
    let outcome = match judge::judge(&config.policy_setup(), invariant, Some(&sighting), now) {
        judge::Verdict::Holds { found } => Outcome::Fine(judge::in_words(invariant, &found)),
        judge::Verdict::Broken { found, wanted, .. } => {
            let found = judge::in_words(invariant, &found);
            Outcome::Wrong(format!("{found}, wanted {wanted}"))
        }
        verdict if verdict.is_accepted() => return None,
        judge::Verdict::Unknown(unknown) => Outcome::Unknown(unknown.to_string()),
    };
    let name = format!("{} (read now)", row.name);
    Some(Check { name, outcome, remedy: row.remedy.to_owned() })
}
