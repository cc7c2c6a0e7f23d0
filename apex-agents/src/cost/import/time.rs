//! Moments as exports write them: RFC 3339 and its looser kin, dates, and seconds to nanoseconds since 1970.

use apex_core::clock::Timestamp;
use std::cell::Cell;

/// Usage before this has not been recorded by anyone; a smaller figure is a fault, most often of the unit.
const EARLIEST: i64 = 1_420_070_400_000; // 2015-01-01
const LATEST: i64 = 4_102_444_800_000; // 2100-01-01

/// The day that was read last: in a log the next record is most often of the same.
#[derive(Debug, Default)]
pub(super) struct Days {
    last: Cell<([u8; 10], i64)>,
}

/// Reads a moment. What has no zone is UTC.
pub(super) fn parse(text: &[u8], days: &Days) -> Result<Timestamp, String> {
    let millis = match text.split_first_chunk::<10>() {
        Some((date, rest)) if matches!(date[4], b'-' | b'/') => {
            days.midnight(date).and_then(|day| time_of(day, rest))
        }
        _ => epoch(text),
    };
    let Some(millis) = millis else {
        return Err(
            "is not a time; write 2026-01-31T12:00:00Z or the seconds since 1970".to_owned()
        );
    };
    let at = Timestamp::from_millis(millis);
    if !(EARLIEST..LATEST).contains(&millis) {
        return Err(format!("is the implausible time {at}; only 2015 to 2099 is taken"));
    }
    Ok(at)
}

impl Days {
    fn midnight(&self, date: &[u8; 10]) -> Option<i64> {
        let (last, midnight) = self.last.get();
        if last == *date {
            return Some(midnight);
        }
        let midnight = midnight_of(date)?;
        self.last.set((*date, midnight));
        Some(midnight)
    }
}

fn midnight_of(date: &[u8; 10]) -> Option<i64> {
    let [y1, y2, y3, y4, b'-' | b'/', m1, m2, b'-' | b'/', d1, d2] = *date else {
        return None;
    };
    let year = i64::from(two(y1, y2)?) * 100 + i64::from(two(y3, y4)?);
    let (month, day) = (two(m1, m2)?, two(d1, d2)?);
    let exists = (1..=12).contains(&month) && day >= 1 && day <= days_in(year, month);
    exists.then(|| days_from_civil(year, i64::from(month), i64::from(day)) * 86_400_000)
}

/// The moment at this time of the day that begins at `midnight`.
fn time_of(midnight: i64, rest: &[u8]) -> Option<i64> {
    match rest {
        [] => Some(midnight),
        [b'T' | b't' | b' ', h1, h2, b':', n1, n2, rest @ ..] => {
            let (hour, minute) = (two(*h1, *h2)?, two(*n1, *n2)?);
            let (second, rest) = match rest {
                [b':', s1, s2, rest @ ..] => (two(*s1, *s2)?, rest),
                rest => (0, rest),
            };
            // A leap second is counted as the one before it.
            if hour > 23 || minute > 59 || second > 60 {
                return None;
            }
            let (millis, rest) = fraction(rest)?;
            let seconds =
                i64::from(hour) * 3_600 + i64::from(minute) * 60 + i64::from(second.min(59));
            Some(midnight + seconds * 1_000 + millis - zone(rest)? * 60_000)
        }
        _ => None,
    }
}

/// The milliseconds of a fraction such as `.842000`, and what follows it.
fn fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    let [b'.' | b',', digits @ ..] = text else {
        return Some((0, text));
    };
    let length = digits.iter().take_while(|b| b.is_ascii_digit()).count();
    let (digits, rest) = digits.split_at_checked(length)?;
    let mut millis = 0;
    for place in 0..3 {
        millis = millis * 10 + digits.get(place).map_or(0, |digit| i64::from(digit - b'0'));
    }
    (length > 0).then_some((millis, rest))
}

/// Minutes east of UTC.
fn zone(text: &[u8]) -> Option<i64> {
    let (sign, text) = match text {
        [] | [b'Z' | b'z'] | b" UTC" | b" GMT" => return Some(0),
        [b'+', rest @ ..] | [b' ', b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] | [b' ', b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = match text {
        [h1, h2] => (two(*h1, *h2)?, 0),
        [h1, h2, b':', m1, m2] | [h1, h2, m1, m2] => (two(*h1, *h2)?, two(*m1, *m2)?),
        _ => return None,
    };
    (hours <= 14 && minutes <= 59).then_some(sign * (i64::from(hours) * 60 + i64::from(minutes)))
}

/// Seconds, milliseconds, microseconds or nanoseconds since 1970: the plausible ranges do not overlap.
fn epoch(text: &[u8]) -> Option<i64> {
    let length = text.iter().take_while(|b| b.is_ascii_digit()).count();
    let (digits, rest) = text.split_at_checked(length)?;
    if digits.is_empty() || length > 19 {
        return None;
    }
    let mut whole = 0_i64;
    for digit in digits {
        whole = whole.checked_mul(10)?.checked_add(i64::from(digit - b'0'))?;
    }
    let (thousandths, rest) = fraction(rest)?;
    if !rest.is_empty() {
        return None;
    }
    Some(match whole {
        0..100_000_000_000 => whole * 1_000 + thousandths,
        100_000_000_000..100_000_000_000_000 => whole,
        100_000_000_000_000..100_000_000_000_000_000 => whole / 1_000,
        _ => whole / 1_000_000,
    })
}

fn two(tens: u8, ones: u8) -> Option<u8> {
    (tens.is_ascii_digit() && ones.is_ascii_digit()).then(|| (tens - b'0') * 10 + ones - b'0')
}

fn days_in(year: i64, month: u8) -> u8 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a date in the Gregorian calendar, counted in eras of 400 years from a March on.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<String, String> {
        parse(text.as_bytes(), &Days::default()).map(|at| at.to_string())
    }

    #[test]
    fn many_ways_to_write_a_moment() {
        for text in [
            "2026-07-31T01:29:53.842000",
            "2026-07-31T01:29:53.842Z",
            "2026-07-31 01:29:53.842",
            "2026-07-31 01:29:53,842 UTC",
            "2026/07/31 01:29:53.8429999+00:00",
            "2026-07-31T03:29:53.842+02:00",
            "2026-07-30 20:29:53.842 -0500",
            "1785461393.842",
            "1785461393842",
            "1785461393842000",
            "1785461393842000000",
        ] {
            assert_eq!(read(text), Ok("2026-07-31T01:29:53.842Z".to_owned()), "{text}");
        }
        assert_eq!(read("2026-07-31"), Ok("2026-07-31T00:00:00.000Z".to_owned()));
        assert_eq!(read("2024-02-29 23:59"), Ok("2024-02-29T23:59:00.000Z".to_owned()));
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for text in [
            "",
            "yesterday",
            "31/07/2026",
            "2026-13-01",
            "2026-02-30",
            "2026-07-31T25:00:00Z",
            "2026-07-31Tx",
            "2026-07-31T01:29:53+99:00",
            "-5",
            "12.",
            "1e9",
            "99999999999999999999",
            "2026-07-31T01:29:53.Z",
        ] {
            assert!(read(text).unwrap_err().contains("is not a time"), "{text}");
        }
        for text in ["0", "1970-01-01T00:00:00Z", "2100-01-01", "1735", "2014-12-31T23:59:59.999Z"]
        {
            assert!(read(text).unwrap_err().contains("implausible"), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_written_moment_is_read_again(millis in EARLIEST..LATEST) {
            let at = Timestamp::from_millis(millis);
            prop_assert_eq!(parse(at.to_string().as_bytes(), &Days::default()), Ok(at));
            prop_assert_eq!(parse(millis.to_string().as_bytes(), &Days::default()), Ok(at));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = parse(&bytes, &Days::default());
        }
    }
}
