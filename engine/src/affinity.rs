//! Cores for ranks that share a host.
//!
//! On a CPU two ranks of a gang on one machine, as in the demo and the tests, compute in turns with
//! waiting for each other: every time the scheduler moves one onto the other's core both wait. So
//! each gets cores of its own. Linux only: macOS has no such call, and its ranks have a machine
//! each.

use crate::settings::RankSetup;

/// Which of a host's `cores` are for number `index` of the `ranks` that share it: an equal run of
/// neighbours, together all of them. With fewer cores than ranks several ranks share one.
pub fn share(cores: &[usize], ranks: usize, index: usize) -> &[usize] {
    if ranks <= 1 || index >= ranks || cores.is_empty() {
        return cores;
    }
    let start = index * cores.len() / ranks;
    let end = ((index + 1) * cores.len() / ranks).max(start + 1);
    &cores[start..end]
}

/// How many ranks of the gang run on this rank's host, and which of them it is. Ranks share a host
/// if they have the same address; all loopback addresses are one host.
fn place_on_host(setup: &RankSetup) -> (usize, usize) {
    let rank = setup.rank as usize;
    let Some(own) = setup.ranks.get(rank).map(|place| place.address) else {
        return (1, 0);
    };
    let mut together = (0..).zip(&setup.ranks).filter_map(|(number, place)| {
        let here = place.address == own || (place.address.is_loopback() && own.is_loopback());
        here.then_some(number)
    });
    let numbers: Vec<usize> = together.by_ref().collect();
    let index = numbers.iter().position(|&n| n == rank).unwrap_or(0);
    (numbers.len(), index)
}

/// Keeps this process to its share of the cores that it may use now, every thread it has and every
/// one it will make, but those by which ranks tell that they live. A rank alone on its host keeps them all. A system that refuses is left as it
/// is, with a warning: placing ranks is a matter of speed.
#[cfg(target_os = "linux")]
pub fn pin(setup: &RankSetup) {
    let (ranks, index) = place_on_host(setup);
    if ranks <= 1 {
        return;
    }
    match pin_to_share(ranks, index) {
        Ok(cores) => tracing::debug!(?cores, ranks, "ranks on this host share its cores"),
        Err(error) => tracing::warn!(%error, "ranks on this host compete for its cores"),
    }
}

/// Does nothing: macOS places threads itself.
#[cfg(not(target_os = "linux"))]
pub fn pin(setup: &RankSetup) {
    let _ = place_on_host(setup);
}

#[cfg(target_os = "linux")]
fn pin_to_share(ranks: usize, index: usize) -> std::io::Result<Vec<usize>> {
    use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
    use nix::unistd::Pid;

    use crate::control::link::{HEARING_THREAD, HEARTBEAT_THREAD};

    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    let may_use = |&core: &usize| allowed.is_set(core).unwrap_or(false);
    let cores: Vec<usize> = (0..CpuSet::count()).filter(may_use).collect();
    let own = share(&cores, ranks, index).to_vec();
    let mut set = CpuSet::new();
    for &core in &own {
        set.set(core)?;
    }
    // A thread hands its cores on to those it makes, but OpenBLAS makes its own before `main`. The
    // threads that tell and hear life keep all cores: bound to one that computes without a pause,
    // they would be late, and a rank that is late looks like one that is lost.
    for entry in std::fs::read_dir("/proc/self/task")?.flatten() {
        let id = entry.file_name().to_str().and_then(|id| id.parse().ok());
        let Some(id) = id else { continue };
        let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if name.starts_with(HEARTBEAT_THREAD) || name.starts_with(HEARING_THREAD) {
            continue;
        }
        match sched_setaffinity(Pid::from_raw(id), &set) {
            // It ended since it was listed.
            Ok(()) | Err(nix::Error::ESRCH) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(own)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{RankPlace, Settings};

    fn setup(rank: u32, addresses: &[&str]) -> RankSetup {
        let place = |address: &&str| RankPlace { address: address.parse().unwrap(), weight: 1 };
        RankSetup {
            rank,
            ranks: addresses.iter().map(place).collect(),
            model_dir: "model".into(),
            run_dir: "run".into(),
            settings: Settings::default(),
            ceiling: None,
        }
    }

    #[test]
    fn shares_are_equal_disjoint_and_use_every_core() {
        for count in 1..40 {
            let cores: Vec<usize> = (0..count).map(|core| 3 * core + 1).collect();
            for ranks in 1..=count {
                let shares: Vec<&[usize]> = (0..ranks).map(|i| share(&cores, ranks, i)).collect();
                assert_eq!(shares.concat(), cores);
                let sizes = shares.iter().map(|s| s.len());
                assert!(sizes.clone().max().unwrap() - sizes.min().unwrap() <= 1);
            }
        }
    }

    #[test]
    fn more_ranks_than_cores_get_one_each() {
        let shares: Vec<&[usize]> = (0..4).map(|i| share(&[4, 6], 4, i)).collect();
        assert_eq!(shares, [&[4], &[4], &[6], &[6]]);
        assert!(share(&[], 2, 0).is_empty());
    }

    #[test]
    fn ranks_share_a_host_by_address() {
        let mixed = ["10.0.0.1", "10.0.0.2", "10.0.0.1"];
        assert_eq!(place_on_host(&setup(0, &mixed)), (2, 0));
        assert_eq!(place_on_host(&setup(1, &mixed)), (1, 0));
        assert_eq!(place_on_host(&setup(2, &mixed)), (2, 1));
        assert_eq!(place_on_host(&setup(1, &["127.0.0.1", "127.0.0.2"])), (2, 1));
        assert_eq!(place_on_host(&setup(5, &mixed)), (1, 0));
    }

    /// A thread of this name, until what is given beside it is dropped.
    #[cfg(target_os = "linux")]
    fn named(name: &str) -> (nix::unistd::Pid, std::sync::mpsc::Sender<()>) {
        let (tell, told) = std::sync::mpsc::channel();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let run = move || {
            tell.send(nix::unistd::gettid()).unwrap();
            let _ = stopped.recv();
        };
        std::thread::Builder::new().name(name.into()).spawn(run).unwrap();
        (told.recv().unwrap(), stop)
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn every_thread_keeps_to_the_share() {
        use nix::sched::{CpuSet, sched_getaffinity};
        use nix::unistd::{Pid, gettid};

        let cores_of = |thread: Pid| -> Vec<usize> {
            let set = sched_getaffinity(thread).unwrap();
            (0..CpuSet::count()).filter(|&core| set.is_set(core).unwrap()).collect()
        };
        let all = cores_of(gettid());
        let (tell, told) = std::sync::mpsc::channel();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let older = std::thread::spawn(move || {
            tell.send(gettid()).unwrap();
            let _ = stopped.recv();
        });
        let older_id = told.recv().unwrap();
        let (beat, _beating) = named(crate::control::link::HEARTBEAT_THREAD);
        let (ear, _hearing) = named("hear-1");
        pin(&setup(1, &["127.0.0.1", "127.0.0.1"]));
        let want = share(&all, 2, 1);
        assert_eq!(cores_of(gettid()), want);
        assert_eq!(cores_of(older_id), want);
        assert_eq!(cores_of(beat), all, "a heartbeat does not wait behind what computes");
        assert_eq!(cores_of(ear), all);
        let younger = std::thread::spawn(move || cores_of(gettid()));
        assert_eq!(younger.join().unwrap(), want);
        drop(stop);
        older.join().unwrap();
    }
}
