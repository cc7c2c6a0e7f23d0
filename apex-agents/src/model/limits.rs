//! What a provider says about a key's limits in the headers of its answers.

use apex_core::clock::Timestamp;
use std::time::Duration;

/// One limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// How many there are in a period, where that is said.
    pub limit: Option<u64>,
    /// How many are left.
    pub remaining: u64,
    /// How long until there are all of them again, where that is said.
    pub reset: Option<Duration>,
}

/// A key's limits. Providers that say nothing (Gemini) leave them empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RateLimits {
    /// Of requests.
    pub requests: Option<RateLimit>,
    /// Of tokens both ways.
    pub tokens: Option<RateLimit>,
    /// Of tokens sent.
    pub input_tokens: Option<RateLimit>,
    /// Of tokens received.
    pub output_tokens: Option<RateLimit>,
}

impl RateLimits {
    /// Reads them from an answer's headers, found by their name in small letters. `now` is the time of the answer.
    #[must_use]
    pub fn read<'a>(header: impl Fn(&str) -> Option<&'a str>, now: Timestamp) -> Self {
        let openai = |what: &str| {
            let find = |field: &str| header(&format!("x-ratelimit-{field}-{what}"));
            limit(find("limit"), find("remaining"), find("reset").and_then(go_duration))
        };
        let anthropic = |what: &str| {
            let find = |field: &str| header(&format!("anthropic-ratelimit-{what}-{field}"));
            let reset =
                find("reset").and_then(|at| at.parse::<Timestamp>().ok()).map(|at| at.since(now));
            limit(find("limit"), find("remaining"), reset)
        };
        Self {
            requests: openai("requests").or_else(|| anthropic("requests")),
            tokens: openai("tokens").or_else(|| anthropic("tokens")),
            input_tokens: anthropic("input-tokens"),
            output_tokens: anthropic("output-tokens"),
        }
    }

    /// How long to stay away because something is used up and it is known when it comes back.
    #[must_use]
    pub fn exhausted_for(&self) -> Option<Duration> {
        [self.requests, self.tokens, self.input_tokens, self.output_tokens]
            .into_iter()
            .flatten()
            .filter(|limit| limit.remaining == 0)
            .filter_map(|limit| limit.reset)
            .filter(|reset| !reset.is_zero())
            .max()
    }
}

/// How long the provider wants to be left alone: `retry-after-ms`, or `retry-after` in seconds or as the date of an
/// HTTP header (RFC 9110, section 10.2.3).
#[cfg(any(feature = "anthropic", feature = "gemini", feature = "openai"))]
pub(crate) fn retry_after<'a>(
    header: impl Fn(&str) -> Option<&'a str>,
    now: Timestamp,
) -> Option<Duration> {
    let number = |name: &str| header(name)?.trim().parse::<f64>().ok();
    number("retry-after-ms")
        .map(|millis| millis / 1e3)
        .or_else(|| number("retry-after"))
        .map(Duration::try_from_secs_f64)
        .map_or_else(|| http_date(header("retry-after")?).map(|at| at.since(now)), Result::ok)
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`, the one form of a date that may be sent.
#[cfg(any(feature = "anthropic", feature = "gemini", feature = "openai"))]
fn http_date(text: &str) -> Option<Timestamp> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let (_, date) = text.trim().split_once(", ")?;
    let mut fields = date.split(' ');
    let (day, month, year) = (fields.next()?, fields.next()?, fields.next()?);
    let (time, zone) = (fields.next()?, fields.next()?);
    let month = MONTHS.find(month).filter(|at| month.len() == 3 && at.is_multiple_of(3))? / 3 + 1;
    if zone != "GMT" {
        return None;
    }
    format!("{year}-{month:02}-{day}T{time}Z").parse().ok()
}

fn limit(
    limit: Option<&str>,
    remaining: Option<&str>,
    reset: Option<Duration>,
) -> Option<RateLimit> {
    let limit = limit.and_then(|text| text.parse::<u64>().ok());
    // Azure says -1, or a limit of 0, where there is none.
    let remaining = remaining?.parse::<u64>().ok()?;
    (limit != Some(0)).then_some(RateLimit { limit, remaining, reset })
}

/// `6m0s`, `1h2m3.5s`, `12ms`.
fn go_duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut seconds = 0.0_f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at_checked(digits)?;
        let (factor, tail) = [
            ("ms", 1e-3),
            ("us", 1e-6),
            ("µs", 1e-6),
            ("ns", 1e-9),
            ("h", 3600.0),
            ("m", 60.0),
            ("s", 1.0),
        ]
        .into_iter()
        .find_map(|(unit, factor)| Some((factor, tail.strip_prefix(unit)?)))?;
        seconds += number.parse::<f64>().ok()? * factor;
        rest = tail;
    }
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(headers: &'static [(&'static str, &'static str)]) -> RateLimits {
        let now = "2026-11-01T00:00:00Z".parse().unwrap();
        RateLimits::read(
            |name| headers.iter().find(|(key, _)| *key == name).map(|(_, value)| *value),
            now,
        )
    }

    #[test]
    fn durations_are_written_as_go_does() {
        for (text, millis) in [("6m0s", 360_000), ("12ms", 12), ("1h2m3.5s", 3_723_500), ("0s", 0)]
        {
            assert_eq!(go_duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["6", "m", "6x", "-1s"] {
            assert_eq!(go_duration(text), None, "{text}");
        }
    }

    #[test]
    fn openai_says_how_long_and_anthropic_says_when() {
        let openai = read(&[
            ("x-ratelimit-limit-requests", "500"),
            ("x-ratelimit-remaining-requests", "0"),
            ("x-ratelimit-reset-requests", "120ms"),
            ("x-ratelimit-limit-tokens", "30000"),
            ("x-ratelimit-remaining-tokens", "0"),
            ("x-ratelimit-reset-tokens", "6m0s"),
        ]);
        assert_eq!(openai.requests.unwrap().limit, Some(500));
        assert_eq!(openai.exhausted_for(), Some(Duration::from_secs(360)));
        let anthropic = read(&[
            ("anthropic-ratelimit-input-tokens-limit", "50000"),
            ("anthropic-ratelimit-input-tokens-remaining", "0"),
            ("anthropic-ratelimit-input-tokens-reset", "2026-11-01T00:00:30Z"),
        ]);
        assert_eq!(anthropic.exhausted_for(), Some(Duration::from_secs(30)));
    }

    #[test]
    fn what_is_no_limit_holds_nothing_up() {
        let azure = read(&[
            ("x-ratelimit-limit-tokens", "0"),
            ("x-ratelimit-remaining-tokens", "0"),
            ("x-ratelimit-remaining-requests", "-1"),
            ("x-ratelimit-reset-tokens", "1m"),
        ]);
        assert_eq!(azure, RateLimits::default());
        assert_eq!(read(&[]).exhausted_for(), None);
    }

    #[cfg(any(feature = "anthropic", feature = "gemini", feature = "openai"))]
    #[test]
    fn the_finer_wait_is_taken() {
        let headers = |name: &str| match name {
            "retry-after-ms" => Some("1500"),
            "retry-after" => Some("2"),
            _ => None,
        };
        let now = "2026-11-23T00:00:00Z".parse().unwrap();
        assert_eq!(retry_after(headers, now), Some(Duration::from_millis(1_500)));
        for (text, seconds) in [
            ("2", Some(2)),
            ("0", Some(0)),
            ("-1", None),
            ("soon", None),
            ("Mon, 23 Nov 2026 00:01:30 GMT", Some(90)),
            // It has passed by our clock.
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(0)),
            ("Mon, 23 Nov 2026 00:01:30 CET", None),
            ("Mon, 23 anF 2026 00:01:30 GMT", None),
            ("Mon, 33 Nov 2026 00:01:30 GMT", None),
        ] {
            let wait = retry_after(|name| (name == "retry-after").then_some(text), now);
            assert_eq!(wait, seconds.map(Duration::from_secs), "{text}");
        }
    }
}
