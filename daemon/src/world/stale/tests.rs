use std::{
    fs,
    io::{Read, Write},
    os::unix::net::UnixListener,
    process::{Child, Command, Stdio},
    time::Instant,
};

use tandem_wire::{PROTOCOL_VERSION, encode};

use super::*;
use crate::world::own_file::tests::PLANTS;

/// A run directory, and a process that has a rank's arguments.
struct Scene {
    folder: tempfile::TempDir,
    finder: Finder,
    child: Child,
}

impl Scene {
    fn new(script: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(children_dir(folder.path())).unwrap();
        let mut child = Command::new("sh")
            .args(["-c", script, "tandem", "rank", "--rank", "1", "--config"])
            .arg(Served::Together.config_path(folder.path()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // Its arguments can be read once it runs, which may be a little after the spawn returns.
        child.stdout.take().unwrap().read_exact(&mut [0; 3]).unwrap();
        let identity = tandem_host::identity(child.id()).unwrap();
        let finder = Finder {
            run_dir: folder.path().into(),
            executable: identity.executable,
            uid: identity.uids[0],
            epoch: 9,
        };
        Self { folder, finder, child }
    }

    fn waiting() -> Self {
        Self::new("echo up; read line")
    }

    fn note(&self, who: Who, note: &str) {
        fs::write(pid_path(self.folder.path(), who), note).unwrap();
    }

    fn find(&self, who: Who) -> Option<Stale> {
        block_on(self.finder.find(who))
    }

    fn end(mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
        assert_eq!(self.find(Who::Rank(1)), None, "it ended");
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn hello(pid: u32, epoch: u64) -> Vec<u8> {
    let hello = Hello { protocol: PROTOCOL_VERSION, epoch, rank: 1, world: 2, pid };
    encode(&FromRank::Hello(hello)).unwrap()
}

#[test]
fn a_note_counts_only_while_its_process_is_the_one_that_was_noted() {
    let scene = Scene::waiting();
    let pid = scene.child.id();
    let identity = tandem_host::identity(pid).unwrap();
    let started = identity.started;
    let found = |epoch| {
        let own = OwnProcess::found(ProcessId::new(pid).unwrap(), identity.clone());
        Some(Stale { own, epoch, served: Served::Together })
    };
    for who in [Who::Rank(1), Who::Rank(0), Who::Gateway] {
        scene.note(who, &format!("{pid} 9 {started}\n"));
    }
    assert_eq!(scene.find(Who::Rank(1)), found(Some(9)));
    assert_eq!(scene.find(Who::Rank(0)), None, "that process is another rank");
    assert_eq!(scene.find(Who::Gateway), None);
    // As earlier versions wrote it; and an epoch higher than the memory that was lost knew of.
    scene.note(Who::Rank(1), &format!("{pid} 12\n"));
    assert_eq!(scene.find(Who::Rank(1)), found(Some(12)));
    for absurd in [(1 << 48) + 1, u64::MAX] {
        scene.note(Who::Rank(1), &format!("{pid} {absurd} {started}\n"));
        assert_eq!(scene.find(Who::Rank(1)), found(None), "{absurd}");
    }
    for odd in [
        format!("{pid} 9 {}", started + 1),
        format!("{pid} 9 {started} 1"),
        format!("{pid}"),
        format!("-{pid} 9 {started}"),
        format!("{} 9 {started}", u64::from(pid) + (1 << 32)),
        format!("0 9 {started}"),
        format!("1 9 {started}"),
        format!("{} 9", std::process::id()),
        String::new(),
    ] {
        scene.note(Who::Rank(1), &odd);
        assert_eq!(scene.find(Who::Rank(1)), None, "{odd}");
    }
    scene.end();
}

#[test]
fn who_answers_at_a_socket_is_who_the_kernel_says_whatever_he_claims() {
    let scene = Scene::waiting();
    let socket = children_dir(scene.folder.path()).join("rank-1.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let victim = scene.child.id();
    let answer = |bytes: Vec<u8>| {
        let listener = listener.try_clone().unwrap();
        std::thread::spawn(move || listener.accept().unwrap().0.write_all(&bytes).unwrap())
    };
    // The victim even is a rank of ours, but it is not the one who speaks.
    for pid in [victim, 0, 1, u32::MAX, std::process::id()] {
        let speaker = answer(hello(pid, 9));
        assert_eq!(scene.find(Who::Rank(1)), None, "{pid}");
        speaker.join().unwrap();
    }
    let mut huge = (16_u32 << 20).to_le_bytes().to_vec();
    huge.extend([b' '; 64]);
    for bytes in [huge, vec![], vec![1, 0, 0, 0, b'x']] {
        let speaker = answer(bytes);
        assert_eq!(scene.find(Who::Rank(1)), None);
        speaker.join().unwrap();
    }
    scene.end();
}

#[test]
fn a_rank_of_ours_is_found_by_its_socket_and_its_epoch_not_beyond_the_last() {
    // Speaks for itself, as ranks do, and has their arguments.
    let script = "import json,os,socket,struct,sys\n\
                  s=socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); print('up',flush=True)\n\
                  while True:\n  c,_=s.accept(); b=open(sys.argv[2],'rb').read(); c.sendall(b)";
    let folder = tempfile::tempdir().unwrap();
    let children = children_dir(folder.path());
    fs::create_dir(&children).unwrap();
    let words = folder.path().join("words");
    let mut child = Command::new("python3")
        .args(["-c", script])
        .arg(children.join("rank-1.sock"))
        .arg(&words)
        .args(["rank", "--rank", "1", "--config"])
        .arg(Served::Together.config_path(folder.path()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdout.take().unwrap().read_exact(&mut [0; 3]).unwrap();
    let identity = tandem_host::identity(child.id()).unwrap();
    let finder = Finder {
        run_dir: folder.path().into(),
        executable: identity.executable.clone(),
        uid: identity.uids[0],
        epoch: 9,
    };
    // Whatever process id it claims, only it itself can be meant.
    for (claimed, epoch, expected) in [
        (child.id(), 9, Some(9)),
        (1, 8, Some(8)),
        (child.id(), 10, None),
        (child.id(), 9_999_999_999, None),
        (child.id(), u64::MAX, None),
        (child.id(), 1 << 63, None),
    ] {
        fs::write(&words, hello(claimed, epoch)).unwrap();
        let found = block_on(finder.find(Who::Rank(1))).unwrap();
        let own = OwnProcess::found(ProcessId::new(child.id()).unwrap(), identity.clone());
        assert_eq!(found, Stale { own, epoch: expected, served: Served::Together });
    }
    let other = |change: fn(&mut Finder)| {
        let mut finder = finder.clone();
        change(&mut finder);
        block_on(finder.find(Who::Rank(1)))
    };
    assert_eq!(other(|finder| finder.uid += 1), None, "another user's");
    assert_eq!(other(|finder| finder.executable = "/bin/tandem".into()), None);
    assert_eq!(other(|finder| finder.run_dir = "/run/other".into()), None);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn nothing_that_was_planted_holds_up_the_search() {
    for (name, plant) in PLANTS {
        let scene = Scene::waiting();
        plant(&pid_path(scene.folder.path(), Who::Rank(1)));
        plant(&children_dir(scene.folder.path()).join("rank-1.sock"));
        assert_eq!(scene.find(Who::Rank(1)), None, "{name}");
        scene.end();
    }
}

#[test]
fn a_socket_that_takes_its_time_is_left() {
    let scene = Scene::waiting();
    let socket = children_dir(scene.folder.path()).join("rank-1.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    // It drips a byte each time that a limit for each read would have begun anew.
    let dripping = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let began = Instant::now();
        while stream.write_all(b"\x01").is_ok() && began.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(HELLO_TIMEOUT / 4);
        }
        began.elapsed()
    });
    assert_eq!(scene.find(Who::Rank(1)), None);
    assert!(dripping.join().unwrap() < Duration::from_secs(60), "it was left");

    // Nobody accepts, and no more connections can wait.
    fs::remove_file(&socket).unwrap();
    let full = nix::sys::socket::socket(
        nix::sys::socket::AddressFamily::Unix,
        nix::sys::socket::SockType::Stream,
        nix::sys::socket::SockFlag::empty(),
        None,
    )
    .unwrap();
    nix::sys::socket::bind(
        std::os::fd::AsRawFd::as_raw_fd(&full),
        &nix::sys::socket::UnixAddr::new(&socket).unwrap(),
    )
    .unwrap();
    nix::sys::socket::listen(&full, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
    let connect = async || timeout(HELLO_TIMEOUT, UnixStream::connect(&socket)).await.ok()?.ok();
    let waiting: Vec<_> = (0..4).map_while(|_| block_on(async { connect().await })).collect();
    assert_eq!(scene.find(Who::Rank(1)), None);
    drop((waiting, full));
    scene.end();
}
