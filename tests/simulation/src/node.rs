//! One node: everything of netra-apex that a host would run, on a simulated listener.

use crate::line::{NodeLine, SimulatedClock};
use crate::world::{LEASE, PER_USER, World};
use apex_core::clock::Clock;
use apex_core::id::NodeId;
use apex_core::run::{LocalWakeup, RunLimits, Wakeup};
use apex_core::store::Stores;
use apex_core::testkit::line::{Line, over};
use netra_apex::core::config::Environment;
use netra_apex::prelude::*;
use netra_apex::transport::{ConnectionConfig, HubConfig, Listen, TransportConfig};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

/// What a run says and does, so many times, so far apart.
const STEPS: u64 = 4;
const PACE: Duration = Duration::from_millis(300);

/// The port that every node serves on.
pub(crate) const PORT: u16 = 80;

/// Serves as node `number` until it is killed.
pub(crate) async fn serve(world: Arc<World>, number: usize) -> turmoil::Result {
    let clock: Arc<dyn Clock> = Arc::new(SimulatedClock::new(world.plan.skews[number]));
    let wakeup = Arc::new(LocalWakeup::default());
    world.wakeups.lock().unwrap()[number] = Arc::clone(&wakeup);
    let line: Arc<dyn Line> = Arc::new(NodeLine { world: Arc::clone(&world), node: number });
    let stores = Stores {
        node: NodeId::new(&*clock),
        wakeup: Arc::clone(&wakeup) as Arc<dyn Wakeup>,
        ..world.stores.clone()
    };
    let tick = tool_fn("tick", "Waits a little.", |n: u64, _| async move {
        tokio::time::sleep(PACE).await;
        Ok(n)
    });
    let clerk = agent_fn("clerk", "Takes its time.", |_: Request, context| async move {
        for n in 0..STEPS {
            context.think(format!("round {n}")).await?;
            context.call::<u64>("tick", n).await?;
        }
        Ok("done".to_owned())
    });
    let connection = ConnectionConfig {
        heartbeat: Duration::from_secs(1),
        close_within: Duration::from_millis(500),
        ..ConnectionConfig::default()
    };
    let hub = HubConfig { per_user: PER_USER, ..HubConfig::default() };
    let lease = if world.plan.zombies { 10 * LEASE } else { LEASE };
    let apex = Apex::builder()
        .environment(Environment::Development)
        .runs(RunLimits { lease, ..RunLimits::default() })
        .transport(TransportConfig { connection, hub, ..TransportConfig::default() })
        .agent(clerk)
        .tool(tick)
        .clock(clock)
        .stores(over(stores, &line))
        .build()
        .await?;
    world.nodes.lock().unwrap()[number] = Some(Running { apex: apex.clone(), wakeup });
    let listener = turmoil::net::TcpListener::bind((IpAddr::from(Ipv4Addr::UNSPECIFIED), PORT));
    apex.serve(Listener(listener.await?), std::future::pending()).await?;
    Ok(())
}

/// A node that was started last under its number.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) apex: Apex,
    pub(crate) wakeup: Arc<LocalWakeup>,
}

struct Listener(turmoil::net::TcpListener);

impl Listen for Listener {
    type Stream = turmoil::net::TcpStream;

    async fn accept(&self) -> std::io::Result<(Self::Stream, Option<IpAddr>)> {
        let (stream, peer) = self.0.accept().await?;
        Ok((stream, Some(peer.ip())))
    }
}
