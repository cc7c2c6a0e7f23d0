//! A report's figures, computed a second way and compared with it, every one.
//!
//! It reads the records again and adds them up in plain maps and plain sums; of the analysis it shares only what
//! defines a record and its price, and the sentences around the figures. A report that does not come out the same is
//! refused with the list of what does not add up.

mod arithmetic;
mod compare;
mod levers;

use super::analyse::AnalysisOptions;
use super::import::{Copies, Decoded, Import, Progress, REJECTIONS_KEPT, key};
use super::price::{Catalogue, Route, Schedule, Tokens, Unpriced};
use super::report::facts::{self, EXAMPLES, Facts, Notes, Outlier};
use super::report::{
    COPY, DayRow, Example, ModelRow, Period, Rejection, Report, Source, Totals, UserRow,
};
use apex_core::clock::Timestamp;
use apex_core::error::{Error, Kind, Result};
use apex_core::money::Usd;
use levers::Levers;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::ops::ControlFlow;
use std::sync::Arc;

/// How many faults an error lists.
const FAULTS_LISTED: usize = 12;

/// How often progress is told, in rows.
const OBSERVE_EVERY: u64 = 4_096;

/// The second computation of a report. It is given the same files under the same names in the same order.
#[derive(Debug)]
pub struct Verification<'r> {
    report: &'r Report,
    catalogue: Arc<Catalogue>,
    options: AnalysisOptions,
    prices: BTreeMap<RouteKey, Schedule>,
    known_models: BTreeSet<&'r str>,
    known_users: BTreeSet<&'r str>,
    copies: Copies,
    sources: Vec<Source>,
    period: Period,
    totals: Totals,
    models: BTreeMap<String, Totals>,
    users: BTreeMap<String, Totals>,
    /// By the days since 1970, UTC; requests without a time under none.
    days: BTreeMap<Option<i64>, Totals>,
    notes: Notes,
    levers: Levers,
}

/// A day, in milliseconds.
const DAY_MS: i64 = 24 * 3_600_000;

/// A report that adds up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// The figures and texts that were compared.
    pub figures: u64,
    /// The rows that were read again.
    pub rows: u64,
}

/// Provider, model, tier, batch.
type RouteKey = (Option<String>, String, Option<String>, bool);

impl<'r> Verification<'r> {
    /// A verification of this report, with the catalogue that it was made with.
    #[must_use]
    pub fn new(report: &'r Report, catalogue: Arc<Catalogue>) -> Self {
        Self::with_options(report, catalogue, AnalysisOptions::default())
    }

    /// A verification of a report that was made with these options.
    #[must_use]
    pub fn with_options(
        report: &'r Report,
        catalogue: Arc<Catalogue>,
        options: AnalysisOptions,
    ) -> Self {
        Self {
            report,
            levers: Levers::new(Arc::clone(&catalogue)),
            catalogue,
            options,
            prices: BTreeMap::new(),
            known_models: report.by_model.iter().map(|m| m.model.as_str()).collect(),
            known_users: report.by_user.iter().map(|u| u.user.as_str()).collect(),
            copies: Copies::default(),
            sources: Vec::new(),
            period: Period { from: None, to: None },
            totals: Totals::default(),
            models: BTreeMap::new(),
            users: BTreeMap::new(),
            days: BTreeMap::new(),
            notes: Notes::default(),
        }
    }

    /// Reads a file again. `observe` is told from time to time how far it has come, and can stop it.
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
        self.copies.begin(file);
        let (mut imported, mut refused_rows, mut refused) = (0, 0, Vec::new());
        let mut until_observed = OBSERVE_EVERY;
        while let Some(row) = import.next()? {
            let reason = match &row.record {
                Ok(record) => self.enter(file, row.line, record),
                Err(reason) => Some(reason.clone()),
            };
            match reason {
                None => imported += 1,
                Some(reason) => {
                    refused_rows += 1;
                    if refused.len() < REJECTIONS_KEPT {
                        refused.push(Rejection { line: row.line, reason });
                    }
                }
            }
            until_observed -= 1;
            if until_observed == 0 {
                until_observed = OBSERVE_EVERY;
                if observe(import.progress()).is_break() {
                    return Err(Error::new(
                        Kind::Cancelled,
                        "report.verify",
                        "the verification was cancelled",
                    ));
                }
            }
        }
        let mut source = import.describe(file);
        source.imported = imported;
        source.rejected_rows = refused_rows;
        source.rejected = refused;
        self.sources.push(source);
        Ok(())
    }

    /// Compares.
    ///
    /// # Errors
    /// `bad_figures` with the figures that differ, what the report says and what the records give.
    pub fn finish(mut self) -> Result<Verified> {
        let rows = self.sources.iter().map(|s| s.rows).sum();
        let mut faults = arithmetic::faults(self.report);
        let report = self.report;
        self.notes.forgot = self.copies.forgot();
        sort_and_cut(&mut self.notes.outlier_rows);
        let named = self.users.keys().any(|user| user != facts::NO_USER);
        let users = if named { self.users } else { BTreeMap::new() };
        let expected = Report::assemble(Facts {
            sources: self.sources,
            period: self.period,
            totals: self.totals,
            by_model: self
                .models
                .into_iter()
                .map(|(model, totals)| ModelRow { model, totals })
                .collect(),
            by_user: users.into_iter().map(|(user, totals)| UserRow { user, totals }).collect(),
            by_day: self
                .days
                .into_iter()
                .map(|(day, totals)| DayRow { day: date(day), totals })
                .collect(),
            notes: self.notes,
            effects: self.levers.effects(),
            catalogue: self.catalogue.stamp(),
        });
        let figures = compare::differences(report, &expected, &mut faults);
        if faults.is_empty() {
            return Ok(Verified { figures, rows });
        }
        let more = faults.len().saturating_sub(FAULTS_LISTED);
        faults.truncate(FAULTS_LISTED);
        if more > 0 {
            faults.push(format!("and {more} more"));
        }
        Err(Error::new(
            Kind::BadFigures,
            "report.verify",
            format!(
                "the report does not add up and is withheld; compute it again: {}",
                faults.join("; ")
            ),
        ))
    }

    /// Counts a record, or says why it does not count.
    fn enter(&mut self, file: &str, line: u64, record: &Decoded<'_>) -> Option<String> {
        let subject = key::subject(key::user(record), key::route(record));
        let question = key::question(subject, record);
        if let Some(place) = self.copies.earlier(key::row(question, record), line) {
            let example = Example { file: file.to_owned(), line, note: format!("equals {place}") };
            let notes = &mut self.notes;
            if record.request.is_some() {
                notes.copies += 1;
                notes.copy_rows.extend((notes.copy_rows.len() < EXAMPLES).then_some(example));
                return Some(format!("{COPY}{place}"));
            }
            notes.twins += 1;
            notes.twin_rows.extend((notes.twin_rows.len() < EXAMPLES).then_some(example));
        }
        let tokens = Tokens {
            input: record.input,
            cached: record.cached,
            cache_write: record.cache_write,
            output: record.output,
            reasoning: record.reasoning,
        };
        let (model, price) = self.price(record, &tokens);
        self.sum(record, &model, price.as_ref().ok().copied());
        self.note(file, line, record, &model, price);
        None
    }

    /// The name that the record's model stands under in the report, and its price.
    fn price(&mut self, record: &Decoded<'_>, tokens: &Tokens) -> (String, Result<Usd, Unpriced>) {
        let route: RouteKey = (
            record.provider.map(str::to_owned),
            record.model.to_owned(),
            record.tier.map(str::to_owned),
            record.batch,
        );
        if !self.prices.contains_key(&route) {
            if self.prices.len() >= self.options.most_models {
                return (facts::OTHER_MODELS.to_owned(), Err(Unpriced::TooMany));
            }
            let schedule = self.catalogue.schedule(&Route {
                provider: record.provider,
                model: record.model,
                tier: record.tier,
                batch: record.batch,
            });
            self.prices.insert(route.clone(), schedule);
        }
        let price = match self.prices.get(&route).map(|schedule| schedule.quote(record.at)) {
            None => Err(Unpriced::TooMany),
            Some(quote) => quote.rates.as_ref().map_err(|e| *e).and_then(|rates| {
                let price = rates.cost(tokens)?;
                self.levers.enter(record, tokens, rates, quote.batch.as_ref(), price);
                Ok(price)
            }),
        };
        let model = if record.model.is_empty() { facts::NO_MODEL } else { record.model };
        let listed = self.known_models.contains(model);
        (if listed { model } else { facts::OTHER_MODELS }.to_owned(), price)
    }

    fn sum(&mut self, record: &Decoded<'_>, model: &str, price: Option<Usd>) {
        let user = match record.user {
            None => facts::NO_USER,
            Some(user) if self.known_users.contains(user) => user,
            Some(_) => facts::OTHER_USERS,
        };
        let day = record.at.map(|at| at.as_millis().div_euclid(DAY_MS));
        add(&mut self.totals, record, price);
        add(self.models.entry(model.to_owned()).or_default(), record, price);
        add(self.users.entry(user.to_owned()).or_default(), record, price);
        add(self.days.entry(day).or_default(), record, price);
        if let Some(at) = record.at {
            if self.period.from.is_none_or(|from| at < from) {
                self.period.from = Some(at);
            }
            if self.period.to.is_none_or(|to| at > to) {
                self.period.to = Some(at);
            }
        }
    }

    fn note(
        &mut self,
        file: &str,
        line: u64,
        record: &Decoded<'_>,
        model: &str,
        price: Result<Usd, Unpriced>,
    ) {
        let notes = &mut self.notes;
        let tokens = record.input + record.output;
        if record.at.is_none() {
            notes.undated += 1;
        }
        if record.recorded == Some(Usd::ZERO) {
            notes.free += 1;
            if let Ok(priced) = price {
                notes.free_priced += u64::from(priced > Usd::ZERO);
                notes.free_worth += priced;
            }
        }
        match (price, record.recorded) {
            (Err(reason), _) => {
                let sum = notes.unpriced.entry(reason).or_default();
                *sum = (sum.0 + 1, sum.1 + tokens);
            }
            (Ok(priced), Some(recorded)) if recorded > Usd::ZERO => {
                if Outlier::is_one(recorded, priced) {
                    notes.outliers += 1;
                    notes.outlier_recorded += recorded;
                    notes.outlier_priced += priced;
                    // The report names a model as the record does, also where the list sums it up with others.
                    let model = if record.model.is_empty() { model } else { record.model };
                    let (file, model) = (file.to_owned(), model.to_owned());
                    notes.outlier_rows.push(Outlier {
                        file,
                        line,
                        model,
                        tokens,
                        recorded,
                        priced,
                    });
                    if notes.outlier_rows.len() > 1_000 {
                        sort_and_cut(&mut notes.outlier_rows);
                    }
                } else {
                    notes.compared += 1;
                    notes.compared_recorded += recorded;
                    notes.compared_priced += priced;
                }
            }
            _ => {}
        }
    }
}

fn date(day: Option<i64>) -> String {
    let Some(day) = day else {
        return facts::NO_DAY.to_owned();
    };
    Timestamp::from_millis(day * DAY_MS).to_string().chars().take(10).collect()
}

fn add(totals: &mut Totals, record: &Decoded<'_>, price: Option<Usd>) {
    totals.requests += 1;
    totals.input_tokens += record.input;
    totals.cached_tokens += record.cached;
    totals.output_tokens += record.output;
    if let Some(recorded) = record.recorded {
        totals.recorded_cost_usd = Some(totals.recorded_cost_usd.unwrap_or(Usd::ZERO) + recorded);
    }
    match price {
        Some(price) => {
            totals.priced_cost_usd = Some(totals.priced_cost_usd.unwrap_or(Usd::ZERO) + price)
        }
        None => totals.unpriced_requests += 1,
    }
}

/// The worst first; of equal ones the earlier, which a stable sort keeps.
fn sort_and_cut(rows: &mut Vec<Outlier>) {
    rows.sort_by_key(|row| std::cmp::Reverse(row.recorded - row.priced));
    rows.truncate(EXAMPLES);
}
