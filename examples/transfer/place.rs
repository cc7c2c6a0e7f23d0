//! Where everything of a host is.

use crate::variables::variables;
use netra_apex::ApexConfig;
use netra_apex::core::config::{DatabaseKind, DatabaseUrl, Loader};
use netra_apex::core::store::Stores;
use netra_apex::prelude::*;
use std::path::Path;

/// The addresses of one side.
#[derive(Debug, Default)]
pub(crate) struct Place {
    database: Option<DatabaseUrl>,
    auth: Option<DatabaseUrl>,
    redis: Option<DatabaseUrl>,
}

impl Place {
    /// Reads addresses, in any order.
    pub(crate) fn read(words: &[String]) -> Result<Self> {
        let mut place = Self::default();
        for word in words {
            let (of_auth, word) = match word.strip_prefix("auth=") {
                Some(word) => (true, word),
                None => (false, word.as_str()),
            };
            let url = address(word)?;
            let slot = match (of_auth, url.kind()) {
                (true, _) => &mut place.auth,
                (false, DatabaseKind::Redis) => &mut place.redis,
                (false, _) => &mut place.database,
            };
            if let Some(other) = slot.replace(url) {
                return Err(fault(format!(
                    "two addresses of one kind on one side, of which one is {other}; a database of accounts and \
                     logins is auth=ADDRESS, and `to` stands between the sides"
                )));
            }
        }
        Ok(place)
    }

    /// Everything is in a database; a Redis has logins alone.
    pub(crate) fn require_database(&self) -> Result<()> {
        match self.database {
            Some(_) => Ok(()),
            None => Err(fault(
                "each side needs the address of a database; for logins alone: transfer logins FROM to TO".to_owned(),
            )),
        }
    }

    /// A file that is to be read must be there: opening it would make an empty one.
    pub(crate) fn require_file(&self) -> Result<()> {
        for url in self.database.iter().chain(&self.auth) {
            if url.kind() == DatabaseKind::Sqlite && !Path::new(url.database()).is_file() {
                return Err(fault(format!("there is no file {}", url.database())));
            }
        }
        Ok(())
    }

    /// The stores there, without anything that works on them.
    pub(crate) async fn open(self) -> Result<Stores> {
        let loaded = Loader::new().environment(variables()).load::<ApexConfig>();
        let mut config = loaded.map_err(|report| fault(report.to_string()))?.value;
        let Some(database) = self.database else {
            let redis = self.redis.ok_or_else(|| fault("an address is missing".to_owned()))?;
            let builder = Apex::builder().environment(config.environment);
            return builder.redis(redis, config.redis.prefix).stores_alone().await;
        };
        config.database.url = Some(database);
        config.database.auth = self.auth;
        config.redis.url = self.redis;
        config.builder()?.stores_alone().await
    }
}

fn address(word: &str) -> Result<DatabaseUrl> {
    let text = match word.strip_prefix('@') {
        Some(path) => {
            std::fs::read_to_string(path).map_err(|error| fault(format!("{path}: {error}")))?
        }
        None => word.to_owned(),
    };
    let url = text.trim().parse::<DatabaseUrl>();
    url.map_err(|bad| fault(format!("that is no address of a database: {bad}")))
}

fn fault(told: String) -> Error {
    Error::new(Kind::Config, "transfer.open", told)
}
