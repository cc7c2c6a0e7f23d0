//! A proxy on the way: it passes bytes on, slices them, and cuts connections at places that a seed decides.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Numbers that follow from a seed (SplitMix64), so that a failing course can be played again.
#[derive(Debug)]
pub(crate) struct Seeded(u64);

impl Seeded {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

/// What the proxy does to upgrades; plain requests pass.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Faults {
    /// The largest number of bytes from the server after which an upgraded connection is cut.
    pub(crate) cut_within: u64,
    /// How many connections are cut; later ones are left alone.
    pub(crate) cuts: usize,
    /// The largest piece in which bytes are passed on.
    pub(crate) slice: usize,
}

#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    pub(crate) cut: Arc<AtomicUsize>,
}

impl Proxy {
    pub(crate) async fn start(to: SocketAddr, faults: Faults, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let cut = Arc::new(AtomicUsize::new(0));
        let (cuts, seeds) = (Arc::clone(&cut), AtomicU64::new(seed));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let seed = seeds.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(pass(client, to, faults, Seeded::new(seed), Arc::clone(&cuts)));
            }
        });
        Self { address, cut }
    }
}

async fn pass(
    mut client: TcpStream,
    to: SocketAddr,
    faults: Faults,
    mut seeded: Seeded,
    cuts: Arc<AtomicUsize>,
) {
    let Ok(mut server) = TcpStream::connect(to).await else {
        return;
    };
    let mut head = vec![0; 4_096];
    let Ok(read) = client.read(&mut head).await else {
        return;
    };
    let head = &head[..read];
    if server.write_all(head).await.is_err() {
        return;
    }
    let upgrades =
        String::from_utf8_lossy(head).to_ascii_lowercase().contains("upgrade: websocket");
    if !upgrades {
        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        return;
    }
    let mut left = seeded.below(faults.cut_within) + 1;
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let up = tokio::io::copy(&mut from_client, &mut to_server);
    let down = async {
        let mut piece = vec![0; faults.slice];
        loop {
            let most = usize::try_from(left).unwrap().min(faults.slice);
            let most = most.min(usize::try_from(seeded.below(faults.slice as u64)).unwrap() + 1);
            let Ok(read @ 1..) = from_server.read(&mut piece[..most]).await else {
                return;
            };
            if to_client.write_all(&piece[..read]).await.is_err() {
                return;
            }
            left -= read as u64;
            if left == 0 {
                if cuts.fetch_add(1, Ordering::SeqCst) < faults.cuts {
                    return;
                }
                cuts.fetch_sub(1, Ordering::SeqCst);
                left = u64::MAX;
            }
        }
    };
    tokio::select! {
        _ = up => {}
        () = down => {}
    }
}
