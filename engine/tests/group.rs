//! MLX's ring between two real processes: this test's executable runs itself once for each rank.

#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use mlx_rs::{Array, Dtype};
use tandem_engine::control::form::{self, Patience};
use tandem_engine::control::parity::Parity;
use tandem_engine::control::ring::{self, Meeting};
use tandem_engine::control::{ControlKey, Terms};
use tandem_engine::mlx::{Group, memory_bytes};
use tandem_engine::settings::{Backend, RankPlace, RankSetup, Settings};
use tandem_engine::{EngineError, transport};

const ROLE: &str = "TANDEM_TEST_GROUP_ROLE";
const CONTROL_PORT: &str = "TANDEM_TEST_GROUP_PORT";

fn ramp(len: i32, from: f32) -> Array {
    let values: Vec<f32> = (0..len).map(|n| from + n as f32).collect();
    Array::from_slice(&values, &[len])
}

fn floats(array: &Array) -> Vec<f32> {
    array.contiguous().unwrap().to_vec_cast::<f32>().unwrap()
}

#[test]
#[ignore = "a rank for the other tests, which run it as a child process"]
fn rank() {
    let number: u32 = std::env::var("MLX_RANK").unwrap().parse().unwrap();
    match std::env::var(ROLE).unwrap().as_str() {
        "compute" => compute(&Group::init(Backend::Ring, true, number, 2).unwrap()),
        "joined" => compute(&joined(number)),
        "sweep" => sweep(&Group::init(Backend::Ring, true, number, 2).unwrap()),
        "wrong size" => {
            let error = Group::init(Backend::Ring, true, number, 3).err().unwrap();
            assert!(matches!(&error, EngineError::Group(m) if m.contains("of 2")), "{error}");
        }
        "lost" => {
            let group = Group::init(Backend::Ring, true, number, 2).unwrap();
            if number == 0 {
                let error = (0..100)
                    .find_map(|_| group.all_sum(&ramp(8, 0.0)).and_then(|a| Ok(a.eval()?)).err());
                assert!(error.unwrap().to_string().contains("[ring]"));
            }
        }
        other => panic!("no role {other}"),
    }
}

fn compute(group: &Group) {
    let mine = group.rank() as f32;
    assert_eq!(group.size(), 2);
    // One row, some rows, and more than one exchange holds.
    for shape in [vec![1, 1, 576], vec![3, 1, 7], vec![1, 512, 576], vec![1]] {
        let len: i32 = shape.iter().product();
        let x = ramp(len, mine * 1000.0).reshape(&shape).unwrap();
        let sum = group.all_sum(&x).unwrap();
        assert_eq!(sum.shape(), shape);
        let expected: Vec<f32> = (0..len).map(|n| 1000.0 + 2.0 * n as f32).collect();
        assert_eq!(floats(&sum), expected, "{shape:?}");
    }
    let gathered = group.all_gather(&ramp(2, mine * 10.0).reshape(&[1, 2]).unwrap()).unwrap();
    assert_eq!(gathered.shape(), [2, 2]);
    assert_eq!(floats(&gathered), [0.0, 1.0, 10.0, 11.0]);
    if group.rank() == 0 {
        group.send(&ramp(4, 7.0), 1).unwrap().eval().unwrap();
    } else {
        let received = group.recv(&[4], Dtype::Float32, 0).unwrap();
        assert_eq!(floats(&received), [7.0, 8.0, 9.0, 10.0]);
    }
}

/// A group whose ring is of connections that the ranks made themselves, as in a real rank.
fn joined(rank: u32) -> Group {
    let local: IpAddr = [127, 0, 0, 1].into();
    let port = std::env::var(CONTROL_PORT).unwrap().parse().unwrap();
    let setup = RankSetup {
        rank,
        ranks: vec![RankPlace { address: local, weight: 1 }; 2],
        model_dir: "model".into(),
        run_dir: "run".into(),
        settings: Settings::default(),
        ceiling: None,
    };
    let key = ControlKey::from_hex(&"5a".repeat(32)).unwrap();
    let listener = ring::listen(local, 0).unwrap();
    let ring_port = listener.local_addr().unwrap().port();
    let terms = Terms { epoch: 7, rank, world: 2, parity: Parity::new(&setup, &[]), ring_port };
    let patience = Patience::new(60_000, Arc::default());
    let control = SocketAddr::new(local, port);
    // Both until the end: a rank that is gone takes its control channel with it.
    let (mut peers, rank_0);
    let ports = if rank == 0 {
        peers = form::lead(control, &key, &terms, &patience).unwrap().unwrap();
        peers.remove(0).ring_ports
    } else {
        rank_0 = form::follow(control, &key, &terms, &patience).unwrap().unwrap();
        rank_0.ring_ports.clone()
    };
    // Time for strangers to find the ports.
    std::thread::sleep(Duration::from_millis(300));
    let places = ports.iter().map(|port| SocketAddr::new(local, *port)).collect();
    let meeting = Meeting { listener, places, rank, epoch: 7, key };
    let neighbours = meeting.meet(&patience).unwrap().unwrap();
    Group::join_ring(neighbours, rank, 2).unwrap()
}

fn sweep(group: &Group) {
    let transport = transport::sweep(group).unwrap();
    assert_eq!((transport.backend.as_str(), transport.world), ("ring", 2));
    for row in &transport.rows {
        assert!(0 < row.best_ns && row.best_ns <= row.median_ns && row.rounds > 0, "{row:?}");
    }
    let (now, peak) = memory_bytes();
    assert!(now < 64 << 10 && peak < 64 << 10, "{now} and at most {peak} bytes are held");
    // The group is in step: it goes on as if it had not been measured.
    compute(group);
    let sizes: Vec<u64> = transport.rows.iter().map(|row| row.bytes).collect();
    println!("\nsizes {sizes:?}");
}

/// Both ranks of a group, with ports that were free a moment ago.
fn spawn(role: &str, folder: &std::path::Path) -> Vec<Child> {
    let held: Vec<_> = (0..2).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let address = |l: &TcpListener| vec![l.local_addr().unwrap().to_string()];
    let hosts: Vec<_> = held.iter().map(address).collect();
    let control_port = held[0].local_addr().unwrap().port();
    drop(held);
    let path = folder.join("hosts.json");
    std::fs::write(&path, serde_json::to_string(&hosts).unwrap()).unwrap();
    let rank = |number: u32| {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "rank", "--ignored", "--nocapture"])
            .env(ROLE, role)
            .env(CONTROL_PORT, control_port.to_string())
            .env("MLX_RANK", number.to_string())
            .env("MLX_HOSTFILE", &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    (0..2).map(rank).collect()
}

/// Runs both ranks; gives what each wrote to its standard output.
fn assert_all_succeed(role: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    assert_ranks_succeed(role, spawn(role, folder.path()))
}

fn assert_ranks_succeed(role: &str, ranks: Vec<Child>) -> Vec<String> {
    let ended = ranks.into_iter().enumerate().map(|(number, child)| {
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "rank {number} as '{role}': {said}");
        String::from_utf8(output.stdout).unwrap()
    });
    ended.collect()
}

/// A stranger on this machine who sees every port that the ranks listen on and connects at once, before
/// the rank that it is meant for.
#[cfg(target_os = "linux")]
#[test]
fn a_ring_forms_and_is_right_while_a_stranger_connects_to_all_its_ports() {
    let folder = tempfile::tempdir().unwrap();
    let mut ranks = spawn("joined", folder.path());
    let ids: Vec<u32> = ranks.iter().map(Child::id).collect();
    let mut held = Vec::new();
    let mut met = std::collections::BTreeSet::new();
    while ranks.iter_mut().any(|rank| rank.try_wait().unwrap().is_none()) {
        for port in ids.iter().flat_map(|id| listening_ports(*id)) {
            // Some hold their connection, some spoil it; not so many that this test has none left.
            if let Ok(mut stranger) = std::net::TcpStream::connect(("127.0.0.1", port)) {
                if held.len() % 2 == 0 {
                    let _ = std::io::Write::write_all(&mut stranger, &[0xff; 64]);
                }
                met.insert(port);
                held.push(stranger);
            }
        }
        if held.len() > 200 {
            held.drain(..100);
        }
    }
    assert!(met.len() >= 3, "the control channel's and both ranks' ports: {met:?}");
    assert_ranks_succeed("joined", ranks);
}

/// Ports of this machine's IPv4 that a process listens on.
#[cfg(target_os = "linux")]
fn listening_ports(process: u32) -> Vec<u16> {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{process}/fd")) else { return Vec::new() };
    let links = entries.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
    let sockets: Vec<String> = links.map(|link| link.to_string_lossy().into_owned()).collect();
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let listening = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_theirs = sockets.contains(&format!("socket:[{}]", fields[9]));
        let port = fields[1].split_once(':')?.1;
        (fields[3] == "0A" && is_theirs).then(|| u16::from_str_radix(port, 16).unwrap())
    });
    listening.collect()
}

#[test]
fn two_ranks_join_a_ring_of_their_own_connections() {
    assert_all_succeed("joined");
}

#[test]
fn two_ranks_sum_gather_send_and_receive() {
    assert_all_succeed("compute");
}

#[test]
fn two_ranks_measure_the_same_sizes_and_keep_no_memory_for_it() {
    let written = assert_all_succeed("sweep");
    let sizes = written.iter().map(|out| out.lines().find(|line| line.starts_with("sizes")));
    let sizes: Vec<&str> = sizes.map(Option::unwrap).collect();
    assert!(sizes[0].starts_with("sizes [4096, 65536"), "{sizes:?}");
    assert_eq!(sizes[0], sizes[1]);
}

#[test]
fn a_group_of_another_size_than_configured_is_refused() {
    assert_all_succeed("wrong size");
}

#[test]
fn a_lost_rank_is_an_error_of_the_next_collective() {
    assert_all_succeed("lost");
}
