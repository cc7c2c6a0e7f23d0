//! The book into which every record is entered once.

use super::pipeline::Batch;
use super::row::{OTHER_ROUTES, OTHER_USERS, RouteName, Row};
use super::tally::Tally;
use crate::cost::import::{Copies, REJECTIONS_KEPT};
use crate::cost::lever::{self, Call, Effect, Readings, Rule};
use crate::cost::price::{Catalogue, Schedule, Unpriced};
use crate::cost::report::facts::{self, EXAMPLES, Facts, Notes, Outlier};
use crate::cost::report::{
    COPY, DayRow, Example, ModelRow, Period, Rejection, Source, Totals, UserRow,
};
use apex_core::clock::Timestamp;
use apex_core::money::Usd;
use rustc_hash::FxHashMap;
use std::sync::Arc;

const DAY: i64 = 86_400_000;

/// For how many rows memory is looked at ahead: few enough that their pages stay known to the processor.
const WARMED: usize = 128;

#[derive(Debug)]
pub(super) struct Ledger {
    catalogue: Arc<Catalogue>,
    routes: Vec<Entry>,
    users: Vec<(Box<str>, Tally)>,
    days: Days,
    total: Tally,
    period: Period,
    notes: Notes,
    levers: Vec<(Box<dyn Rule>, Effect)>,
    copies: Copies,
    sources: Vec<Source>,
    /// The file that is being read.
    file: String,
    imported: u64,
    rejected_rows: u64,
    rejected: Vec<Rejection>,
}

/// A route with its prices and sums.
#[derive(Debug)]
struct Entry {
    name: RouteName,
    schedule: Option<Schedule>,
    tally: Tally,
}

impl Ledger {
    pub(super) fn new(catalogue: Arc<Catalogue>) -> Self {
        let others = RouteName { model: facts::OTHER_MODELS.into(), ..RouteName::default() };
        Self {
            routes: vec![Entry { name: others, schedule: None, tally: Tally::default() }],
            users: [facts::NO_USER, facts::OTHER_USERS]
                .map(|name| (name.into(), Tally::default()))
                .into(),
            days: Days::default(),
            total: Tally::default(),
            period: Period { from: None, to: None },
            notes: Notes::default(),
            levers: lever::ALL.iter().map(|l| ((l.rule)(&catalogue), Effect::default())).collect(),
            copies: Copies::default(),
            sources: Vec::new(),
            file: String::new(),
            imported: 0,
            rejected_rows: 0,
            rejected: Vec::new(),
            catalogue,
        }
    }

    /// A new file begins.
    pub(super) fn begin(&mut self, file: &str) {
        file.clone_into(&mut self.file);
        self.copies.begin(file);
        (self.imported, self.rejected_rows) = (0, 0);
        self.rejected = Vec::new();
    }

    /// The file ends.
    pub(super) fn end(&mut self, source: Source) {
        self.rejected.sort_by_key(|r| r.line);
        self.sources.push(Source {
            imported: self.imported,
            rejected_rows: self.rejected_rows,
            rejected: std::mem::take(&mut self.rejected),
            ..source
        });
    }

    /// Enters a batch of rows.
    pub(super) fn take(&mut self, batch: &mut Batch) {
        for name in batch.routes.drain(..) {
            let schedule = Some(self.catalogue.schedule(&name.route()));
            self.routes.push(Entry { name, schedule, tally: Tally::default() });
        }
        self.users.extend(batch.users.drain(..).map(|name| (name, Tally::default())));
        // Rows and rejected rows are entered in the order of their lines, so that the kept reasons are the first.
        let mut rejected = batch.rejected.drain(..).peekable();
        for rows in batch.rows.chunks(WARMED) {
            self.warm(rows);
            for row in rows {
                while let Some(bad) = rejected.next_if(|bad| bad.line < row.line) {
                    self.reject(bad);
                }
                self.enter(row);
            }
        }
        rejected.for_each(|bad| self.reject(bad));
    }

    /// Brings the places in the large tables that the rows will need from memory, all at once.
    fn warm(&self, rows: &[Row]) {
        let mut looked = 0;
        for row in rows {
            looked ^= self.copies.warm(row.fingerprint);
        }
        for (rule, _) in &self.levers {
            for row in rows {
                looked ^= rule.warm(row);
            }
        }
        std::hint::black_box(looked);
    }

    fn reject(&mut self, rejection: Rejection) {
        self.rejected_rows += 1;
        if self.rejected.len() < REJECTIONS_KEPT {
            self.rejected.push(rejection);
        }
    }

    fn enter(&mut self, row: &Row) {
        if !self.is_new(row) {
            return;
        }
        self.imported += 1;
        let Some(entry) = self.routes.get_mut(row.route as usize) else {
            return;
        };
        let quote = entry.schedule.as_ref().map(|schedule| schedule.quote(row.at));
        let rates =
            quote.map_or(Err(Unpriced::TooMany), |quote| quote.rates.as_ref().map_err(|e| *e));
        let price = rates.and_then(|rates| rates.cost(&row.tokens));
        let known = price.ok();
        entry.tally.add(row, known);
        if let Some((_, tally)) = self.users.get_mut(row.user as usize) {
            tally.add(row, known);
        }
        self.days.of(row.at).add(row, known);
        self.total.add(row, known);
        match row.at {
            Some(at) => {
                self.period.from = Some(self.period.from.map_or(at, |from| from.min(at)));
                self.period.to = Some(self.period.to.map_or(at, |to| to.max(at)));
            }
            None => self.notes.undated += 1,
        }
        if let (Ok(rates), Some(price), Some(quote)) = (rates, known, quote) {
            let call =
                Call { row, route: (row.route, &entry.name), rates, batch: quote.batch.as_ref() };
            let mut left = Readings::all(price);
            for (rule, effect) in &mut self.levers {
                let before = left;
                rule.apply(&call, &mut left);
                effect.count(&before, &left);
            }
        }
        let model = &entry.name.model;
        match price {
            Ok(price) => compare(&mut self.notes, &self.file, model, row, price),
            Err(reason) => {
                let (requests, tokens) = self.notes.unpriced.entry(reason).or_default();
                *requests += 1;
                *tokens += row.tokens.input + row.tokens.output;
                self.notes.free += u64::from(row.recorded.is_some_and(Usd::is_zero));
            }
        }
    }

    /// Whether the row is no copy of an earlier one. A copy is known by its id; without one it counts.
    fn is_new(&mut self, row: &Row) -> bool {
        let Some(place) = self.copies.earlier(row.fingerprint, row.line) else {
            return true;
        };
        let (count, examples) = if row.has_request {
            (&mut self.notes.copies, &mut self.notes.copy_rows)
        } else {
            (&mut self.notes.twins, &mut self.notes.twin_rows)
        };
        *count += 1;
        if examples.len() < EXAMPLES {
            examples.push(Example {
                file: self.file.clone(),
                line: row.line,
                note: format!("equals {place}"),
            });
        }
        if row.has_request {
            self.reject(Rejection { line: row.line, reason: format!("{COPY}{place}") });
        }
        !row.has_request
    }

    /// All figures.
    pub(super) fn facts(self, most_listed: usize) -> Facts {
        let mut models: FxHashMap<Box<str>, Tally> = FxHashMap::default();
        for (number, entry) in self.routes.into_iter().enumerate() {
            let others = number == OTHER_ROUTES as usize;
            let name = if entry.name.model.is_empty() && !others {
                facts::NO_MODEL.into()
            } else {
                entry.name.model
            };
            models.entry(name).or_default().merge(&entry.tally);
        }
        let named =
            self.users.iter().skip(OTHER_USERS as usize).any(|(_, tally)| !tally.is_empty());
        let users = if named { self.users } else { Vec::new() };
        Facts {
            sources: self.sources,
            period: self.period,
            totals: self.total.totals(),
            by_model: listed(models.into_iter().collect(), facts::OTHER_MODELS, most_listed)
                .map(|(model, totals)| ModelRow { model, totals })
                .collect(),
            by_user: listed(users, facts::OTHER_USERS, most_listed)
                .map(|(user, totals)| UserRow { user, totals })
                .collect(),
            by_day: self.days.rows(),
            notes: Notes { forgot: self.copies.forgot(), ..self.notes },
            effects: self.levers.into_iter().map(|(_, effect)| effect).collect(),
            catalogue: self.catalogue.stamp(),
        }
    }
}

/// Sets a record's own cost against its price.
fn compare(notes: &mut Notes, file: &str, model: &str, row: &Row, priced: Usd) {
    let Some(recorded) = row.recorded else { return };
    if recorded.is_zero() {
        notes.free += 1;
        notes.free_priced += u64::from(!priced.is_zero());
        notes.free_worth += priced;
    } else if Outlier::is_one(recorded, priced) {
        notes.outliers += 1;
        notes.outlier_recorded += recorded;
        notes.outlier_priced += priced;
        let tokens = row.tokens.input + row.tokens.output;
        let rows = &mut notes.outlier_rows;
        let place =
            rows.partition_point(|other| other.recorded - other.priced >= recorded - priced);
        if place < EXAMPLES {
            let (file, model) = (file.to_owned(), model.to_owned());
            rows.insert(place, Outlier { file, line: row.line, model, tokens, recorded, priced });
            rows.truncate(EXAMPLES);
        }
    } else {
        notes.compared += 1;
        notes.compared_recorded += recorded;
        notes.compared_priced += priced;
    }
}

/// The largest entries, and the rest in one.
fn listed(
    mut entries: Vec<(Box<str>, Tally)>,
    others: &str,
    most: usize,
) -> impl Iterator<Item = (String, Totals)> {
    entries.retain(|(_, tally)| !tally.is_empty());
    entries.sort_by(|(a, x), (b, y)| y.weight().cmp(&x.weight()).then_with(|| a.cmp(b)));
    if entries.len() > most {
        let mut rest = Tally::default();
        for (_, tally) in entries.drain(most.saturating_sub(1)..) {
            rest.merge(&tally);
        }
        match entries.iter_mut().find(|(name, _)| &**name == others) {
            Some((_, tally)) => tally.merge(&rest),
            None => entries.push((others.into(), rest)),
        }
    }
    entries.into_iter().map(|(name, tally)| (name.into(), tally.totals()))
}

/// Sums by day in UTC.
#[derive(Debug, Default)]
struct Days {
    /// By days since 1970; there are 31,046 plausible ones.
    tallies: FxHashMap<i64, Tally>,
    undated: Tally,
    /// The day of the latest row, whose sums are not in the map meanwhile.
    current: Option<(i64, Tally)>,
}

impl Days {
    #[inline]
    fn of(&mut self, at: Option<Timestamp>) -> &mut Tally {
        let Some(at) = at else {
            return &mut self.undated;
        };
        let day = at.as_millis().div_euclid(DAY);
        if self.current.is_some_and(|(current, _)| current != day) {
            self.put_back();
        }
        let tallies = &mut self.tallies;
        &mut self.current.get_or_insert_with(|| (day, tallies.remove(&day).unwrap_or_default())).1
    }

    fn put_back(&mut self) {
        if let Some((day, tally)) = self.current.take() {
            self.tallies.insert(day, tally);
        }
    }

    fn rows(mut self) -> Vec<DayRow> {
        self.put_back();
        let mut rows: Vec<DayRow> = self
            .tallies
            .into_iter()
            .map(|(day, tally)| {
                let midnight = Timestamp::from_millis(day * DAY).to_string();
                DayRow { day: midnight.chars().take(10).collect(), totals: tally.totals() }
            })
            .collect();
        if !self.undated.is_empty() {
            rows.push(DayRow { day: facts::NO_DAY.to_owned(), totals: self.undated.totals() });
        }
        rows
    }
}
