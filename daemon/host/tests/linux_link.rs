//! Links of a real kernel: read, changed behind our back, told, and mended.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, unsafe_code)]

mod linux_world;

use std::{io::Write, pin::pin, process::Stdio, time::Duration};

use linux_world::{in_new, run};
use nix::sched::CloneFlags;
use tandem_host::{LinkWatch, MendError, mend, read};
use tandem_policy::{
    Repair,
    invariant::{Found, Invariant, Unknown},
    settings::Host,
};

const NET: CloneFlags = CloneFlags::CLONE_NEWNET;

/// A change that is told is told in milliseconds; this only ends a test that waits for nothing.
const HANG: Duration = Duration::from_secs(60);

/// Runs a test that waits in a network namespace of its own.
fn in_new_net_async<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    in_new(NET, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test());
    });
}

fn ip(arguments: &str) {
    run("ip", &arguments.split(' ').collect::<Vec<_>>());
}

/// A pair of links that are down, so that the kernel announces nothing about them by itself.
fn cable() {
    ip("link add left type veth peer name right");
}

fn host(link: &str) -> Host {
    Host { link: link.into(), ..Host::default() }
}

fn seen(invariant: Invariant, link: &str) -> Result<Found, Unknown> {
    read(invariant, &host(link), &[]).map(|(found, _)| found)
}

async fn told(watch: &mut LinkWatch) {
    tokio::time::timeout(HANG, watch.changed()).await.expect("the change was not told").unwrap();
}

/// Whether a change is queued now.
async fn is_told_now(watch: &mut LinkWatch) -> bool {
    let mut changed = pin!(watch.changed());
    // The runtime must have looked at the socket since: each of these lets it.
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
    std::future::poll_fn(|cx| std::task::Poll::Ready(changed.as_mut().poll(cx).is_ready())).await
}

#[test]
fn an_mtu_that_drifts_is_told_read_and_mended() {
    in_new_net_async(|| async {
        cable();
        let mtu = || read(Invariant::LinkMtu, &host("left"), &[]);
        let source = || "ioctl SIOCGIFMTU left".to_owned();
        let repair = Repair::LinkMtu { link: "left".into(), mtu_bytes: 9_000 };
        assert_eq!(mtu(), Ok((Found::Count(1_500), source())));
        mend(&repair).unwrap();
        assert_eq!(mtu(), Ok((Found::Count(9_000), source())));

        let mut watch = LinkWatch::open().unwrap();
        assert!(!is_told_now(&mut watch).await, "nothing changed yet");
        ip("link set left mtu 1500");
        told(&mut watch).await;
        assert_eq!(mtu(), Ok((Found::Count(1_500), source())));
        mend(&repair).unwrap();
        assert!(is_told_now(&mut watch).await, "the kernel tells within the call");
        assert_eq!(mtu(), Ok((Found::Count(9_000), source())));
        mend(&repair).unwrap();
        assert_eq!(seen(Invariant::LinkMtu, "right"), Ok(Found::Count(1_500)), "the other end");
    });
}

#[test]
fn an_mtu_that_the_driver_refuses_says_which_setting_to_change() {
    in_new(NET, || {
        cable();
        for mtu_bytes in [1, 10_000_000, u32::MAX] {
            let error = mend(&Repair::LinkMtu { link: "left".into(), mtu_bytes }).unwrap_err();
            assert!(matches!(error, MendError::Mtu { .. }), "{error:?}");
            assert!(error.to_string().contains("host.link_mtu_bytes"), "{error}");
        }
        assert_eq!(seen(Invariant::LinkMtu, "left"), Ok(Found::Count(1_500)));
    });
}

#[test]
fn a_pulled_cable_and_a_gone_link_are_told() {
    in_new_net_async(|| async {
        cable();
        for change in ["set left up", "set right up", "set right down", "delete left"] {
            let mut watch = LinkWatch::open().unwrap();
            ip(&format!("link {change}"));
            told(&mut watch).await;
        }
    });
}

#[test]
fn an_address_that_comes_and_goes_is_told_and_read() {
    in_new_net_async(|| async {
        cable();
        let addresses = || seen(Invariant::LinkAddress, "left");
        let names = |all: &[&str]| Ok(Found::Names(all.iter().map(|a| (*a).into()).collect()));
        ip("address add 10.9.0.1/30 dev right");
        assert_eq!(addresses(), names(&[]), "none, and not that of another link");
        for (change, expected) in [
            ("add 192.168.7.1/30", &["192.168.7.1"][..]),
            ("add 169.254.3.4/16", &["192.168.7.1", "169.254.3.4"]),
            ("del 192.168.7.1/30", &["169.254.3.4"]),
        ] {
            let mut watch = LinkWatch::open().unwrap();
            ip(&format!("address {change} dev left"));
            told(&mut watch).await;
            assert_eq!(addresses(), names(expected), "after {change}");
        }
    });
}

#[test]
fn a_link_gets_the_same_link_local_address_each_time_and_keeps_one_that_it_has() {
    in_new(NET, || {
        cable();
        ip("link set left address 36:13:4c:5b:80:01");
        ip("link set right address 36:13:4c:5b:80:02");
        let repair = |link: &str| mend(&Repair::LinkAddress { link: link.into() });
        let address = |link: &str| match seen(Invariant::LinkAddress, link) {
            Ok(Found::Names(names)) if names.len() == 1 => names[0].clone(),
            other => panic!("{link} has {other:?}"),
        };
        repair("left").unwrap();
        repair("right").unwrap();
        let first = address("left");
        assert!(first.starts_with("169.254."), "{first}");
        assert_ne!(first, address("right"));
        assert!(run("ip", &["-4", "address", "show", "left"]).contains(&format!("{first}/16")));

        ip("address flush dev left");
        repair("left").unwrap();
        repair("left").unwrap();
        assert_eq!(address("left"), first);

        ip("address flush dev left");
        ip("address add 192.168.7.1/30 dev left");
        repair("left").unwrap();
        assert_eq!(address("left"), "192.168.7.1");
    });
}

#[test]
fn a_link_in_a_bridge_is_told_seen_and_taken_out() {
    in_new_net_async(|| async {
        cable();
        ip("link add bridge0 type bridge");
        let unbridged = || seen(Invariant::LinkUnbridged, "left");
        assert_eq!(unbridged(), Ok(Found::Flag(true)));

        let mut watch = LinkWatch::open().unwrap();
        ip("link set left master bridge0");
        told(&mut watch).await;
        assert_eq!(unbridged(), Ok(Found::Flag(false)));
        assert_eq!(seen(Invariant::LinkUnbridged, "bridge0"), Ok(Found::Flag(true)));

        let repair = Repair::LinkUnbridged { link: "left".into() };
        mend(&repair).unwrap();
        assert_eq!(unbridged(), Ok(Found::Flag(true)));
        mend(&repair).unwrap();
        assert_eq!(unbridged(), Ok(Found::Flag(true)));
    });
}

#[test]
fn a_link_that_is_not_there_is_unknown_by_its_name() {
    in_new(NET, || {
        let links = ["en5", "a name that is longer than any", "", "zero\0"];
        for invariant in [Invariant::LinkMtu, Invariant::LinkAddress, Invariant::LinkUnbridged] {
            for link in links {
                let expected = match link {
                    "" => Unknown::NotConfigured("host.link".into()),
                    link => Unknown::Failed(format!("there is no interface {link}")),
                };
                assert_eq!(seen(invariant, link), Err(expected), "{invariant:?}");
            }
        }
        for link in links.map(String::from) {
            for repair in [
                Repair::LinkMtu { link: link.clone(), mtu_bytes: 9_000 },
                Repair::LinkAddress { link: link.clone() },
                Repair::LinkUnbridged { link: link.clone() },
            ] {
                let error = mend(&repair).unwrap_err();
                assert!(matches!(&error, MendError::NoInterface(name) if *name == link), "{error}");
            }
        }
    });
}

/// Many changes in one run of `ip`.
fn batch(lines: &str) {
    let mut child =
        std::process::Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn();
    let child = child.as_mut().unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn many_changes_are_one_and_an_overrun_is_a_change_too() {
    in_new_net_async(|| async {
        cable();
        let mut watch = LinkWatch::open().unwrap();
        batch(&"link set left mtu 1400\nlink set left mtu 1500\n".repeat(10));
        told(&mut watch).await;
        assert!(!is_told_now(&mut watch).await, "all that was queued is one change");

        // Some hundred messages fill the socket's queue; the kernel then drops the rest.
        batch(&"link set left mtu 1400\nlink set left mtu 1500\n".repeat(1_000));
        told(&mut watch).await;
        assert!(!is_told_now(&mut watch).await);
        ip("link set left mtu 9000");
        told(&mut watch).await;
    });
}

#[test]
fn without_root_a_mend_says_that_it_needs_root_and_reading_goes_on() {
    in_new(NET, || {
        cable();
        const NOBODY: libc::c_long = 65_534;
        // SAFETY: three integers. The call, unlike libc's wrapper of it, is of this thread only,
        // which ends with this test.
        let rc = unsafe { libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY) };
        assert_eq!(rc, 0);
        for (repair, what) in [
            (Repair::LinkMtu { link: "left".into(), mtu_bytes: 9_000 }, "the MTU of left"),
            (Repair::LinkAddress { link: "left".into() }, "the address of left"),
        ] {
            let error = mend(&repair).unwrap_err();
            assert!(matches!(&error, MendError::NeedsRoot(name) if name == what), "{error:?}");
        }
        assert_eq!(seen(Invariant::LinkMtu, "left"), Ok(Found::Count(1_500)));
        assert_eq!(seen(Invariant::LinkUnbridged, "left"), Ok(Found::Flag(true)));
    });
}
