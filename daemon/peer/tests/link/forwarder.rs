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
    way: watch::Sender<Way>,
    _task: JoinSet<()>,
}

#[derive(Clone, Copy)]
enum Way {
    /// Connections end.
    Cut,
    /// Connections stay, and nothing comes through: a pulled cable.
    Silent,
    To(SocketAddr),
}

impl Forwarder {
    /// A way that begins at this address of this machine and leads nowhere yet.
    pub(crate) async fn on(ip: Ipv4Addr) -> Self {
        let listener = TcpListener::bind((ip, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let way = watch::Sender::new(Way::Cut);
        let mut task = JoinSet::new();
        task.spawn(forward(listener, way.subscribe()));
        Self { address, way, _task: task }
    }

    /// Lets it lead to a port of the same address.
    pub(crate) fn lead_to(&self, port: u16) {
        self.way.send_replace(Way::To(SocketAddr::new(self.address.ip(), port)));
    }

    /// Ends all connections and takes no new ones through.
    pub(crate) fn cut(&self) {
        self.way.send_replace(Way::Cut);
    }

    /// Lets nothing through, and nobody know.
    pub(crate) fn silence(&self) {
        self.way.send_replace(Way::Silent);
    }
}

pub(crate) fn loopback(last: u8) -> Ipv4Addr {
    let IpAddr::V4(ip) = IpAddr::from([127, 0, 0, last]) else { unreachable!() };
    ip
}

async fn forward(listener: TcpListener, way: watch::Receiver<Way>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((mut from, _)) = listener.accept().await else { return };
        let mut way = way.clone();
        connections.spawn(async move {
            let now = *way.borrow_and_update();
            let to = match now {
                Way::To(place) => TcpStream::connect(place).await.ok(),
                _ => None,
            };
            if let Some(mut to) = to {
                tokio::select! {
                    _ = copy_bidirectional(&mut from, &mut to) => return,
                    _ = way.changed() => {}
                }
                while matches!(*way.borrow_and_update(), Way::Silent) {
                    let _ = way.changed().await;
                }
                drop(to);
            }
            while matches!(*way.borrow_and_update(), Way::Silent) {
                let _ = way.changed().await;
            }
        });
    }
}
