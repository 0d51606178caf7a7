use std::{
    io::{Read, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
    time::Duration,
};

use tandem_policy::{Order, OrderKind};

use super::*;
use crate::exit;

/// A server in a folder of its own, and the supervisor's end of its orders.
struct Rig {
    _folder: tempfile::TempDir,
    path: PathBuf,
    orders: Orders,
}

impl Rig {
    fn new(last_order: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let orders = Orders::new(last_order);
        let server = ControlServer::bind(&path).unwrap();
        tokio::spawn(server.serve(orders.clone()));
        Self { _folder: folder, path, orders }
    }

    async fn ask(&self, request: Request) -> Result<Reply, ControlError> {
        let path = self.path.clone();
        tokio::task::spawn_blocking(move || ask(&path, request)).await.unwrap()
    }

    /// Sends these bytes as they are, ends the sending side, and returns what comes back.
    async fn raw(&self, bytes: Vec<u8>) -> Reply {
        let path = self.path.clone();
        let answer = tokio::task::spawn_blocking(move || raw(&path, &bytes)).await.unwrap();
        serde_json::from_str(&answer).unwrap_or_else(|e| panic!("{answer:?}: {e}"))
    }

    /// Obeys all that comes, as a supervisor would.
    fn obey_all(&self) {
        let orders = self.orders.clone();
        tokio::spawn(async move {
            loop {
                orders.arrived().await;
                if let Some(last) = orders.pending().last() {
                    orders.obeyed(last.number);
                }
            }
        });
    }
}

fn raw(path: &Path, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    // It may close before it has all of a long one.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

fn refused(result: Result<Reply, ControlError>) -> (Why, String, i32) {
    match result {
        Err(error) => {
            let code = error.exit_code();
            match error {
                ControlError::Refused { why, message } => (why, message, code),
                other => panic!("{other}"),
            }
        }
        Ok(reply) => panic!("{reply:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ping_needs_no_turn() {
    let rig = Rig::new(0);
    assert_eq!(rig.ask(Request::Ping).await.unwrap(), Reply::Pong);
    assert_eq!(rig.orders.pending(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_answered_only_once_it_is_obeyed() {
    let rig = Rig::new(41);
    let path = rig.path.clone();
    let asked = tokio::task::spawn_blocking(move || ask(&path, Request::Drain));
    rig.orders.arrived().await;
    assert_eq!(rig.orders.pending(), [Order { number: 42, what: OrderKind::Drain }]);
    // The supervisor may look as often as it likes, and say again what it obeyed before.
    rig.orders.obeyed(41);
    assert_eq!(rig.orders.pending().len(), 1);
    assert!(!asked.is_finished());
    rig.orders.obeyed(42);
    assert_eq!(asked.await.unwrap().unwrap(), Reply::Obeyed { order: 42 });
    assert_eq!(rig.orders.pending(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_go_on_growing() {
    let rig = Rig::new(7);
    rig.obey_all();
    for (request, order) in [(Request::Drain, 8), (Request::Resume, 9), (Request::Release, 10)] {
        assert_eq!(rig.ask(request).await.unwrap(), Reply::Obeyed { order });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_ends_when_it_was_asked_to() {
    let rig = Rig::new(0);
    let path = rig.path.clone();
    let hold = Request::Hold { for_ms: Some(7_200_000) };
    let asked = tokio::task::spawn_blocking(move || ask(&path, hold));
    rig.orders.arrived().await;
    let OrderKind::Hold { until_wall_ms: Some(until_wall_ms) } = rig.orders.pending()[0].what
    else {
        panic!("{:?}", rig.orders.pending());
    };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now_ms = u64::try_from(now.as_millis()).unwrap();
    assert!(until_wall_ms <= now_ms + 7_200_000 && until_wall_ms > now_ms + 7_000_000);
    rig.orders.obeyed(1);
    assert_eq!(asked.await.unwrap().unwrap(), Reply::Obeyed { order: 1 });
}

#[tokio::test(start_paused = true)]
async fn an_order_that_nobody_obeys_is_withdrawn() {
    let orders = Orders::new(0);
    let given = orders.give(OrderKind::Drain, OBEY_TIMEOUT).await;
    assert_eq!(given, Err(orders::NotObeyed::Unconfirmed));
    assert_eq!(orders.pending(), []);
    // Its number is not used again: the supervisor may have taken it just then.
    let next = orders.clone();
    let next = tokio::spawn(async move { next.give(OrderKind::Resume, OBEY_TIMEOUT).await });
    orders.arrived().await;
    while orders.pending().is_empty() {
        tokio::task::yield_now().await;
    }
    orders.obeyed(1);
    assert_eq!(orders.pending(), [Order { number: 2, what: OrderKind::Resume }]);
    orders.obeyed(2);
    assert_eq!(next.await.unwrap(), Ok(2));
}

#[tokio::test(start_paused = true)]
async fn only_so_many_orders_wait() {
    let orders = Orders::new(0);
    let mut given = Vec::new();
    for _ in 0..20 {
        let orders = orders.clone();
        given.push(tokio::spawn(async move { orders.give(OrderKind::Drain, OBEY_TIMEOUT).await }));
    }
    let mut full = 0;
    for given in given {
        full += usize::from(given.await.unwrap() == Err(orders::NotObeyed::Full));
    }
    assert_eq!(full, 4);
    assert_eq!(orders.pending(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_is_refused_in_words() {
    let rig = Rig::new(0);
    let long = format!("{{\"request\":\"ping\"{}}}\n", " ".repeat(FRAME_BYTES_MAX));
    let nested = format!("{}\n", "[".repeat(4_000));
    let cases: [(&[u8], &str); 10] = [
        (b"", "ended before its line did"),
        (b"{\"request\":\"ping\"}", "ended before its line did"),
        (b"{\"request\":\"dra", "ended before its line did"),
        (b"\n", "no request"),
        (b"\0\xff\xfe\n", "no request"),
        (b"{\"request\":\"format_disk\"}\n", "no request"),
        (b"{\"request\":\"hold\",\"for_ms\":-1}\n", "no request"),
        (b"{\"request\":\"hold\",\"for_ms\":1,\"force\":true}\n", "no request"),
        (long.as_bytes(), "longer than 4096 bytes"),
        (nested.as_bytes(), "no request"),
    ];
    for (bytes, expected) in cases {
        match rig.raw(bytes.to_vec()).await {
            Reply::Error { why: Why::Malformed, message } => {
                assert!(message.contains(expected), "{bytes:?}: {message}");
            }
            other => panic!("{bytes:?}: {other:?}"),
        }
    }
    assert_eq!(rig.ask(Request::Ping).await.unwrap(), Reply::Pong);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_has_bounds() {
    let rig = Rig::new(0);
    for ms in [0, HOLD_MS_MIN - 1, HOLD_MS_MAX + 1, u64::MAX] {
        let asked = rig.ask(Request::Hold { for_ms: Some(ms) }).await;
        let (why, message, code) = refused(asked);
        assert_eq!((why, code), (Why::Malformed, exit::USAGE), "{ms}: {message}");
    }
    assert_eq!(rig.orders.pending(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_idle_connections_keep_nobody_out() {
    let rig = Rig::new(0);
    rig.obey_all();
    let idle: Vec<_> = (0..100).map(|_| UnixStream::connect(&rig.path).unwrap()).collect();
    assert_eq!(rig.ask(Request::Drain).await.unwrap(), Reply::Obeyed { order: 1 });
    // Each is told, and closed.
    let told = tokio::task::spawn_blocking(move || {
        let told = |mut stream: UnixStream| {
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text.contains("no request came in 2 s")
        };
        idle.into_iter().filter_map(|stream| told(stream).then_some(())).count()
    });
    assert_eq!(told.await.unwrap(), 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_idle_connections_than_places_are_turned_away() {
    let rig = Rig::new(0);
    let _idle: Vec<_> = (0..128).map(|_| UnixStream::connect(&rig.path).unwrap()).collect();
    let (why, message, code) = refused(rig.ask(Request::Ping).await);
    assert_eq!((why, code), (Why::Busy, exit::UNAVAILABLE), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_socket_is_for_its_owner_alone() {
    let rig = Rig::new(0);
    let mode = std::fs::metadata(&rig.path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_left_by_a_crash_is_replaced_and_a_living_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    // As after a crash: bound, and nobody listens any more.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let living = ControlServer::bind(&path).unwrap();
    let error = ControlServer::bind(&path).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse, "{error}");
    drop(living);
    assert!(!path.exists());
    std::fs::write(&path, "precious").unwrap();
    let error = ControlServer::bind(&path).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists, "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn without_a_supervisor_the_client_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    let absent = ask(&path, Request::Drain).unwrap_err();
    assert_eq!(absent.exit_code(), exit::UNAVAILABLE);
    assert!(absent.to_string().starts_with("no supervisor listens at"), "{absent}");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(matches!(ask(&path, Request::Drain), Err(ControlError::Absent { .. })));
}

#[test]
fn a_supervisor_that_answers_nonsense_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let long = [b'x'; 2 * FRAME_BYTES_MAX];
    for said in [b"".as_slice(), b"{\"reply\":\"sure\"}\n", b"{\"reply\":", &long] {
        let error = std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = listener.accept().unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                let mut request = [0; 64];
                let _ = stream.read(&mut request).unwrap();
                let _ = stream.write_all(said);
            });
            ask(&path, Request::Ping).unwrap_err()
        });
        assert!(matches!(error, ControlError::Unanswered { .. }), "{error}");
        assert_eq!(error.exit_code(), exit::UNAVAILABLE);
    }
}
