use super::*;

/// For what must happen, on however busy a machine.
const PATIENCE_MS: u64 = 30_000;

fn key(byte: &str) -> ControlKey {
    ControlKey::from_hex(&byte.repeat(32)).unwrap()
}

fn patience(timeout_ms: u64) -> Patience {
    Patience::new(timeout_ms, Arc::new(AtomicBool::new(false)))
}

fn loopback() -> IpAddr {
    [127, 0, 0, 1].into()
}

/// The meetings of so many ranks, each with the key of its place.
fn meetings(keys: &[&str]) -> Vec<Meeting> {
    let listeners: Vec<_> = keys.iter().map(|_| listen(loopback(), 0).unwrap()).collect();
    let places: Vec<_> = listeners.iter().map(|l| l.local_addr().unwrap()).collect();
    let meeting = |(rank, listener)| Meeting {
        listener,
        places: places.clone(),
        rank,
        epoch: 7,
        key: key(keys[rank as usize]),
    };
    (0..).zip(listeners).map(meeting).collect()
}

fn meet(meeting: Meeting, ms: u64) -> std::thread::JoinHandle<Result<Neighbours, EngineError>> {
    std::thread::spawn(move || meeting.meet(&patience(ms)).map(Option::unwrap))
}

/// Each rank tells its neighbours its number by the connections it was given.
fn assert_ring(ring: Vec<Neighbours>) {
    let world = ring.len();
    for (rank, mut neighbours) in (0_u8..).zip(&ring).map(|(rank, n)| (rank, (&n.left, &n.right))) {
        neighbours.0.write_all(&[rank]).unwrap();
        neighbours.1.write_all(&[rank]).unwrap();
    }
    for (rank, neighbours) in ring.iter().enumerate() {
        let (mut before, mut after) = ([0], [0]);
        (&neighbours.left).read_exact(&mut before).unwrap();
        (&neighbours.right).read_exact(&mut after).unwrap();
        let expected = ((rank + world - 1) % world, (rank + 1) % world);
        assert_eq!((before[0].into(), after[0].into()), expected, "rank {rank}");
    }
}

#[test]
fn two_and_three_ranks_meet_in_order() {
    for world in [2, 3] {
        let meeting = meetings(&vec!["5a"; world]).into_iter().map(|m| meet(m, PATIENCE_MS));
        let meeting: Vec<_> = meeting.collect();
        assert_ring(meeting.into_iter().map(|m| m.join().unwrap().unwrap()).collect());
    }
}

/// Who connects first, and holds the connection, spoils it or floods the port, is not let in.
#[test]
fn strangers_are_not_taken_for_a_neighbour_and_keep_none_out() {
    let ranks = meetings(&["5a"; 2]);
    let mut strangers = Vec::new();
    for place in ranks[0].places.clone() {
        for number in 0..12 {
            let mut stranger = TcpStream::connect(place).unwrap();
            let words: [&[u8]; 3] = [b"", &[0xff; 300], b"GET / HTTP/1.1\r\n\r\n"];
            let _ = stranger.write_all(words[number % 3]);
            strangers.push(stranger);
        }
    }
    let meeting: Vec<_> = ranks.into_iter().map(|m| meet(m, PATIENCE_MS)).collect();
    assert_ring(meeting.into_iter().map(|m| m.join().unwrap().unwrap()).collect());
    drop(strangers);
}

#[test]
fn a_rank_of_another_epoch_is_refused_and_named() {
    let ranks = meetings(&["5a", "00"]);
    let meeting: Vec<_> = ranks.into_iter().map(|m| meet(m, 1_500)).collect();
    for met in meeting {
        let error = met.join().unwrap().unwrap_err();
        assert!(matches!(&error, EngineError::Group(m) if m.contains("key")), "{error}");
    }
}

#[test]
fn a_port_that_somebody_holds_is_given_up_for_another() {
    let squatter = TcpListener::bind((loopback(), 0)).unwrap();
    let port = squatter.local_addr().unwrap().port();
    let other = listen(loopback(), port).unwrap().local_addr().unwrap().port();
    assert!(other != port && other != 0);
}

#[test]
fn meeting_can_be_cancelled() {
    let cancelled = Patience::new(60_000, Arc::new(AtomicBool::new(true)));
    let alone = meetings(&["5a"; 2]).remove(0);
    assert!(alone.meet(&cancelled).unwrap().is_none());
}
