use super::{Balance, BudgetLimits, Charge, Period, Used};
use crate::clock::Timestamp;
use jiff::tz::TimeZone;

/// What a user has used, as it is kept: one line a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Account {
    pub(crate) day: Window,
    pub(crate) month: Window,
}

/// What was used in one period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    /// When the period began.
    pub(crate) since: Timestamp,
    pub(crate) spent: Charge,
}

impl Default for Window {
    fn default() -> Self {
        Self { since: Timestamp::from_millis(i64::MIN), spent: Charge::default() }
    }
}

impl Account {
    /// As it is at this time: periods that are over count no more. A clock that went back begins none.
    pub(crate) fn at(self, now: Timestamp) -> Self {
        let at = |window: Window, period: Period| {
            let since = period.around(now).0;
            if since > window.since { Window { since, ..Window::default() } } else { window }
        };
        Self { day: at(self.day, Period::Day), month: at(self.month, Period::Month) }
    }

    /// With this counted.
    pub(crate) fn charged(self, charge: Charge) -> Self {
        let with = |window: Window| Window { spent: window.spent.plus(charge), ..window };
        Self { day: with(self.day), month: with(self.month) }
    }

    /// As others see it, with what is reserved.
    pub(crate) fn used(&self, reserved: Charge) -> [Used; 2] {
        [(Period::Day, self.day), (Period::Month, self.month)].map(|(period, window)| Used {
            period,
            spent: window.spent,
            reserved,
            renews_at: period.around(window.since).1,
        })
    }

    /// Whether as much more fits under every limit.
    pub(crate) fn has_room(&self, reserved: Charge, most: Charge, limits: &BudgetLimits) -> bool {
        self.used(reserved).into_iter().all(|used| Balance::new(used, limits).fits(most))
    }
}

impl Period {
    /// When the one that holds this moment began, and when the next one begins.
    fn around(self, at: Timestamp) -> (Timestamp, Timestamp) {
        const DAY: i64 = 24 * 60 * 60 * 1_000;
        let midnight = at.as_millis().saturating_sub(at.as_millis().rem_euclid(DAY));
        let day = (
            Timestamp::from_millis(midnight),
            Timestamp::from_millis(midnight.saturating_add(DAY)),
        );
        if self == Self::Day {
            return day;
        }
        let Ok(now) = jiff::Timestamp::from_millisecond(at.as_millis()) else {
            return day;
        };
        let date = now.to_zoned(TimeZone::UTC).date();
        let begins = |date: jiff::civil::Date| {
            date.to_zoned(TimeZone::UTC)
                .map(|begins| Timestamp::from_millis(begins.timestamp().as_millisecond()))
        };
        let first = begins(date.first_of_month());
        let next = date.last_of_month().tomorrow().and_then(begins);
        first.and_then(|first| next.map(|next| (first, next))).unwrap_or(day)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn days_and_months_are_those_of_utc() {
        let around = |period: Period, text| {
            let (since, until) = period.around(at(text));
            (since.to_string(), until.to_string())
        };
        for (period, moment, since, until) in [
            (Period::Day, "2026-11-23T00:00:00Z", "2026-11-23", "2026-11-24"),
            (Period::Day, "2026-11-23T23:59:59.999Z", "2026-11-23", "2026-11-24"),
            (Period::Day, "2026-11-24T00:30:00+01:00", "2026-11-23", "2026-11-24"),
            (Period::Month, "2026-12-31T23:59:59Z", "2026-12-01", "2027-01-01"),
            (Period::Month, "2028-02-29T12:00:00Z", "2028-02-01", "2028-03-01"),
        ] {
            let wanted = [since, until].map(|day| format!("{day}T00:00:00.000Z"));
            assert_eq!(around(period, moment), (wanted[0].clone(), wanted[1].clone()), "{moment}");
        }
    }

    #[test]
    fn a_period_that_is_over_counts_no_more_and_a_clock_that_went_back_begins_none() {
        let charge = Charge { tokens: 5, ..Charge::default() };
        let account = Account::default().at(at("2026-11-30T10:00:00Z")).charged(charge);
        let tokens = |account: Account| (account.day.spent.tokens, account.month.spent.tokens);
        assert_eq!(tokens(account.at(at("2026-11-30T23:00:00Z"))), (5, 5));
        assert_eq!(tokens(account.at(at("2026-12-01T00:00:00Z"))), (0, 0));
        let later = account.at(at("2026-12-01T00:00:00Z")).charged(charge);
        assert_eq!(tokens(later.at(at("2026-11-30T23:59:00Z"))), (5, 5));
        assert_eq!(tokens(later.at(at("2026-12-02T00:00:00Z"))), (0, 5));
    }
}
