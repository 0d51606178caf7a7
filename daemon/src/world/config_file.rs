//! The config file: watched, read anew when it changes, and taken or refused as a whole.

use std::{path::PathBuf, time::Duration};

use notify::{RecursiveMode, Watcher};
use tandem_policy::What;
use tokio::{sync::mpsc, time::timeout};
use tracing::{info, warn};

use super::child::Shared;
use crate::config::{Config, read_file};

/// How often the file is looked at although nothing was announced.
const RESCAN: Duration = Duration::from_secs(30);

/// Pause after a hint: editors write a file in several steps.
const SETTLE: Duration = Duration::from_millis(200);

/// Watches for ever. What was accepted waits in the facts until the turn takes it.
pub(super) async fn watch(shared: Shared, path: PathBuf, in_force: Config) {
    let (hint, mut hints) = mpsc::channel(1);
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Our own reading is announced too: as a hint it would have us read for ever.
        if !event.is_ok_and(|event| event.kind.is_access()) {
            // A full channel holds a hint already.
            let _ = hint.try_send(());
        }
    });
    let mut watcher = watcher.inspect_err(|error| warn!("{}: {error}", path.display())).ok();
    // The folder, because a file that is replaced takes its own watch with it.
    if let (Some(watcher), Some(folder)) = (watcher.as_mut(), path.parent())
        && let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive)
    {
        warn!("changes of {} are seen late: {error}", path.display());
    }
    let mut in_force = in_force;
    let mut text = read_file(&path).ok();
    loop {
        let _ = timeout(RESCAN, hints.recv()).await;
        tokio::time::sleep(SETTLE).await;
        let now = read_file(&path).ok();
        if now == text {
            continue;
        }
        text = now;
        let outcome = match Config::load(&path) {
            Ok(config) => match config.needs_restart(&in_force) {
                None => Ok(config),
                Some(why) => Err(why),
            },
            Err(error) => Err(format!("{:#}", anyhow::Error::new(error))),
        };
        match outcome {
            Ok(config) => {
                info!("{} changed and is in force", path.display());
                in_force = config.clone();
                shared.change(|facts| {
                    facts.tell(What::Config { taken: true, detail: String::new() });
                    facts.config_refused = None;
                    facts.new_config = Some(Box::new(config));
                });
            }
            Err(why) => {
                warn!(
                    "{} changed and is refused; the old one stays in force: {why}",
                    path.display()
                );
                shared.change(|facts| {
                    facts.tell(What::Config { taken: false, detail: why.clone() });
                    facts.config_refused = Some(why);
                });
            }
        }
    }
}
