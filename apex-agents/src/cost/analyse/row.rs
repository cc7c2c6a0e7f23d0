//! A record as the analysis passes it on: names replaced by numbers, so that millions of them cost no allocation.

use crate::cost::import::{Decoded, key};
use crate::cost::price::{Route, Tokens};
use apex_core::clock::Timestamp;
use apex_core::money::Usd;
use apex_core::usage::UsageStatus;
use rustc_hash::FxHashMap;

/// The number of a user that is not named.
pub(super) const NO_USER: u32 = 0;
/// The number of all users beyond the limit.
pub(super) const OTHER_USERS: u32 = 1;
/// The number of all routes beyond the limit.
pub(super) const OTHER_ROUTES: u32 = 0;

/// A record.
#[derive(Debug, Clone)]
pub(in crate::cost) struct Row {
    pub(in crate::cost) line: u64,
    pub(in crate::cost) at: Option<Timestamp>,
    pub(super) route: u32,
    pub(super) user: u32,
    pub(in crate::cost) tokens: Tokens,
    pub(in crate::cost) recorded: Option<Usd>,
    pub(in crate::cost) status: UsageStatus,
    /// Whether it belongs to a session.
    pub(in crate::cost) in_session: bool,
    /// Whether its content is told by a digest.
    pub(in crate::cost) has_content: bool,
    /// Whether the source gave it an id of its own.
    pub(super) has_request: bool,
    /// Who asked which model.
    pub(in crate::cost) subject: u64,
    /// What was asked, as far as the record tells.
    pub(in crate::cost) question: u64,
    /// All of it.
    pub(super) fingerprint: u64,
}

/// A route's own copy of its names.
#[derive(Debug, Clone, Default)]
pub(in crate::cost) struct RouteName {
    pub(super) provider: Option<Box<str>>,
    pub(super) model: Box<str>,
    pub(super) tier: Option<Box<str>>,
    pub(super) batch: bool,
}

impl RouteName {
    fn is_of(&self, record: &Decoded<'_>) -> bool {
        *self.model == *record.model
            && self.provider.as_deref() == record.provider
            && self.tier.as_deref() == record.tier
            && self.batch == record.batch
    }

    /// The route, for a price.
    pub(in crate::cost) fn route(&self) -> Route<'_> {
        Route {
            provider: self.provider.as_deref(),
            model: &self.model,
            tier: self.tier.as_deref(),
            batch: self.batch,
        }
    }
}

/// Gives names numbers, up to a limit. Names are found by their hash and then compared.
#[derive(Debug)]
pub(super) struct Interner {
    users: FxHashMap<u64, (u32, Box<str>)>,
    routes: FxHashMap<u64, (u32, RouteName)>,
    most_users: usize,
    most_routes: usize,
    /// The names that got a number since they were last taken away.
    pub(super) new_users: Vec<Box<str>>,
    pub(super) new_routes: Vec<RouteName>,
}

impl Interner {
    pub(super) fn new(most_users: usize, most_routes: usize) -> Self {
        Self {
            users: FxHashMap::default(),
            routes: FxHashMap::default(),
            most_users,
            most_routes,
            new_users: Vec::new(),
            new_routes: Vec::new(),
        }
    }

    /// The record with numbers for names.
    pub(super) fn row(&mut self, line: u64, record: &Decoded<'_>) -> Row {
        let (user_key, route_key) = (key::user(record), key::route(record));
        let user = self.user(user_key, record);
        let route = self.route(route_key, record);
        let subject = key::subject(user_key, route_key);
        let question = key::question(subject, record);
        Row {
            line,
            at: record.at,
            route,
            user,
            tokens: Tokens {
                input: record.input,
                cached: record.cached,
                cache_write: record.cache_write,
                output: record.output,
                reasoning: record.reasoning,
            },
            recorded: record.recorded,
            status: record.status,
            in_session: record.session.is_some(),
            has_content: record.content.is_some(),
            has_request: record.request.is_some(),
            subject,
            question,
            fingerprint: key::row(question, record),
        }
    }

    fn user(&mut self, mut key: u64, record: &Decoded<'_>) -> u32 {
        let Some(name) = record.user else {
            return NO_USER;
        };
        loop {
            match self.users.get(&key) {
                Some((number, known)) if &**known == name => return *number,
                // Two names with one hash: the next place is as good.
                Some(_) => key = key.wrapping_add(1),
                None if self.users.len() >= self.most_users => return OTHER_USERS,
                None => break,
            }
        }
        let number =
            u32::try_from(self.users.len()).unwrap_or(u32::MAX).saturating_add(OTHER_USERS + 1);
        self.new_users.push(name.into());
        self.users.insert(key, (number, name.into()));
        number
    }

    fn route(&mut self, mut key: u64, record: &Decoded<'_>) -> u32 {
        loop {
            match self.routes.get(&key) {
                Some((number, known)) if known.is_of(record) => return *number,
                Some(_) => key = key.wrapping_add(1),
                None if self.routes.len() >= self.most_routes => return OTHER_ROUTES,
                None => break,
            }
        }
        let name = RouteName {
            provider: record.provider.map(Into::into),
            model: record.model.into(),
            tier: record.tier.map(Into::into),
            batch: record.batch,
        };
        let number =
            u32::try_from(self.routes.len()).unwrap_or(u32::MAX).saturating_add(OTHER_ROUTES + 1);
        self.new_routes.push(name.clone());
        self.routes.insert(key, (number, name));
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::import::Import;

    fn rows(csv: &str, interner: &mut Interner) -> Vec<Row> {
        let mut import = Import::open(csv.as_bytes()).unwrap();
        let mut rows = Vec::new();
        while let Some(row) = import.next().unwrap() {
            rows.push(interner.row(row.line, &row.record.unwrap()));
        }
        rows
    }

    #[test]
    fn names_keep_their_numbers_and_have_a_limit() {
        let csv = "model,user,input_tokens,output_tokens\na,x,1,1\nb,y,1,1\na,x,1,1\nc,z,1,1\na,,1,1\nc,z,1,1\n";
        let rows = rows(csv, &mut Interner::new(2, 2));
        assert_eq!(
            rows.iter().map(|r| r.route).collect::<Vec<_>>(),
            [1, 2, 1, OTHER_ROUTES, 1, OTHER_ROUTES]
        );
        assert_eq!(
            rows.iter().map(|r| r.user).collect::<Vec<_>>(),
            [2, 3, 2, OTHER_USERS, NO_USER, OTHER_USERS]
        );
        assert_eq!(rows[0].fingerprint, rows[2].fingerprint);
        // Beyond the limit rows are still told apart by who asked what.
        assert_eq!(rows[3].question, rows[5].question);
        assert_ne!(rows[3].question, rows[4].question);
    }
}
