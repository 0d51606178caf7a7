//! `tandem pair status`: whom this machine trusts, from its files; and the ways to them, from the
//! supervisor if one runs.

use std::fmt::Write as _;

use tandem_console::ask_status;
use tandem_peer::identity::{Fingerprint, Identity, IdentityError, Pins};
use tandem_policy::pair::PairStatus;
use tandem_wire::exit;

use super::{Here, REFUSED, shown};
use crate::config::Config;

pub(super) fn run(here: &Here) -> anyhow::Result<i32> {
    let (own, pins) = match known(here) {
        Ok(known) => known,
        Err(error) => {
            errln!("{:#}", anyhow::Error::new(error));
            if let Err(why) = here.check_user() {
                errln!("{why}");
            }
            return Ok(REFUSED);
        }
    };
    let url = format!("http://{}", here.config.supervise.status_listen);
    let asked = ask_status(&url).ok().filter(|asked| !asked.is_stale());
    let live = asked.map(|asked| asked.status.pair);
    out!("{}", text(&here.config, own, &pins, live.as_ref()));
    Ok(exit::OK)
}

/// This machine's fingerprint, if it has a key yet, and the pins. Makes no key.
fn known(here: &Here) -> Result<(Option<Fingerprint>, Pins), IdentityError> {
    let folder = here.folder();
    let pins = Pins::load(&folder)?;
    let own = match folder.exists() {
        true => Some(Identity::load_or_make(&folder, &here.config.node.name)?.fingerprint()),
        false => None,
    };
    Ok((own, pins))
}

/// What is shown. `live` is what a running supervisor says.
fn text(
    config: &Config,
    own: Option<Fingerprint>,
    pins: &Pins,
    live: Option<&PairStatus>,
) -> String {
    let mut out = String::new();
    let own = own.map_or_else(|| "no key yet".to_owned(), |own| own.to_string());
    // Writing to a string can't fail.
    let _ = writeln!(out, "{} (this machine)\n    fingerprint  {own}", shown(&config.node.name));
    for peer in &config.peer {
        let _ = writeln!(out, "\n{}", shown(&peer.name));
        let trusted = match pins.get(&peer.name) {
            Some(pin) => format!("trusted      {pin}"),
            None => {
                "not trusted  run `tandem pair init` on one and `tandem pair join` on the other"
                    .to_owned()
            }
        };
        let _ = writeln!(out, "    {trusted}");
        for address in &peer.addresses {
            let state = way(live, &peer.name, &address.to_string());
            let _ = writeln!(out, "    {address:<24} {state}");
        }
    }
    for (node, pin) in pins.iter().filter(|(n, _)| config.peer.iter().all(|p| p.name != *n)) {
        let _ = writeln!(
            out,
            "\n{}\n    trusted      {pin}\n    has no [[peer]] section; `tandem pair forget {}` if \
             it is gone",
            shown(node),
            shown(node)
        );
    }
    if config.peer.is_empty() && pins.iter().next().is_none() {
        let _ = writeln!(out, "\nno other machine is configured or trusted");
    }
    out
}

/// One configured way, as the supervisor sees it.
fn way(live: Option<&PairStatus>, peer: &str, address: &str) -> String {
    let Some(live) = live else { return "unknown: no supervisor answers".into() };
    let node = live.nodes.iter().find(|node| node.name == peer);
    let Some(path) = node.and_then(|n| n.paths.iter().find(|path| path.address == address)) else {
        return "unknown: the supervisor runs with another config".into();
    };
    match (path.is_up, path.round_trip_us) {
        (true, Some(us)) => format!("up, {us} µs there and back"),
        (true, None) => "up".into(),
        (false, _) => format!("down: {}", shown(&path.problem)),
    }
}

#[cfg(test)]
mod tests {
    use tandem_policy::pair::{NodeStatus, PathSeen, Role};

    use super::*;

    fn path(address: &str, is_up: bool) -> PathSeen {
        PathSeen {
            address: address.into(),
            is_up,
            round_trip_us: is_up.then_some(210),
            throughput_mbps: None,
            problem: if is_up { String::new() } else { "no route\u{1b}[2J".into() },
        }
    }

    fn live(paths: Vec<PathSeen>) -> PairStatus {
        let right = NodeStatus {
            name: "right".into(),
            is_self: false,
            is_paired: true,
            is_heard: true,
            heard_age_ms: Some(1),
            boot: None,
            version: None,
            os: None,
            epoch: None,
            phase: None,
            is_alone: false,
            proven_age_ms: None,
            refusal: None,
            differences: Vec::new(),
            ranks: Vec::new(),
            paths,
            faults: Vec::new(),
        };
        PairStatus {
            role: Role::Leader,
            mode: "pair".into(),
            why_alone: None,
            hindrance: None,
            nodes: vec![right],
            transport: None,
        }
    }

    #[test]
    fn each_configured_way_is_shown_as_the_supervisor_sees_it_or_as_unknown() {
        let config = Config::parse(
            "[[peer]]\nname = \"right\"\naddresses = [\"10.0.0.1:1\", \"10.0.0.2:1\", \"10.0.0.3:1\"]",
        );
        let config = config.unwrap();
        let live = live(vec![path("10.0.0.1:1", true), path("10.0.0.2:1", false)]);
        let told = text(&config, None, &Pins::default(), Some(&live));
        let way = |address: &str| told.lines().find(|line| line.contains(address)).unwrap();
        assert!(way("10.0.0.1:1").ends_with("up, 210 µs there and back"), "{told}");
        assert!(way("10.0.0.2:1").contains("down: no route"), "{told}");
        assert!(way("10.0.0.3:1").contains("unknown"), "{told}");
        assert!(!told.contains('\u{1b}'), "a terminal is told nothing by a text");
        assert!(told.contains("not trusted") && told.contains("no key yet"), "{told}");

        let alone = text(&config, None, &Pins::default(), None);
        assert_eq!(alone.matches("unknown: no supervisor answers").count(), 3, "{alone}");
    }

    #[test]
    fn a_pin_without_a_section_is_shown_with_how_to_be_rid_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("peer");
        let pin = Fingerprint::of(b"a certificate");
        Pins::pin(&folder, "gone", pin).unwrap();
        let pins = Pins::load(&folder).unwrap();
        let told = text(&Config::default(), Some(pin), &pins, None);
        assert!(told.contains("tandem pair forget gone"), "{told}");
        assert_eq!(told.matches(&pin.to_string()).count(), 2, "its own and the pin");
    }
}
