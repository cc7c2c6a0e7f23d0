//! Which group a record belongs to.

use super::calendar::{self, DAY};
use super::{Dimension, Filter, name};
use crate::cost::import::Decoded;
use apex_core::clock::Timestamp;
use apex_core::usage::UsageStatus;
use std::fmt::Write as _;

/// What parts the dimensions of a group's key; no name in a record holds it.
pub(super) const BETWEEN: char = '\u{1f}';

/// What stands for a thing that a record does not name.
pub(super) const NONE: &str = "(none)";

/// Why a record does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Out {
    /// It does not fit the filter.
    Filtered,
    /// The filter has times and the record has none.
    Undated,
}

/// Whether a record counts.
pub(super) fn fits(filter: &Filter, record: &Decoded<'_>) -> Result<(), Out> {
    let named = |list: &[String], own: Option<&str>| {
        list.is_empty() || own.is_some_and(|own| list.iter().any(|term| name::is_same(term, own)))
    };
    let session = || record.session.map(String::from_utf8_lossy);
    let fits = (filter.models.is_empty()
        || filter.models.iter().any(|term| name::is_model(term, record.model)))
        && named(&filter.providers, record.provider)
        && named(&filter.users, record.user)
        && (filter.sessions.is_empty() || named(&filter.sessions, session().as_deref()))
        && (filter.statuses.is_empty() || filter.statuses.contains(&record.status));
    if !fits {
        return Err(Out::Filtered);
    }
    if filter.from.is_none() && filter.before.is_none() {
        return Ok(());
    }
    let at = record.at.ok_or(Out::Undated)?;
    let inside =
        filter.from.is_none_or(|from| at >= from) && filter.before.is_none_or(|before| at < before);
    if inside { Ok(()) } else { Err(Out::Filtered) }
}

/// Writes the key of a record's group.
pub(super) fn key(by: &[Dimension], filter: &Filter, record: &Decoded<'_>, key: &mut String) {
    key.clear();
    for (position, dimension) in by.iter().enumerate() {
        if position > 0 {
            key.push(BETWEEN);
        }
        let name = match dimension {
            Dimension::Model => Some(record.model),
            Dimension::FilteredModel => {
                let which = filter.models.iter().find(|term| name::is_model(term, record.model));
                which.map(String::as_str)
            }
            Dimension::Provider => record.provider,
            Dimension::User => record.user,
            Dimension::Tier => record.tier,
            Dimension::Status => Some(match record.status {
                UsageStatus::Ok => "ok",
                UsageStatus::Error => "failed",
                UsageStatus::Unknown => "unknown",
            }),
            Dimension::Session => {
                match record.session {
                    Some(session) => key.push_str(&String::from_utf8_lossy(session)),
                    None => key.push_str(NONE),
                }
                continue;
            }
            Dimension::Day
            | Dimension::Week
            | Dimension::Month
            | Dimension::Hour
            | Dimension::Weekday => {
                match record.at {
                    Some(at) => time(*dimension, at, key),
                    None => key.push_str(NONE),
                }
                continue;
            }
        };
        key.push_str(name.filter(|name| !name.is_empty()).unwrap_or(NONE));
    }
}

fn time(dimension: Dimension, at: Timestamp, key: &mut String) {
    let day = calendar::day_of(at);
    match dimension {
        Dimension::Week => key.push_str(&calendar::date(calendar::monday_of(day))),
        Dimension::Month => {
            let (year, month, _) = calendar::civil(day);
            let _ = write!(key, "{year:04}-{month:02}");
        }
        Dimension::Hour => {
            let hour = at.as_millis().rem_euclid(DAY) / 3_600_000;
            let _ = write!(key, "{hour:02}:00");
        }
        Dimension::Weekday => key.push_str(calendar::weekday_of(day)),
        _ => key.push_str(&calendar::date(day)),
    }
}

/// The place of a group in the order of groups: weekdays follow each other from Monday.
pub(super) fn place(dimension: Dimension, name: &str) -> (i64, &str) {
    const WEEK: [&str; 7] =
        ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
    let of_week = (dimension == Dimension::Weekday)
        .then(|| WEEK.iter().position(|day| *day == name))
        .flatten();
    let place = of_week.and_then(|place| i64::try_from(place).ok()).unwrap_or(7);
    // What has no name comes last.
    (if name == NONE { i64::MAX } else { place }, name)
}
