//! What strangers and broken nodes can do to a port, while an honest node stays heard.

use proptest::{
    collection::vec,
    prelude::{Strategy, any},
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use serde_json::json;
use tandem_peer::link::PROTOCOL_VERSION;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    forwarder::{Forwarder, loopback},
    node::{Node, Running, pair, until},
    raw::{self, Someone},
};

/// Two nodes that hear each other, and someone who is pinned at `b` as `c`.
struct Scene {
    a: Running,
    b: Running,
    way: Forwarder,
    c: Someone,
    _nodes: (Node, Node),
}

impl Scene {
    async fn new() -> Self {
        let (a_node, b_node) = pair();
        let c = Someone::new();
        b_node.pin("c", c.fingerprint());
        let way = Forwarder::on(loopback(1)).await;
        let a = a_node.start(&[("b", &[way.address])]).await;
        let b = b_node.start(&[("a", &[]), ("c", &[])]).await;
        way.lead_to(b.port().await);
        let scene = Self { a, b, way, c, _nodes: (a_node, b_node) };
        scene.is_well("before").await;
        scene
    }

    /// News still go both ways.
    async fn is_well(&self, news: &str) {
        self.a.says(news);
        self.b.says(news);
        self.b.hears("a", news).await;
        self.a.hears("b", news).await;
    }
}

/// The same nonsense in every run.
fn nonsense() -> impl FnMut(usize) -> Vec<u8> {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    move |most| vec(any::<u8>(), 0..most).new_tree(&mut runner).unwrap().current()
}

#[tokio::test]
async fn random_bytes_instead_of_a_handshake_disturb_nobody() {
    let scene = Scene::new().await;
    let port = scene.b.port().await;
    let mut nonsense = nonsense();
    for round in 0..300 {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let mut bytes = nonsense(2_000);
        if round % 2 == 0 {
            // A TLS record that announces a handshake.
            bytes.splice(0..0, [22, 3, 1, 1, 0, 1, 0, 0, 252, 3, 3]);
        }
        let _ = stream.write_all(&bytes).await;
        if round % 50 == 0 {
            scene.is_well(&format!("in round {round}")).await;
        }
    }
    scene.is_well("after").await;
    until("they are counted", || scene.b.link.refused() >= 100).await;
    assert!(scene.a.path("b", 0).is_up);
}

#[tokio::test]
async fn malformed_frames_of_a_paired_node_end_its_connection_and_nothing_else() {
    let scene = Scene::new().await;
    let port = scene.b.port().await;
    let mut nonsense = nonsense();
    let valid = serde_json::to_vec(&json!({
        "v": PROTOCOL_VERSION, "body": {"ask": raw::account("x", 1, "p")}
    }))
    .unwrap();
    for round in 0..300 {
        let bytes = match round % 5 {
            0 => nonsense(500),
            1 => raw::framed(&nonsense(500)),
            // Larger than any frame may be.
            2 => [&(300_000_u32 + round).to_le_bytes()[..], &nonsense(500)].concat(),
            // A message with a few wrong bytes.
            3 => {
                let mut body = valid.clone();
                for byte in nonsense(8) {
                    let place = (usize::from(byte) * 7 + round as usize) % body.len();
                    body[place] ^= byte | 1;
                }
                body[0] = b'[';
                raw::framed(&body)
            }
            // A message that may not come from a dialler.
            _ => raw::message(&json!({"bulk_done": {}})),
        };
        let mut stream = scene.c.dial(port).await.unwrap();
        let _ = stream.write_all(&bytes).await;
        let _ = stream.flush().await;
        let _ = stream.shutdown().await;
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        let rest = String::from_utf8_lossy(&rest);
        assert!(!rest.contains("answer"), "round {round}: {rest}");
        if round % 50 == 0 {
            scene.is_well(&format!("in round {round}")).await;
        }
    }
    scene.is_well("after").await;
    assert_eq!(scene.b.phase("c"), None);
    assert!(scene.b.link.refused() >= 200, "{}", scene.b.link.refused());
}

#[tokio::test]
async fn connections_that_send_a_byte_and_wait_keep_nobody_out() {
    let scene = Scene::new().await;
    let port = scene.b.port().await;
    let mut open = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let _ = stream.write_all(&[22]).await;
        open.push(stream);
    }
    scene.is_well("with them").await;
    // A new connection of the honest node gets in as well, though they hold all places.
    scene.way.cut();
    until("the way is down", || !scene.a.path("b", 0).is_up).await;
    scene.way.lead_to(port);
    for _ in 0..40 {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let _ = stream.write_all(&[22]).await;
        open.push(stream);
    }
    until("the way is mended", || scene.a.path("b", 0).is_up).await;
    scene.is_well("after").await;
}

#[tokio::test]
async fn a_paired_node_can_send_no_more_bulk_than_a_measurement_takes() {
    let scene = Scene::new().await;
    let mut stream = scene.c.dial(scene.b.port().await).await.unwrap();
    let chunk = vec![0; 64 << 10];
    let mut accepted = 0_usize;
    loop {
        raw::write(&mut stream, &json!({"bulk": {"size_bytes": chunk.len()}})).await;
        stream.write_all(&chunk).await.unwrap();
        stream.flush().await.unwrap();
        let answer = raw::read(&mut stream).await.unwrap();
        if answer["body"]["refused"].is_object() {
            break;
        }
        accepted += chunk.len();
        assert!(accepted <= 64 << 20, "there is no end to it");
    }
    assert_eq!(accepted, 16 << 20);
    scene.is_well("after").await;
}
