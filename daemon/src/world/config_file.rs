//! The config file: watched, read anew when it changes, and taken or refused as a whole.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tandem_policy::What;
use tokio::task::spawn_blocking;
use tracing::{info, warn};

use super::{child::Shared, evidence, hints::Hints};
use crate::config::Config;

/// How often the file is looked at although nothing was announced.
const RESCAN: Duration = Duration::from_secs(30);

/// Pause after a hint: editors write a file in several steps.
const SETTLE: Duration = Duration::from_millis(200);

/// Watches for ever. What was accepted waits in the facts until the turn takes it.
pub(super) async fn watch(shared: Shared, path: PathBuf, in_force: Config) {
    let mut hints = Hints::new(path.display());
    // The folder, because a file that is replaced takes its own watch with it.
    if let Some(folder) = path.parent()
        && let Err(error) = hints.watch(folder)
    {
        warn!("changes of {} are seen late: {error}", path.display());
    }
    let mut known = Known { in_force, refused: shared.facts().config_refused.clone() };
    loop {
        // First of all, since the file may have changed after the config in force was read from it.
        match known.compare(read(path.clone()).await) {
            News::None => {}
            News::Taken(config) => {
                info!("{} changed and is in force", path.display());
                shared.change(|facts| {
                    facts.tell(What::Config { taken: true, detail: String::new() });
                    facts.config_refused = None;
                    facts.new_config = Some(config);
                });
            }
            News::AsBefore => {
                info!("{} is again what is in force", path.display());
                shared.change(|facts| {
                    facts.tell(What::Config { taken: true, detail: String::new() });
                    facts.config_refused = None;
                    // One that was taken in between and not put in force yet is not wanted any more.
                    facts.new_config = None;
                });
            }
            News::Refused(why) => {
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
        hints.next(RESCAN).await;
        tokio::time::sleep(SETTLE).await;
    }
}

/// The config in the file as it is now, or why it is refused. On a thread that may wait for a disk.
async fn read(path: PathBuf) -> Result<Config, String> {
    spawn_blocking(move || load(&path)).await.unwrap_or_else(|error| Err(error.to_string()))
}

fn load(path: &Path) -> Result<Config, String> {
    let config = Config::load(path).map_err(|error| format!("{:#}", anyhow::Error::new(error)))?;
    // Used at a start only: that they are of no use is to be known before.
    evidence::catalogue(&config.host.signatures).map_err(evidence::unusable)?;
    Ok(config)
}

/// What was told of the file.
struct Known {
    in_force: Config,
    /// Why the file as it was last was refused.
    refused: Option<String>,
}

/// What a look at the file tells that was not known.
#[derive(Debug, PartialEq)]
enum News {
    None,
    Taken(Box<Config>),
    /// After a refusal the file has what is in force.
    AsBefore,
    Refused(String),
}

impl Known {
    /// Compares what the file says with what is in force, not with what it said before: whatever
    /// happened to the file meanwhile, in the end it is known whether the two are equal.
    fn compare(&mut self, now: Result<Config, String>) -> News {
        let wanted = now.and_then(|config| match config.needs_restart(&self.in_force) {
            None => Ok(config),
            Some(why) => Err(why),
        });
        match wanted {
            Ok(config) if config == self.in_force => match self.refused.take() {
                None => News::None,
                Some(_) => News::AsBefore,
            },
            Ok(config) => {
                self.refused = None;
                self.in_force = config.clone();
                News::Taken(Box::new(config))
            }
            Err(why) if self.refused.as_ref() == Some(&why) => News::None,
            Err(why) => {
                self.refused = Some(why.clone());
                News::Refused(why)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn config(restarts_max: u32) -> Config {
        let mut config = Config::default();
        config.supervise.restarts_max = restarts_max;
        config
    }

    #[test]
    fn the_file_is_compared_with_what_is_in_force() {
        let mut known = Known { in_force: config(3), refused: None };
        let broken = || Err("broken".to_owned());
        let refused = || News::Refused("broken".into());
        assert_eq!(known.compare(Ok(config(3))), News::None);
        // Also at the very first look: it may have changed before anybody watched.
        assert_eq!(known.compare(Ok(config(4))), News::Taken(Box::new(config(4))));
        assert_eq!(known.compare(Ok(config(4))), News::None);
        assert_eq!(known.compare(broken()), refused());
        assert_eq!(known.compare(broken()), News::None);
        assert_eq!(known.compare(Ok(config(4))), News::AsBefore);
        assert_eq!(known.compare(broken()), refused());
        assert_eq!(known.compare(Ok(config(5))), News::Taken(Box::new(config(5))));
        assert_eq!(known.compare(Ok(config(5))), News::None);
    }

    #[test]
    fn what_takes_a_restart_is_refused_once_and_named() {
        let mut known = Known { in_force: config(3), refused: None };
        let mut other = config(3);
        other.node.name = "other".into();
        let News::Refused(why) = known.compare(Ok(other.clone())) else { panic!("taken") };
        assert!(why.contains("node.name"), "{why}");
        assert_eq!(known.compare(Ok(other)), News::None);
        assert_eq!(known.compare(Ok(config(3))), News::AsBefore);
    }

    #[tokio::test]
    async fn an_edit_between_loading_and_watching_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tandem.toml");
        fs::write(&path, "[supervise]\nrestarts_max = 3\n").unwrap();
        let in_force = Config::load(&path).unwrap();
        fs::write(&path, "[supervise]\nrestarts_max = 4\n").unwrap();
        let shared = Shared::new(Vec::new());
        let watching = tokio::spawn(watch(shared.clone(), path, in_force));
        shared.changed().await;
        let taken = shared.facts().new_config.take().expect("nothing was taken");
        assert_eq!(taken.supervise.restarts_max, 4);
        watching.abort();
    }

    #[test]
    fn signatures_that_the_next_start_would_fail_on_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tandem.toml");
        let signatures = folder.path().join("signatures.toml");
        fs::write(&path, format!("[host]\nsignatures = {signatures:?}\n")).unwrap();
        for text in [None, Some("[[signature]]\nid = 1\n"), Some("\0")] {
            if let Some(text) = text {
                fs::write(&signatures, text).unwrap();
            }
            let why = load(&path).unwrap_err();
            assert!(why.contains("host.signatures"), "{why}");
        }
    }
}
