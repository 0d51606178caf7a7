//! What is read of, and set on, this host as a whole.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tandem_host::{MendError, mend, read};
use tandem_policy::{
    Repair,
    invariant::{Found, Invariant, Unknown},
    settings::Host,
};

#[test]
fn what_linux_does_not_have_is_not_on_this_platform_and_never_held() {
    let read_here = [
        Invariant::LinkMtu,
        Invariant::LinkAddress,
        Invariant::LinkUnbridged,
        Invariant::DiskSpace,
        Invariant::OpenFiles,
        Invariant::ClockSynchronised,
    ];
    for invariant in Invariant::ALL.into_iter().filter(|each| !read_here.contains(each)) {
        let found = read(invariant, &Host::default(), &["/".into()]);
        assert_eq!(found, Err(Unknown::NotOnThisPlatform), "{invariant:?}");
    }
    for repair in [
        Repair::WiredLimit { mib: 1 },
        Repair::SpotlightOff { volumes: vec!["/".into()] },
        Repair::Power { key: "sleep".into(), value: 0 },
        Repair::AutomaticUpdatesOff,
        Repair::ClockSynchronised,
    ] {
        let error = mend(&repair).unwrap_err();
        assert!(matches!(error, MendError::NotOnThisPlatform(_)), "{repair:?}: {error}");
    }
}

#[test]
fn without_a_link_in_the_config_the_config_is_what_is_missing() {
    for invariant in [Invariant::LinkMtu, Invariant::LinkAddress, Invariant::LinkUnbridged] {
        let found = read(invariant, &Host::default(), &[]);
        assert_eq!(found, Err(Unknown::NotConfigured("host.link".into())), "{invariant:?}");
    }
}

#[test]
fn the_clock_says_whether_it_is_synchronised() {
    let found = read(Invariant::ClockSynchronised, &Host::default(), &[]);
    let (Found::Flag(_), source) = found.unwrap() else { panic!("not a flag") };
    assert_eq!(source, "adjtimex");
}

// The only test that changes this process's limits: cargo's own runner shares the process.
#[test]
fn open_files_are_raised_as_far_as_the_hard_limit_and_children_have_them() {
    let found = || read(Invariant::OpenFiles, &Host::default(), &[]).unwrap().0;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let low = 256.min(hard - 1);
    setrlimit(Resource::RLIMIT_NOFILE, low, hard).unwrap();
    assert_eq!(found(), Found::Count(low));

    mend(&Repair::OpenFiles { count: low + 1 }).unwrap();
    assert_eq!(found(), Found::Count(low + 1));
    mend(&Repair::OpenFiles { count: 1 }).unwrap();
    assert_eq!(found(), Found::Count(low + 1), "it is never lowered");
    let child = std::process::Command::new("/bin/sh").args(["-c", "ulimit -n"]).output().unwrap();
    assert_eq!(String::from_utf8(child.stdout).unwrap().trim(), (low + 1).to_string());

    if hard < u64::MAX {
        let error = mend(&Repair::OpenFiles { count: hard + 1 }).unwrap_err();
        assert!(error.to_string().contains(&format!("the hard limit is {hard}")), "{error}");
        assert_eq!(found(), Found::Count(hard), "what can be had is taken");
    }
}
