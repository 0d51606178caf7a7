//! Nodes that are well.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use serde_json::json;
use tandem_peer::{
    identity::Pins,
    link::Secrets,
    manifest::{Manifest, ManifestEntry},
};
use tandem_policy::pair::NodeReport;
use tandem_wire::Session;
use tokio::io::AsyncReadExt;

use crate::{
    forwarder::{Forwarder, loopback},
    node::{Node, pair, report, until},
    raw::{self, Someone},
};

#[tokio::test]
async fn two_nodes_hear_each_other_on_two_ways_and_one_may_be_cut() {
    let (a, b) = pair();
    let ways = [Forwarder::on(loopback(1)).await, Forwarder::on(loopback(2)).await];
    let addresses = [ways[0].address, ways[1].address];
    let a = a.start_with(&[("b", &addresses)], 50, 1_000).await;
    let b = b.start(&[("a", &[])]).await;
    for way in &ways {
        way.lead_to(b.port().await);
    }
    a.says("one");
    b.says("two");
    a.hears("b", "two").await;
    b.hears("a", "one").await;
    until("both ways are up", || (0..2).all(|way| a.path("b", way).is_up)).await;
    for (way, address) in addresses.iter().enumerate() {
        let path = a.path("b", way);
        assert_eq!(path.address, address.to_string());
        assert!(path.round_trip_us.is_some_and(|us| us > 0), "{path:?}");
        assert_eq!(path.problem, "");
    }

    ways[0].cut();
    until("the cut way is down", || !a.path("b", 0).is_up).await;
    assert_ne!(a.path("b", 0).problem, "");
    let changes = a.changes.load(Ordering::SeqCst);
    b.says("three");
    a.hears("b", "three").await;
    assert!(a.path("b", 1).is_up);
    assert!(a.changes.load(Ordering::SeqCst) > changes, "nobody was told of the report");

    ways[0].lead_to(b.port().await);
    until("the way is mended", || a.path("b", 0).is_up).await;
}

#[tokio::test]
async fn a_way_that_only_fell_silent_is_down_too() {
    let (a, b) = pair();
    let way = Forwarder::on(loopback(1)).await;
    let a = a.start_with(&[("b", &[way.address])], 50, 500).await;
    let b = b.start(&[("a", &[])]).await;
    way.lead_to(b.port().await);
    until("it is up", || a.path("b", 0).is_up).await;
    way.silence();
    a.problem("b", 0, "in time").await;
    way.lead_to(b.port().await);
    until("it is mended", || a.path("b", 0).is_up).await;
    b.says("back");
    a.hears("b", "back").await;
}

#[tokio::test]
async fn news_are_told_at_once_but_not_more_often_than_twenty_times_a_second() {
    let (a, _) = pair();
    let someone = Someone::new();
    a.pin("b", someone.fingerprint());
    let (listener, address) = raw::listener().await;
    // Without news it would ask again after an hour.
    let a = a.start_with(&[("b", &[address])], 3_600_000, 7_200_000).await;
    let mut stream = someone.accept(&listener).await.unwrap();
    let mut start = Instant::now();
    let mut questions = 0;
    for number in 1_u64.. {
        let question = raw::read(&mut stream).await.unwrap();
        if question["body"]["bulk"].is_object() {
            let mut bulk =
                vec![0; question["body"]["bulk"]["size_bytes"].as_u64().unwrap() as usize];
            stream.read_exact(&mut bulk).await.unwrap();
            raw::write(&mut stream, &json!({"bulk_done": {}})).await;
            start = Instant::now();
            questions = 0;
            continue;
        }
        questions += 1;
        if questions == 50 {
            break;
        }
        a.says(&format!("news {number}"));
        raw::write(&mut stream, &json!({"answer": raw::account("x", number, "p")})).await;
    }
    // Two may be at once after the burst; after that there are 50 ms between two.
    assert!(start.elapsed() >= Duration::from_millis(47 * 50), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_question_alone_is_heard_too() {
    let (a, b) = pair();
    let way = Forwarder::on(loopback(1)).await;
    // Only one of them can reach the other, and both hear.
    let a = a.start(&[("b", &[way.address])]).await;
    let b = b.start(&[("a", &[])]).await;
    way.lead_to(b.port().await);
    a.says("from the dialler");
    b.says("from the listener");
    b.hears("a", "from the dialler").await;
    a.hears("b", "from the listener").await;
    assert!(b.peer("a").is_paired);
}

#[tokio::test]
async fn three_nodes_each_hear_the_others() {
    let nodes = ["a", "b", "c"].map(Node::new);
    for node in &nodes {
        for other in nodes.iter().filter(|other| other.name != node.name) {
            node.pin(&other.name, other.identity.fingerprint());
        }
    }
    let ways = [
        Forwarder::on(loopback(1)).await,
        Forwarder::on(loopback(1)).await,
        Forwarder::on(loopback(1)).await,
    ];
    let mut running = Vec::new();
    for node in &nodes {
        let others: Vec<_> = nodes
            .iter()
            .zip(&ways)
            .filter(|(other, _)| other.name != node.name)
            .map(|(other, way)| (other.name.as_str(), [way.address]))
            .collect();
        let others: Vec<_> = others.iter().map(|(name, way)| (*name, way.as_slice())).collect();
        running.push(node.start(&others).await);
    }
    for (node, way) in running.iter().zip(&ways) {
        way.lead_to(node.port().await);
        node.says("here");
    }
    for (node, place) in running.iter().zip(&nodes) {
        for other in nodes.iter().filter(|other| other.name != place.name) {
            node.hears(&other.name, "here").await;
            until("its way is up", || node.path(&other.name, 0).is_up).await;
        }
    }
}

#[tokio::test]
async fn secrets_go_to_the_other_node_and_change_with_the_epoch() {
    let (a, b) = pair();
    let way = Forwarder::on(loopback(1)).await;
    let a = a.start(&[("b", &[way.address])]).await;
    let b = b.start(&[("a", &[])]).await;
    way.lead_to(b.port().await);
    for epoch in 1..4 {
        let control_key = format!("key {epoch}");
        let session = Some(Session { epoch, control_key });
        let secrets = Secrets { session, gateway_key: Some("gateway".into()) };
        a.link.tell(report("a", "p"), secrets.clone());
        until("the secrets are there", || b.link.secrets("a").as_ref() == Some(&secrets)).await;
    }
    assert_eq!(b.link.secrets("nobody"), None);
}

#[tokio::test]
async fn a_restarted_supervisor_is_heard_again() {
    let (a, b) = pair();
    let way = Forwarder::on(loopback(1)).await;
    let a = a.start(&[("b", &[way.address])]).await;
    for life in ["first", "second", "third"] {
        let b = b.start(&[("a", &[])]).await;
        way.lead_to(b.port().await);
        b.says(life);
        a.hears("b", life).await;
        drop(b);
        until("its end is noticed", || !a.path("b", 0).is_up).await;
    }
}

#[tokio::test]
async fn pairing_and_forgetting_take_effect_while_it_runs() {
    let (a, b) = pair();
    let way = Forwarder::on(loopback(1)).await;
    assert!(Pins::forget(&a.folder(), "b").unwrap());
    let running = a.start(&[("b", &[way.address])]).await;
    let b_running = b.start(&[("a", &[])]).await;
    way.lead_to(b_running.port().await);
    b_running.says("here");
    running.problem("b", 0, "not paired").await;
    assert!(!running.peer("b").is_paired);

    a.pin("b", b.identity.fingerprint());
    running.link.repin();
    running.hears("b", "here").await;
    assert!(running.peer("b").is_paired);

    // Not even told: the pins are looked at again by themselves.
    Pins::forget(&a.folder(), "b").unwrap();
    running.problem("b", 0, "not paired").await;
    let peer = running.peer("b");
    assert!(!peer.is_paired && peer.report.is_none(), "{peer:?}");
}

#[tokio::test]
async fn different_files_are_told_one_by_one() {
    let (a, b) = pair();
    let way = Forwarder::on(loopback(1)).await;
    let a = a.start(&[("b", &[way.address])]).await;
    let b = b.start(&[("a", &[])]).await;
    way.lead_to(b.port().await);
    let files = |rows: &[(&str, u64, &str)]| {
        let entry = |(path, size_bytes, blake3): &(&str, u64, &str)| ManifestEntry {
            path: (*path).into(),
            size_bytes: *size_bytes,
            blake3: (*blake3).into(),
        };
        Manifest::of(rows.iter().map(entry).collect())
    };
    let own = files(&[("config.json", 1, "x"), ("model.safetensors", 9, "x")]);
    let other = files(&[("config.json", 1, "y"), ("model.safetensors", 8, "x")]);
    for (running, name, manifest) in [(&a, "a", &own), (&b, "b", &other)] {
        running.link.set_manifest(manifest.clone());
        let manifest = Some(manifest.digest().to_owned());
        let report = NodeReport { manifest, ..report(name, "p") };
        running.link.tell(report, Secrets::default());
    }
    until("the differences are known", || a.peer("b").differences.len() == 2).await;
    assert_eq!(
        a.peer("b").differences,
        [
            "config.json: the same size, other content on b",
            "model.safetensors: 9 bytes here, 8 on b"
        ]
    );

    b.link.set_manifest(own.clone());
    let manifest = Some(own.digest().to_owned());
    b.link.tell(NodeReport { manifest, ..report("b", "p") }, Secrets::default());
    until("they are gone", || a.peer("b").differences.is_empty()).await;
}

#[tokio::test]
async fn a_way_is_measured_when_it_comes_up() {
    let (a, b) = pair();
    let way = Forwarder::on(loopback(1)).await;
    let a = a.start(&[("b", &[way.address])]).await;
    let b = b.start(&[("a", &[])]).await;
    way.lead_to(b.port().await);
    until("it is measured", || a.path("b", 0).throughput_mbps.is_some_and(|mbps| mbps > 0)).await;
    a.says("after");
    b.hears("a", "after").await;
    assert!(a.path("b", 0).is_up);
    assert_eq!(b.link.refused(), 0);
}
