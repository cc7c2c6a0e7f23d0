//! Days, weeks and months in UTC, as numbers of days since 1970.

use apex_core::clock::Timestamp;

/// A day, in milliseconds.
pub(crate) const DAY: i64 = 86_400_000;

/// The weekdays, from that of 1970-01-01.
const WEEKDAYS: [&str; 7] =
    ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];

/// The day in which a moment is.
pub(crate) fn day_of(at: Timestamp) -> i64 {
    at.as_millis().div_euclid(DAY)
}

/// The first moment of a day.
pub(crate) fn midnight(day: i64) -> Timestamp {
    Timestamp::from_millis(day.saturating_mul(DAY))
}

/// The Monday of a day's week.
pub(crate) fn monday_of(day: i64) -> i64 {
    // 1970-01-01 was a Thursday.
    day - (day + 3).rem_euclid(7)
}

/// The name of the weekday.
pub(crate) fn weekday_of(day: i64) -> &'static str {
    usize::try_from(day.rem_euclid(7)).ok().and_then(|n| WEEKDAYS.get(n)).copied().unwrap_or("")
}

/// Year, month (1 to 12) and day of the month.
pub(crate) fn civil(day: i64) -> (i64, i64, i64) {
    // Years begin in March here, so that the leap day is the last of one.
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// The day of a date; a month beyond 12 is one of a later year, one below 1 of an earlier.
pub(crate) fn day(year: i64, month: i64, day: i64) -> i64 {
    let year = year + (month - 1).div_euclid(12);
    let month = (month - 1).rem_euclid(12) + 1;
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * shifted + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// A date such as `2026-01-31`, if there is such a day.
pub(crate) fn parse_day(text: &str) -> Option<i64> {
    let mut parts = text.splitn(3, '-');
    let (year, month, date) = (parts.next()?, parts.next()?, parts.next()?);
    if year.len() != 4 || month.len() != 2 || date.len() != 2 {
        return None;
    }
    let number =
        |part: &str| part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok())?;
    let (year, month, date) = (number(year)?, number(month)?, number(date)?);
    let found = day(year, month, date);
    (civil(found) == (year, month, date)).then_some(found)
}

/// A day as a date.
pub(crate) fn date(day: i64) -> String {
    let (year, month, date) = civil(day);
    format!("{year:04}-{month:02}-{date:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_dates_are_the_same_both_ways() {
        for known in [(0, "1970-01-01"), (19_782, "2024-02-29"), (20_780, "2026-11-23")] {
            assert_eq!(date(known.0), known.1);
            assert_eq!(parse_day(known.1), Some(known.0));
            assert_eq!(midnight(known.0).to_string().get(..10), Some(known.1));
        }
        for number in (-200_000..200_000).step_by(37) {
            let (year, month, date) = civil(number);
            assert_eq!(day(year, month, date), number);
        }
        for wrong in ["2026-02-29", "2026-13-01", "2026-1-1", "26-01-01", "2026-01-00", "x"] {
            assert_eq!(parse_day(wrong), None, "{wrong}");
        }
        assert_eq!((weekday_of(20_780), date(monday_of(20_784))), ("Monday", "2026-11-23".into()));
        assert_eq!(day(2026, 13, 1), day(2027, 1, 1));
        assert_eq!(day(2026, 0, 1), day(2025, 12, 1));
    }
}
