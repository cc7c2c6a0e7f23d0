//! Carries a query out: one streamed pass over each source, with a bound on what is told apart.

use super::answer::{Answer, Evidence, Repriced, Row, Sums};
use super::group::{self, Out};
use super::{Order, Query};
use crate::cost::import::{Copies, Decoded, Import, Progress, key};
use crate::cost::price::{Catalogue, Route, Schedule, Tokens};
use apex_core::error::{Error, Kind, Result};
use apex_core::money::Usd;
use apex_core::usage::UsageRecord;
use rustc_hash::FxHashMap;
use std::io::Read;
use std::ops::ControlFlow;
use std::sync::Arc;

/// How many groups are told apart; the rest share one.
const MOST_GROUPS: usize = 65_536;
/// How many routes are priced; requests on more have no price.
const MOST_ROUTES: usize = 4_096;
/// How often progress is told, in rows.
const OBSERVE_EVERY: u64 = 4_096;
/// The name of the group for all beyond the limit.
const OTHERS: &str = "(others)";

/// A query that is being carried out.
#[derive(Debug)]
pub struct Counting {
    query: Query,
    catalogue: Arc<Catalogue>,
    /// The prices of a route, by a number that stands for it.
    prices: FxHashMap<u64, Schedule>,
    /// The prices of the other models, outside of a batch and in one.
    others: Vec<[Schedule; 2]>,
    groups: FxHashMap<Box<str>, Sums>,
    key: String,
    copies: Copies,
    evidence: Evidence,
}

impl Counting {
    /// A query over nothing yet.
    ///
    /// # Errors
    /// `bad_request` with what is wrong with the query.
    pub fn new(catalogue: Arc<Catalogue>, query: Query) -> Result<Self> {
        if let Some(fault) = query.fault() {
            let told = format!("this question cannot be asked of usage records: {fault}");
            return Err(Error::new(Kind::BadRequest, "usage.query", told));
        }
        let on = |model: &String| {
            [false, true]
                .map(|batch| catalogue.schedule(&Route { model, batch, ..Route::default() }))
        };
        let others = query.on_models.iter().map(on).collect();
        let evidence = Evidence {
            sources: Vec::new(),
            rows: 0,
            rejected: 0,
            left_out: 0,
            undated: 0,
            counted: 0,
            more_groups: false,
            catalogue: catalogue.stamp(),
        };
        Ok(Self {
            query,
            catalogue,
            prices: FxHashMap::default(),
            others,
            groups: FxHashMap::default(),
            key: String::new(),
            copies: Copies::default(),
            evidence,
        })
    }

    /// Reads a file. One that cannot be read as usage records counts nothing, and the evidence says so.
    ///
    /// # Errors
    /// `cancelled` when `observe` broke off, `storage_failed` when the reader failed.
    pub fn add(
        &mut self,
        file: &str,
        reader: impl Read + Send,
        observe: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<()> {
        let mut import = Import::open(reader)?;
        self.begin(file);
        while let Some(row) = import.next()? {
            self.evidence.rows += 1;
            match &row.record {
                Ok(record) => self.enter(row.line, record),
                Err(_) => self.evidence.rejected += 1,
            }
            if self.evidence.rows.is_multiple_of(OBSERVE_EVERY)
                && observe(import.progress()).is_break()
            {
                return Err(Error::new(Kind::Cancelled, "usage.query", "the query was cancelled"));
            }
        }
        Ok(())
    }

    /// A source of records begins.
    pub fn begin(&mut self, source: &str) {
        self.copies.begin(source);
        self.evidence.sources.push(source.to_owned());
    }

    /// Enters a record of the source that was begun last.
    pub fn record(&mut self, record: &UsageRecord) {
        self.evidence.rows += 1;
        let decoded = Decoded {
            at: record.at,
            request: record.request.as_deref().map(str::as_bytes),
            user: record.user.as_deref(),
            session: record.session.as_deref().map(str::as_bytes),
            provider: record.provider.as_deref(),
            model: &record.model,
            tier: record.service_tier.as_deref(),
            content: record.content.as_deref().map(str::as_bytes),
            status: record.status,
            batch: record.batch,
            input: record.tokens.input_tokens,
            cached: record.tokens.cached_tokens,
            cache_write: record.cache_write_tokens,
            output: record.tokens.output_tokens,
            reasoning: record.tokens.reasoning_tokens,
            recorded: record.recorded_cost.or(record.tokens.cost_usd),
        };
        let row = self.evidence.rows;
        self.enter(row, &decoded);
    }

    fn enter(&mut self, line: u64, record: &Decoded<'_>) {
        let route = key::route(record);
        let subject = key::subject(key::user(record), route);
        let fingerprint = key::row(key::question(subject, record), record);
        // As in a report: a copy is known by its id; without one it counts.
        if self.copies.earlier(fingerprint, line).is_some() && record.request.is_some() {
            self.evidence.rejected += 1;
            return;
        }
        match group::fits(&self.query.filter, record) {
            Ok(()) => self.evidence.counted += 1,
            Err(Out::Filtered) => {
                self.evidence.left_out += 1;
                return;
            }
            Err(Out::Undated) => {
                self.evidence.undated += 1;
                return;
            }
        }
        let tokens = Tokens {
            input: record.input,
            cached: record.cached,
            cache_write: record.cache_write,
            output: record.output,
            reasoning: record.reasoning,
        };
        let price = self.price(route, record, &tokens);
        let on = |[plain, batch]: &[Schedule; 2]| {
            let quote = if record.batch { batch } else { plain }.quote(record.at);
            let would_be = quote.rates.as_ref().ok()?.cost(&tokens).ok()?;
            Some(Repriced { requests: 1, was_usd: price?, would_be_usd: would_be })
        };
        let sums = Sums {
            requests: 1,
            input_tokens: record.input,
            cached_tokens: record.cached,
            output_tokens: record.output,
            reasoning_tokens: record.reasoning,
            recorded_cost_usd: record.recorded,
            with_recorded_cost: u64::from(record.recorded.is_some()),
            priced_cost_usd: price,
            unpriced_requests: u64::from(price.is_none()),
            on_models: self.others.iter().map(|other| on(other).unwrap_or_default()).collect(),
        };
        group::key(&self.query.by, &self.query.filter, record, &mut self.key);
        if let Some(group) = self.groups.get_mut(self.key.as_str()) {
            group.merge(&sums);
            return;
        }
        if self.groups.len() >= MOST_GROUPS {
            self.evidence.more_groups = true;
            self.key.clear();
            self.key.push_str(OTHERS);
        }
        self.groups.entry(self.key.as_str().into()).or_default().merge(&sums);
    }

    fn price(&mut self, route: u64, record: &Decoded<'_>, tokens: &Tokens) -> Option<Usd> {
        if !self.prices.contains_key(&route) {
            if self.prices.len() >= MOST_ROUTES {
                return None;
            }
            let schedule = self.catalogue.schedule(&Route {
                provider: record.provider,
                model: record.model,
                tier: record.tier,
                batch: record.batch,
            });
            self.prices.insert(route, schedule);
        }
        let quote = self.prices.get(&route)?.quote(record.at);
        quote.rates.as_ref().ok()?.cost(tokens).ok()
    }

    /// The answer.
    #[must_use]
    pub fn finish(self) -> Answer {
        let mut total = Sums::default();
        self.groups.values().for_each(|sums| total.merge(sums));
        let groups = self.groups.len() as u64;
        let mut rows: Vec<Row> = self
            .groups
            .into_iter()
            .map(|(key, sums)| {
                let mut group: Vec<String> = key.split(group::BETWEEN).map(str::to_owned).collect();
                // What is beyond the limit has one name for all dimensions.
                group.resize(self.query.by.len(), String::new());
                Row { group, sums }
            })
            .collect();
        let query = &self.query;
        rows.sort_by(|a, b| {
            let figures = || (a.sums.figure(query), b.sums.figure(query));
            let by_figure = match query.ordered() {
                Order::Group => std::cmp::Ordering::Equal,
                Order::Largest => match figures() {
                    (Some(a), Some(b)) => b.cmp(&a),
                    (a, b) => a.is_none().cmp(&b.is_none()),
                },
                Order::Smallest => match figures() {
                    (Some(a), Some(b)) => a.cmp(&b),
                    (a, b) => a.is_none().cmp(&b.is_none()),
                },
            };
            let places = |row: &'_ Row| {
                let named = query.by.iter().zip(&row.group);
                named.map(|(d, name)| group::place(*d, name).0).collect::<Vec<_>>()
            };
            by_figure.then_with(|| places(a).cmp(&places(b))).then_with(|| a.group.cmp(&b.group))
        });
        let listed = query.listed();
        let mut rest = None;
        if rows.len() > listed {
            let by_time = query.ordered() == Order::Group && query.top.is_none();
            // Of a course in time the end matters most.
            let cut: Vec<Row> = if by_time {
                rows.drain(..rows.len() - listed).collect()
            } else {
                rows.split_off(listed)
            };
            let mut sums = Sums::default();
            cut.iter().for_each(|row| sums.merge(&row.sums));
            rest = Some(sums);
        }
        if query.by.is_empty() {
            rows.clear();
        }
        Answer { query: self.query, rows, groups, rest, total, evidence: self.evidence }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::query::{Dimension, Filter, Measure};

    fn asked(query: Query, csv: &str) -> Answer {
        let catalogue = Arc::new(Catalogue::embedded().unwrap());
        let mut counting = Counting::new(catalogue, query).unwrap();
        counting.add("a.csv", csv.as_bytes(), &mut |_| ControlFlow::Continue(())).unwrap();
        counting.finish()
    }

    const CSV: &str = "timestamp,request_id,user,model,status,input_tokens,output_tokens\n\
        2026-10-01T10:00:00Z,1,ana,gpt-4o,ok,1000000,0\n\
        2026-10-01T11:00:00Z,1,ana,gpt-4o,ok,1000000,0\n\
        2026-10-01T10:00:00Z,1,ana,gpt-4o,ok,1000000,0\n\
        2026-10-02T10:00:00Z,2,ben,nobody-knows,error,10,0\n\
        ,3,ben,gpt-4o,ok,1000000,0\n\
        2026-10-02T10:00:00Z,4,ben,gpt-4o,ok,many,0\n";

    #[test]
    fn every_row_is_accounted_for_and_unpriced_is_no_zero() {
        let answer = asked(Query { by: vec![Dimension::User], ..Query::default() }, CSV);
        let told = |name: &str| {
            let row = answer.rows.iter().find(|row| row.group == [name]).unwrap();
            (row.sums.requests, row.sums.priced_cost_usd, row.sums.unpriced_requests)
        };
        assert_eq!(told("ana"), (2, Some("5".parse().unwrap()), 0), "a copy counts once");
        assert_eq!(told("ben"), (2, Some("2.5".parse().unwrap()), 1));
        let evidence = &answer.evidence;
        assert_eq!((evidence.rows, evidence.counted, evidence.rejected), (6, 4, 2));
        let filter =
            Filter { from: Some("2026-10-02T00:00:00Z".parse().unwrap()), ..Filter::default() };
        let answer = asked(Query { filter, ..Query::default() }, CSV);
        assert_eq!((answer.evidence.left_out, answer.evidence.undated), (2, 1));
        assert_eq!(answer.total.priced_cost_usd, None);
        let text = answer.to_markdown();
        assert!(text.contains("**Cost: unpriced**") && !text.contains("$0"), "{text}");
    }

    #[test]
    fn the_same_requests_are_priced_on_another_model() {
        let query =
            Query { on_models: vec!["gpt-4o-mini".into(), "nobody".into()], ..Query::default() };
        let answer = asked(query, CSV);
        let usd = |text: &str| text.parse::<Usd>().unwrap();
        let expected = Repriced { requests: 3, was_usd: usd("7.5"), would_be_usd: usd("0.45") };
        assert_eq!(answer.total.on_models, [expected, Repriced::default()]);
    }

    #[test]
    fn groups_have_a_bound() {
        let mut csv = String::from("user,model,input_tokens,output_tokens\n");
        for user in 0..MOST_GROUPS + 500 {
            csv.push_str(&format!("u{user},gpt-4o,1,1\n"));
        }
        let query =
            Query { by: vec![Dimension::User], measure: Measure::Requests, ..Query::default() };
        let answer = asked(query, &csv);
        assert!(answer.evidence.more_groups);
        assert_eq!((answer.groups, answer.total.requests), (65_537, 66_036));
        assert_eq!((answer.rows[0].group[0].as_str(), answer.rows[0].sums.requests), (OTHERS, 500));
        assert_eq!(answer.rest.unwrap().requests, 66_036 - 500 - 19);
    }
}
