//! A way between two nodes that can be cut: one TCP port that leads to another.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

pub(crate) struct Forwarder {
    pub(crate) address: SocketAddr,
    target: watch::Sender<Option<SocketAddr>>,
    _task: JoinSet<()>,
}

impl Forwarder {
    /// A way that begins at this address of this machine and leads nowhere yet.
    pub(crate) async fn on(ip: Ipv4Addr) -> Self {
        let listener = TcpListener::bind((ip, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let target = watch::Sender::new(None);
        let mut task = JoinSet::new();
        task.spawn(forward(listener, target.subscribe()));
        Self { address, target, _task: task }
    }

    /// Lets it lead to a port of the same address.
    pub(crate) fn lead_to(&self, port: u16) {
        self.target.send_replace(Some(SocketAddr::new(self.address.ip(), port)));
    }

    /// Ends all connections and takes no new ones through.
    pub(crate) fn cut(&self) {
        self.target.send_replace(None);
    }
}

pub(crate) fn loopback(last: u8) -> Ipv4Addr {
    let IpAddr::V4(ip) = IpAddr::from([127, 0, 0, last]) else { unreachable!() };
    ip
}

async fn forward(listener: TcpListener, target: watch::Receiver<Option<SocketAddr>>) {
    let mut ways = JoinSet::new();
    loop {
        let Ok((mut from, _)) = listener.accept().await else { return };
        let mut changes = target.clone();
        let Some(place) = *changes.borrow_and_update() else { continue };
        ways.spawn(async move {
            let Ok(mut to) = TcpStream::connect(place).await else { return };
            tokio::select! {
                _ = copy_bidirectional(&mut from, &mut to) => {}
                _ = changes.changed() => {}
            }
        });
    }
}
