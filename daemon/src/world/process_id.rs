//! Processes that may be signalled, which are those that are proven to be ours. The supervisor may be root, so a
//! signal to the wrong process, to a group, or to everybody would be obeyed.

use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};
use tandem_host::Identity;

/// The id of one process. Never one by which `kill` means a group (0, and all below), every process (-1), the
/// first process (1) or the supervisor itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ProcessId(u32);

impl ProcessId {
    pub(super) fn new(pid: u32) -> Option<Self> {
        let is_one = pid > 1 && i32::try_from(pid).is_ok() && pid != std::process::id();
        is_one.then_some(Self(pid))
    }

    pub(super) const fn get(self) -> u32 {
        self.0
    }

    fn raw(self) -> Pid {
        Pid::from_raw(self.0.cast_signed())
    }
}

/// A process that is ours, and why its id can't be another's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OwnProcess {
    pub(super) id: ProcessId,
    proof: Proof,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Proof {
    /// It is our child and was not waited for: as long as that is so, nobody else gets its id.
    Unreaped,
    /// It was found. Somebody else waits for it, so that it still is this one is seen before each signal.
    Found(Identity),
}

impl OwnProcess {
    /// A child in a process group of its own, for as long as it is not waited for.
    pub(super) fn child(pid: u32) -> Option<Self> {
        Some(Self { id: ProcessId::new(pid)?, proof: Proof::Unreaped })
    }

    /// A process that was proven to be ours by what it is.
    pub(super) const fn found(id: ProcessId, identity: Identity) -> Self {
        Self { id, proof: Proof::Found(identity) }
    }

    /// Sends a signal, if it still is the same process; SIGKILL goes to its group, where it leads one.
    /// Whether it was sent: it may have ended just now.
    pub(super) fn signal(&self, signal: Signal) -> bool {
        let leads = match &self.proof {
            Proof::Unreaped => true,
            Proof::Found(known) => match tandem_host::identity(self.id.get()) {
                Ok(seen) if seen == *known => seen.group == self.id.get(),
                _ => return false,
            },
        };
        let sent = match signal {
            Signal::SIGKILL if leads => {
                killpg(self.id.raw(), signal).or_else(|_| kill(self.id.raw(), signal))
            }
            signal => kill(self.id.raw(), signal),
        };
        sent.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::process::{CommandExt, ExitStatusExt},
        process::{Child, Command},
    };

    use super::*;

    fn sleeping() -> Child {
        Command::new("sleep").arg("600").process_group(0).spawn().unwrap()
    }

    #[test]
    fn what_means_more_than_one_process_is_no_id() {
        let own = std::process::id();
        for pid in [0, 1, own, 1 << 31, (1 << 31) + 1, u32::MAX, u32::MAX - 1] {
            assert_eq!(ProcessId::new(pid), None, "{pid}");
        }
        assert_eq!(ProcessId::new(2).unwrap().raw(), Pid::from_raw(2));
        assert_eq!(
            ProcessId::new(i32::MAX.cast_unsigned()).unwrap().raw(),
            Pid::from_raw(i32::MAX)
        );
    }

    #[test]
    fn a_found_process_is_signalled_only_while_it_is_the_one_that_was_found() {
        let (mut ours, mut other) = (sleeping(), sleeping());
        let id = |child: &Child| ProcessId::new(child.id()).unwrap();
        let known = tandem_host::identity(ours.id()).unwrap();
        // As if its id had been used again.
        let stranger = OwnProcess::found(id(&other), known.clone());
        let older = Identity { started: known.started.wrapping_sub(1), ..known.clone() };
        assert!(!OwnProcess::found(id(&ours), older).signal(Signal::SIGKILL));
        assert!(!stranger.signal(Signal::SIGKILL) && !stranger.signal(Signal::SIGTERM));
        let exec = Identity { executable: "/bin/another".into(), ..known.clone() };
        assert!(!OwnProcess::found(id(&ours), exec).signal(Signal::SIGTERM));
        assert_eq!(other.try_wait().unwrap(), None);
        assert_eq!(ours.try_wait().unwrap(), None);
        assert!(OwnProcess::found(id(&ours), known).signal(Signal::SIGKILL));
        assert_eq!(ours.wait().unwrap().signal(), Some(9));
        assert!(OwnProcess::child(other.id()).unwrap().signal(Signal::SIGTERM));
        assert_eq!(other.wait().unwrap().signal(), Some(15));
    }
}
