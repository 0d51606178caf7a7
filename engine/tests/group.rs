//! MLX's ring between two real processes: this test's executable runs itself once for each rank.

#![allow(clippy::unwrap_used)]

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use mlx_rs::{Array, Dtype};
use tandem_engine::EngineError;
use tandem_engine::mlx::{Group, memory_bytes};
use tandem_engine::settings::Backend;
use tandem_engine::transport;

const ROLE: &str = "TANDEM_TEST_GROUP_ROLE";

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
    drop(held);
    let path = folder.join("hosts.json");
    std::fs::write(&path, serde_json::to_string(&hosts).unwrap()).unwrap();
    let rank = |number: u32| {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "rank", "--ignored", "--nocapture"])
            .env(ROLE, role)
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
    let ended = spawn(role, folder.path()).into_iter().enumerate().map(|(number, child)| {
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "rank {number} as '{role}': {said}");
        String::from_utf8(output.stdout).unwrap()
    });
    ended.collect()
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
