//! Which server takes writes: the first of those named that is a primary, or the one that the sentinels name.

use super::error::Why;
use super::link::{Hear, Link, Login, Settings};
use super::mark;
use crate::config::DatabaseHost;
use crate::error::Failure;
use futures_util::future::join_all;
use redis::{Value, from_redis_value};
use tokio::time::timeout;

/// Finds the server and connects to it.
#[derive(Debug)]
pub(super) enum Resolver {
    /// These, in this order.
    Servers(Vec<DatabaseHost>),
    /// The primary of this name.
    Sentinel { sentinels: Vec<DatabaseHost>, name: String },
    /// This one, whatever it is: a node of a cluster says itself what is not its own.
    Node(DatabaseHost),
}

impl Resolver {
    /// Connects to a server that takes writes, or, to hear what is said, to where that is said.
    pub(super) async fn connect(
        &self,
        settings: &Settings,
        hear: Option<Hear>,
    ) -> Result<Link, Why> {
        match self {
            Self::Node(host) => Link::open(host, settings, Login::Server, hear).await,
            Self::Servers(hosts) => {
                let mut last = None;
                for host in hosts {
                    match primary(host, settings, hear.clone()).await {
                        Ok(link) => return Ok(link),
                        // The server of another environment is a fault of the address, not of one server.
                        Err(why) if why.failure == Failure::Permission => return Err(why),
                        Err(why) => last = Some(why),
                    }
                }
                Err(last.unwrap_or_else(|| nobody("no host is named")))
            }
            Self::Sentinel { sentinels, name } => {
                let host = ask_all(sentinels, settings, name).await?;
                primary(&host, settings, hear).await
            }
        }
    }
}

/// Connects, and makes sure that it is a primary of this environment.
async fn primary(
    host: &DatabaseHost,
    settings: &Settings,
    hear: Option<Hear>,
) -> Result<Link, Why> {
    let link = Link::open(host, settings, Login::Server, hear).await?;
    let checked = async {
        let role = link.ask(&redis::cmd("ROLE")).await;
        match role {
            Ok(role) if !is_primary(&role) => Err(Why::unfit(
                Failure::ReadOnly,
                "this Redis is a replica and takes no writes; name its primary, or sentinels",
                &link.server,
                "its role is not master",
            )),
            // A login may not have the right to ask; then the first refused write tells.
            Ok(_) => mark::check(&link, settings).await,
            Err(why) if why.failure == Failure::Permission => mark::check(&link, settings).await,
            Err(why) => Err(why),
        }
    };
    match timeout(settings.connect, checked).await {
        Ok(checked) => checked.map(|()| link),
        Err(_) => Err(Why::silent(&link.server)),
    }
}

fn is_primary(role: &Value) -> bool {
    let Value::Array(parts) = role else { return false };
    let name = parts.first().cloned().unwrap_or_default();
    from_redis_value::<String>(name).is_ok_and(|name| name == "master")
}

/// The primary that most of the sentinels name: one that is cut off from the others may still name the old one.
async fn ask_all(
    sentinels: &[DatabaseHost],
    settings: &Settings,
    name: &str,
) -> Result<DatabaseHost, Why> {
    let answers = join_all(sentinels.iter().map(|host| async {
        match timeout(settings.connect, ask(host, settings, name)).await {
            Ok(answer) => answer,
            Err(_) => Err(Why::silent(&host.to_string())),
        }
    }))
    .await;
    let mut votes: Vec<(DatabaseHost, usize)> = Vec::new();
    let mut last = None;
    for answer in answers {
        match answer {
            Ok(host) => match votes.iter_mut().find(|(known, _)| *known == host) {
                Some((_, count)) => *count += 1,
                None => votes.push((host, 1)),
            },
            Err(why) => last = Some(why),
        }
    }
    // Of equals the first: `max_by_key` would take the last.
    let most = votes.iter().map(|(_, count)| *count).max();
    let found = votes.into_iter().find(|(_, count)| Some(*count) == most);
    match (found, last) {
        (Some((host, _)), _) => Ok(host),
        (None, Some(why)) => Err(why),
        (None, None) => Err(nobody("no sentinel is named")),
    }
}

async fn ask(host: &DatabaseHost, settings: &Settings, name: &str) -> Result<DatabaseHost, Why> {
    let link = Link::open(host, settings, Login::Sentinel, None).await?;
    let mut command = redis::cmd("SENTINEL");
    let answer = link.ask(command.arg("GET-MASTER-ADDR-BY-NAME").arg(name)).await?;
    match from_redis_value::<Option<(String, u16)>>(answer) {
        Ok(Some((host, port))) => Ok(DatabaseHost::Tcp { host, port }),
        _ => Err(Why::unfit(
            Failure::Schema,
            "the sentinels know no primary of that name; check sentinel= in the address",
            &link.server,
            "no such primary",
        )),
    }
}

fn nobody(cause: &str) -> Why {
    Why::unfit(Failure::Connection, "there is no Redis to connect to", "", cause)
}
