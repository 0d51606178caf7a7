//! `tandem pair init`: shows the code and waits.

use std::{net::SocketAddr, sync::mpsc, thread, time::Duration};

use anyhow::Context as _;
use tandem_peer::pairing::{self, Advert, Code, Ended, Limits, Node};
use tandem_wire::exit;
use tokio::net::TcpListener;

use super::{Here, REFUSED, UNAVAILABLE, block_on};

/// Exit code of a command that was interrupted, as shells have it: 128 and SIGINT.
const INTERRUPTED: i32 = 130;

/// How long an announcement may take before it is said that there is none: three probes and one
/// announcement take 1.75 s (RFC 6762, section 8).
const ADVERT_WAIT: Duration = Duration::from_secs(3);

pub(super) fn run(here: &Here, node: Node) -> anyhow::Result<i32> {
    block_on(wait(here, node))?
}

async fn wait(here: &Here, node: Node) -> anyhow::Result<i32> {
    let pair = &here.config.pair;
    let address = SocketAddr::new(pair.listen.ip(), pair.pairing_port);
    let listener = match TcpListener::bind(address).await {
        Ok(listener) => listener,
        Err(error) => {
            errln!(
                "can't listen at {address} (pair.pairing_port, address of pair.listen): {error}; is \
                 another `tandem pair init` running?"
            );
            return Ok(UNAVAILABLE);
        }
    };
    let address = listener.local_addr().context("can't see where it listens")?;
    let code = Code::random().context("no random bytes for a code")?;
    let host = match address.ip().is_unspecified() {
        true => format!("HOST:{}", address.port()),
        false => address.to_string(),
    };
    outln!("On the other machine, within 10 minutes:\n");
    outln!("    sudo tandem pair join {host}\n");
    if address.ip().is_unspecified() {
        outln!("HOST is a name or address of this machine. When it asks for the code, type\n");
    } else {
        outln!("When it asks for the code, type\n");
    }
    outln!("    {}\n", code.shown());
    let advert = Announced::start(node.name.clone(), address);
    let limits = Limits::default();
    let ended = tokio::select! {
        ended = pairing::offer(&listener, node, code, &limits, |notice| outln!("{notice}")) => ended,
        _ = tokio::signal::ctrl_c() => {
            outln!("interrupted; nobody was paired");
            return Ok(INTERRUPTED);
        }
    };
    // No more strangers while the goodbye is said.
    drop(listener);
    drop(advert);
    Ok(match ended {
        Ended::Paired(paired) => {
            here.tell_paired(&paired);
            exit::OK
        }
        Ended::TooManyWrong => {
            outln!(
                "too many wrong codes: this code is void, and nobody was paired. If it was not you, \
                 someone in this network is guessing; run `tandem pair init` for a new one"
            );
            REFUSED
        }
        Ended::NobodyCame => {
            outln!("nobody joined in 10 minutes: this code is void");
            UNAVAILABLE
        }
    })
}

/// The announcement by mDNS, on a thread: it blocks, and pairing must not wait for it.
struct Announced {
    end: Option<mpsc::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Announced {
    fn start(node: String, address: SocketAddr) -> Self {
        let (end, ended) = mpsc::channel();
        let announce = move || {
            let without = "`tandem pair join` does not find this machine by itself";
            match Advert::start(&node, address) {
                Ok(advert) => {
                    if !advert.is_sent(ADVERT_WAIT) {
                        errln!("no interface here carries multicast: {without}");
                    }
                    let _: Result<(), _> = ended.recv();
                }
                Err(error) => errln!("{error}: {without}"),
            }
        };
        // Without a thread there is no announcement, and pairing works all the same.
        let thread = thread::Builder::new().name("mdns".into()).spawn(announce).ok();
        Self { end: Some(end), thread }
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
