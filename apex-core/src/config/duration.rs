//! Durations as people write them: `250ms`, `30s`, `5m`, `12h`, `7d`. For use as
//! `#[serde(with = "apex_core::config::duration")]` with `#[schemars(with = "apex_core::config::HumanDuration")]`.

use serde::{Deserialize, Deserializer, Serializer};
use std::time::Duration;

/// The units, largest first, in milliseconds.
const UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads a whole number followed by one unit.
///
/// # Errors
/// A sentence that says what is expected; it does not repeat the text.
pub fn parse(text: &str) -> Result<Duration, &'static str> {
    const EXPECTED: &str =
        "expected a whole number and one of the units ms, s, m, h, d, such as 30s";
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).ok_or(EXPECTED)?;
    let number: u64 = number.parse().map_err(|_| EXPECTED)?;
    let (_, millis) = UNITS.iter().find(|(name, _)| *name == unit).ok_or(EXPECTED)?;
    number
        .checked_mul(*millis)
        .map(Duration::from_millis)
        .ok_or("longer than can be counted in milliseconds")
}

/// Writes the number in the largest unit that leaves nothing over.
#[must_use]
pub fn format(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 {
        return "0s".to_owned();
    }
    let (unit, size) =
        UNITS.into_iter().find(|(_, size)| millis.is_multiple_of(*size)).unwrap_or(("ms", 1));
    format!("{}{unit}", millis / size)
}

/// For `#[serde(with)]`.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format(*duration))
}

/// For `#[serde(with)]`.
///
/// # Errors
/// Text that [`parse`] refuses.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
    parse(&text).map_err(serde::de::Error::custom)
}

/// The same for a field that may be left open.
pub mod optional {
    use super::{Deserialize, Deserializer, Duration, Serializer};

    /// For `#[serde(with)]`.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }

    /// For `#[serde(with)]`.
    ///
    /// # Errors
    /// Text that [`parse`](super::parse) refuses.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        let text = Option::<std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let read = text.map(|text| super::parse(&text)).transpose();
        read.map_err(serde::de::Error::custom)
    }
}

/// The schema of a duration in configuration. A field narrows it by
/// `#[schemars(extend("x-minimum" = "1s", "x-maximum" = "60s"))]`, which the loader enforces.
#[derive(Debug)]
pub struct HumanDuration;

impl schemars::JsonSchema for HumanDuration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "HumanDuration".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "format": "human-duration",
            "pattern": "^[0-9]+(ms|s|m|h|d)$"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn units_are_read_and_the_largest_exact_one_is_written() {
        for (text, millis) in
            [("250ms", 250), ("30s", 30_000), ("90m", 5_400_000), ("7d", 604_800_000)]
        {
            assert_eq!(parse(text).unwrap(), Duration::from_millis(millis));
            assert_eq!(format(Duration::from_millis(millis)), text);
        }
        for bad in ["", "30", "s", "-1s", "1.5s", "30 s", "30S", "1s1s", "99999999999999999d", "٣s"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(millis in 0_u64..10_000_000_000) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse(&format(duration)).unwrap(), duration);
        }
    }
}
