//! Times as people say them: `last month`, `in March`, `Q3 2026`, `between 2026-01-01 and 2026-01-31`, `since Monday`
//! is not among them. Days begin and end in UTC.

use super::calendar::{self, civil, day, monday_of, parse_day};

/// Days from the first to before the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Period {
    pub(super) from: Option<i64>,
    pub(super) before: Option<i64>,
}

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

/// The period that the words name, and which of them name it. `today` is the day on which they are said: a month or
/// quarter without a year is the last that has begun by then.
pub(super) fn read(words: &[&str], today: i64) -> (Option<Period>, Vec<bool>) {
    let mut used = vec![false; words.len()];
    let mut found: Option<Period> = None;
    let mut at = 0;
    while at < words.len() {
        let rest = words.get(at..).unwrap_or_default();
        let Some((period, length)) = one(rest, today) else {
            at += 1;
            continue;
        };
        let before = at.checked_sub(1).and_then(|before| words.get(before)).copied();
        let period = match before {
            Some("since" | "from" | "after" | "starting") => Period {
                from: if before == Some("after") { period.before } else { period.from },
                before: None,
            },
            Some("until" | "till" | "to" | "through" | "and") if found.is_some() => {
                Period { from: None, before: period.before }
            }
            Some("before") => Period { from: None, before: period.from },
            Some("until" | "till") => Period { from: None, before: period.before },
            Some("between") => Period { from: period.from, before: None },
            _ => period,
        };
        if let Some(before) = before
            && [
                "since", "from", "after", "starting", "until", "till", "to", "through", "and",
                "before", "between", "in", "during", "on",
            ]
            .contains(&before)
            && let Some(flag) = used.get_mut(at - 1)
        {
            *flag = true;
        }
        found = Some(match found {
            None => period,
            Some(known) => {
                Period { from: known.from.or(period.from), before: period.before.or(known.before) }
            }
        });
        used.iter_mut().skip(at).take(length).for_each(|flag| *flag = true);
        at += length;
    }
    (found, used)
}

/// The period at the beginning of the words, and how many of them it takes.
fn one(words: &[&str], today: i64) -> Option<(Period, usize)> {
    let span = |from: i64, before: i64| Period { from: Some(from), before: Some(before) };
    let (year, month, _) = civil(today);
    match *words {
        ["today", ..] => Some((span(today, today + 1), 1)),
        ["yesterday", ..] => Some((span(today - 1, today), 1)),
        ["last" | "past" | "previous", number, unit, ..]
            if number.parse::<i64>().is_ok_and(|n| (1..=1_000).contains(&n)) =>
        {
            let number: i64 = number.parse().ok()?;
            let period = match unit.trim_end_matches('s') {
                "day" => span(today - number, today),
                "week" => span(today - 7 * number, today),
                "month" => span(day(year, month - number, 1), day(year, month, 1)),
                "year" => span(day(year - number, 1, 1), day(year, 1, 1)),
                _ => return None,
            };
            Some((period, 3))
        }
        ["last" | "past" | "previous", unit, ..] => {
            let period = match unit {
                "day" => span(today - 1, today),
                "week" => span(monday_of(today) - 7, monday_of(today)),
                "month" => span(day(year, month - 1, 1), day(year, month, 1)),
                "quarter" => {
                    let first = (month - 1) / 3 * 3 + 1;
                    span(day(year, first - 3, 1), day(year, first, 1))
                }
                "year" => span(day(year - 1, 1, 1), day(year, 1, 1)),
                _ => return None,
            };
            Some((period, 2))
        }
        ["this" | "current", unit, ..] => {
            let period = match unit {
                "week" => span(monday_of(today), monday_of(today) + 7),
                "month" => span(day(year, month, 1), day(year, month + 1, 1)),
                "quarter" => {
                    let first = (month - 1) / 3 * 3 + 1;
                    span(day(year, first, 1), day(year, first + 3, 1))
                }
                "year" => span(day(year, 1, 1), day(year + 1, 1, 1)),
                _ => return None,
            };
            Some((period, 2))
        }
        [word, ..] => named(word, words.get(1).copied(), today, (year, month)),
        [] => None,
    }
}

/// A date, a month, a quarter or a year.
fn named(
    word: &str,
    next: Option<&str>,
    today: i64,
    (year, month): (i64, i64),
) -> Option<(Period, usize)> {
    let months = |year: i64, first: i64, count: i64| Period {
        from: Some(day(year, first, 1)),
        before: Some(day(year, first + count, 1)),
    };
    if let Some(found) = parse_day(word) {
        return Some((Period { from: Some(found), before: Some(found + 1) }, 1));
    }
    if let Some((y, m)) = word.split_once('-')
        && let (Some(y), true) = (a_year(y), m.len() == 2)
        && let Ok(m @ 1..=12) = m.parse::<i64>()
    {
        return Some((months(y, m, 1), 1));
    }
    let following = next.and_then(a_year);
    let length = 1 + usize::from(following.is_some());
    if let Some(quarter) = word.strip_prefix('q').and_then(|n| n.parse::<i64>().ok())
        && (1..=4).contains(&quarter)
    {
        let first = quarter * 3 - 2;
        let year = following.unwrap_or(if day(year, first, 1) > today { year - 1 } else { year });
        return Some((months(year, first, 3), length));
    }
    let is_it = |name: &&str| {
        // `may` and `march` are other words too; short forms are only taken where nothing else is meant.
        **name == *word
            || (word.len() == 3 && word != "mar" && name.starts_with(word) && word != "may")
    };
    if let Some(place) = MONTHS.iter().position(is_it) {
        let number = i64::try_from(place).ok()? + 1;
        let year = following.unwrap_or(if number > month { year - 1 } else { year });
        return Some((months(year, number, 1), length));
    }
    a_year(word).map(|year| (months(year, 1, 12), 1))
}

fn a_year(word: &str) -> Option<i64> {
    let year: i64 = (word.len() == 4).then(|| word.parse().ok())??;
    (2015..2100).contains(&year).then_some(year)
}

/// A period as moments.
impl Period {
    pub(super) fn moments(
        self,
    ) -> (Option<apex_core::clock::Timestamp>, Option<apex_core::clock::Timestamp>) {
        (self.from.map(calendar::midnight), self.before.map(calendar::midnight))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_say_them() {
        let today = parse_day("2026-11-23").unwrap();
        for (text, from, before) in [
            ("today", "2026-11-23", "2026-11-24"),
            ("last month", "2026-10-01", "2026-11-01"),
            ("last 7 days", "2026-11-16", "2026-11-23"),
            ("past 2 months", "2026-09-01", "2026-11-01"),
            ("last week", "2026-11-16", "2026-11-23"),
            ("this week", "2026-11-23", "2026-11-30"),
            ("in march", "2026-03-01", "2026-04-01"),
            ("in december", "2025-12-01", "2026-01-01"),
            ("march 2025", "2025-03-01", "2025-04-01"),
            ("in oct", "2026-10-01", "2026-11-01"),
            ("2025-02", "2025-02-01", "2025-03-01"),
            ("q3", "2026-07-01", "2026-10-01"),
            ("q4 2025", "2025-10-01", "2026-01-01"),
            ("in 2025", "2025-01-01", "2026-01-01"),
            ("last quarter", "2026-07-01", "2026-10-01"),
            ("between 2026-01-05 and 2026-01-07", "2026-01-05", "2026-01-08"),
            ("from january to march", "2026-01-01", "2026-04-01"),
            ("since 2026-11-01", "2026-11-01", ""),
            ("before 2026-11-01", "", "2026-11-01"),
            ("after 2026-11-01", "2026-11-02", ""),
            ("until october", "", "2026-11-01"),
        ] {
            let words: Vec<&str> = text.split(' ').collect();
            let (found, used) = read(&words, today);
            let expected = Period { from: parse_day(from), before: parse_day(before) };
            assert_eq!(found, Some(expected), "{text}");
            assert!(used.iter().all(|used| *used), "{text}");
        }
        for none in ["next month", "the last word", "gpt-4", "10 users", "1999", "2026-13"] {
            let words: Vec<&str> = none.split(' ').collect();
            assert_eq!(read(&words, today).0, None, "{none}");
        }
    }
}
