//! Which environment the keys of a prefix belong to, written by whoever is first.

use super::error::Why;
use super::link::{Link, Settings};
use redis::{Value, from_redis_value};

/// Passes for a server of this environment; marks one that has no mark. A server that has lost its memory is marked
/// again, and one that takes no write at the moment (it is full, say) is let pass without.
pub(super) async fn check(link: &Link, settings: &Settings) -> Result<(), Why> {
    let known = link.ask(redis::cmd("GET").arg(&settings.mark)).await?;
    let known = match known {
        Value::Nil => {
            let mut set = redis::cmd("SET");
            set.arg(&settings.mark).arg(settings.environment.as_str()).arg("NX").arg("GET");
            match link.ask(&set).await {
                Ok(known) => known,
                Err(why) if why.said => return Ok(()),
                Err(why) => return Err(why),
            }
        }
        known => known,
    };
    let mark: Option<String> = from_redis_value(known).unwrap_or(Some(String::new()));
    settings
        .environment
        .admit(&link.server, mark.as_deref())
        .map_err(|error| Why::foreign(&error, &link.server))
}
