//! Exact amounts of US dollars, and token tallies.
//!
//! An amount is an integer of 10^-24 dollars. Usage logs hold costs with 21 decimals and more (the shortest text of
//! a binary double), and ten million of them must add up to the last digit: a decimal type with a floating scale
//! rounds silently when its mantissa is full, this one cannot. The range is ±170 trillion dollars.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

const DECIMALS: u32 = 24;
const UNIT: i128 = 10_i128.pow(DECIMALS);

/// An exact amount of US dollars; a decimal string on the wire, without exponent or trailing zeros.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Usd(i128);

/// Why a text is not an amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsdError {
    /// Not a decimal number.
    NotANumber,
    /// More than 24 decimals, of which the last are not zero.
    TooFine,
    /// Beyond ±170 trillion dollars.
    TooLarge,
}

impl fmt::Display for UsdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotANumber => "not a decimal number",
            Self::TooFine => "more than 24 decimals",
            Self::TooLarge => "larger than 170 trillion dollars",
        })
    }
}

impl std::error::Error for UsdError {}

impl Usd {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// The amount as an integer of 10^-24 dollars.
    #[must_use]
    pub const fn units(self) -> i128 {
        self.0
    }

    /// An amount from an integer of 10^-24 dollars.
    #[must_use]
    pub const fn from_units(units: i128) -> Self {
        Self(units)
    }

    /// An amount from a decimal text such as `12.5`, `-0.0001107` or `1.105e-05`.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &[u8]) -> Result<Self, UsdError> {
        Self::read(text, false)
    }

    /// Like [`Usd::parse`], but what is finer than 10^-24 dollars is cut off: for figures that were computed in
    /// binary and printed with more digits than they have.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse_lossy(text: &[u8]) -> Result<Self, UsdError> {
        Self::read(text, true)
    }

    fn read(text: &[u8], lossy: bool) -> Result<Self, UsdError> {
        let (negative, digits) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            rest => (false, rest),
        };
        let (mut value, mut high) = (0_u64, None::<u128>);
        let (mut seen, mut point, mut decimals) = (false, false, 0_i32);
        let mut rest = digits;
        while let [byte, tail @ ..] = rest {
            match byte {
                b'0'..=b'9' => {
                    let digit = byte - b'0';
                    seen = true;
                    // Sums of ten million of these are made, so the usual length stays in one machine word.
                    if high.is_none() && value < u64::MAX / 10 - 1 {
                        value = value * 10 + u64::from(digit);
                        decimals += i32::from(point);
                    } else {
                        let longer = high
                            .unwrap_or(u128::from(value))
                            .checked_mul(10)
                            .and_then(|v| v.checked_add(u128::from(digit)))
                            .filter(|v| i128::try_from(*v).is_ok());
                        match longer {
                            Some(longer) => {
                                high = Some(longer);
                                decimals += i32::from(point);
                            }
                            None if !point => return Err(UsdError::TooLarge),
                            None if !lossy => return Err(UsdError::TooFine),
                            None => {}
                        }
                    }
                }
                b'.' if !point => point = true,
                b'e' | b'E' if seen => {
                    let exponent: i32 = std::str::from_utf8(tail)
                        .ok()
                        .and_then(|t| t.parse().ok())
                        .ok_or(UsdError::NotANumber)?;
                    decimals = decimals.checked_sub(exponent).ok_or(UsdError::NotANumber)?;
                    break;
                }
                _ => return Err(UsdError::NotANumber),
            }
            rest = tail;
        }
        if !seen {
            return Err(UsdError::NotANumber);
        }
        let value = i128::try_from(high.unwrap_or(u128::from(value))).unwrap_or(i128::MAX);
        let units = scale(value, i64::from(DECIMALS) - i64::from(decimals), lossy)?;
        Ok(Self(if negative { -units } else { units }))
    }

    /// The sum, or `None` beyond the range.
    #[must_use]
    #[inline]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The amount `count` times, or `None` beyond the range: exact, for prices per token.
    #[must_use]
    #[inline]
    pub fn checked_mul(self, count: u64) -> Option<Self> {
        match u64::try_from(self.0) {
            // One machine multiplication; prices a token fit up to 18 dollars a million.
            Ok(units) => i128::try_from(u128::from(units) * u128::from(count)).ok(),
            Err(_) => self.0.checked_mul(i128::from(count)),
        }
        .map(Self)
    }

    /// The amount times `numerator / denominator`, rounded half away from zero to 10^-24 dollars; zero for a
    /// denominator of zero.
    #[must_use]
    pub fn ratio(self, numerator: u64, denominator: u64) -> Self {
        let (n, d) = (i128::from(numerator), i128::from(denominator));
        if d == 0 {
            return Self::ZERO;
        }
        let (whole, rest) = (self.0 / d, self.0 % d);
        let part = rest.saturating_mul(n);
        let rounded = (2 * (part % d) + d * part.signum()) / (2 * d);
        Self(whole.saturating_mul(n).saturating_add(part / d).saturating_add(rounded))
    }

    /// The amount times `part / whole`, rounded half away from zero to 10^-24 dollars; zero for a `whole` of zero.
    #[must_use]
    pub fn share(self, part: Self, whole: Self) -> Self {
        let (amount, n, d) = (self.0.unsigned_abs(), part.0.unsigned_abs(), whole.0.unsigned_abs());
        if d == 0 {
            return Self::ZERO;
        }
        // Multiplies bit by bit and divides as it goes, because the product may need 256 bits. The rest stays below
        // `d`, which is at most 2^127, so that its double fits.
        let (mut quotient, mut rest) = (0_u128, 0_u128);
        for bit in (0..u128::BITS - n.leading_zeros()).rev() {
            let doubled = rest * 2;
            quotient = quotient.saturating_mul(2).saturating_add(doubled / d);
            rest = doubled % d;
            if n >> bit & 1 == 1 {
                let sum = rest + amount % d;
                quotient = quotient.saturating_add(amount / d).saturating_add(sum / d);
                rest = sum % d;
            }
        }
        if rest >= d - rest {
            quotient = quotient.saturating_add(1);
        }
        let magnitude = i128::try_from(quotient).unwrap_or(i128::MAX);
        Self(magnitude * self.0.signum() * part.0.signum() * whole.0.signum())
    }

    /// The amount without its sign.
    #[must_use]
    pub const fn abs(self) -> Self {
        Self(self.0.saturating_abs())
    }

    /// Whether it is exactly nothing.
    #[must_use]
    #[inline]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The nearest double, in dollars: for charts and ratios, never for sums.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn to_f64(self) -> f64 {
        self.0 as f64 / UNIT as f64
    }

    /// Rounded half away from zero to `decimals` places, with exactly that many: for people.
    #[must_use]
    pub fn rounded(self, decimals: u32) -> String {
        let step = 10_i128.pow(DECIMALS - decimals.min(DECIMALS));
        let magnitude = self.0.unsigned_abs();
        let step = step.unsigned_abs();
        let rounded = (magnitude + step / 2) / step * step;
        let sign = if self.0 < 0 && rounded > 0 { "-" } else { "" };
        let unit = UNIT.unsigned_abs();
        let fraction = format!("{:024}", rounded % unit);
        let fraction = fraction.get(..decimals as usize).unwrap_or(&fraction);
        let point = if decimals == 0 { "" } else { "." };
        format!("{sign}{}{point}{fraction}", rounded / unit)
    }
}

impl std::ops::Add for Usd {
    type Output = Self;
    /// Stops at the ends of the range, ±170 trillion dollars.
    #[inline]
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl std::ops::AddAssign for Usd {
    #[inline]
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl std::ops::Sub for Usd {
    type Output = Self;
    #[inline]
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl std::iter::Sum for Usd {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, std::ops::Add::add)
    }
}

fn scale(value: i128, power: i64, lossy: bool) -> Result<i128, UsdError> {
    if value == 0 {
        return Ok(0);
    }
    let factor = usize::try_from(power.unsigned_abs()).ok().and_then(|p| POWERS.get(p));
    match (power >= 0, factor) {
        (true, Some(factor)) => value.checked_mul(*factor).ok_or(UsdError::TooLarge),
        (true, None) => Err(UsdError::TooLarge),
        (false, Some(factor)) if lossy || value % factor == 0 => Ok(value / factor),
        (false, None) if lossy => Ok(0),
        (false, _) => Err(UsdError::TooFine),
    }
}

/// The powers of ten that an amount can be scaled by.
#[expect(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler, which refuses a wrong index"
)]
const POWERS: [i128; 39] = {
    let mut powers = [1_i128; 39];
    let mut at = 1;
    while at < powers.len() {
        powers[at] = powers[at - 1] * 10;
        at += 1;
    }
    powers
};

impl FromStr for Usd {
    type Err = UsdError;
    fn from_str(text: &str) -> Result<Self, UsdError> {
        Self::parse(text.as_bytes())
    }
}

impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNIT.unsigned_abs();
        let magnitude = self.0.unsigned_abs();
        let sign = if self.0 < 0 { "-" } else { "" };
        if magnitude.is_multiple_of(unit) {
            return write!(f, "{sign}{}", magnitude / unit);
        }
        let fraction = format!("{:024}", magnitude % unit);
        write!(f, "{sign}{}.{}", magnitude / unit, fraction.trim_end_matches('0'))
    }
}

impl fmt::Debug for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${self}")
    }
}

impl Serialize for Usd {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Usd {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for Usd {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Usd".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "US dollars as an exact decimal",
            "pattern": "^-?[0-9]+(\\.[0-9]{1,24})?$"
        })
    }
}

/// Tokens and their price, as events, reports and budgets count them.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
pub struct Usage {
    /// Tokens sent, cached ones included.
    pub input_tokens: u64,
    /// Of the tokens sent, those that the provider read from its cache.
    pub cached_tokens: u64,
    /// Tokens received, reasoning included.
    pub output_tokens: u64,
    /// Of the tokens received, those spent on reasoning.
    pub reasoning_tokens: u64,
    /// The price; `None` where any part of it is unpriced, zero only where nothing was used.
    pub cost_usd: Option<Usd>,
}

impl Usage {
    /// No use at all: it cost nothing.
    pub const NONE: Self = Self {
        input_tokens: 0,
        cached_tokens: 0,
        output_tokens: 0,
        reasoning_tokens: 0,
        cost_usd: Some(Usd::ZERO),
    };

    /// The use of an attempt of which nobody said what it used.
    pub const UNKNOWN: Self = Self { cost_usd: None, ..Self::NONE };

    /// Both together; unpriced where either is.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            input_tokens: self.input_tokens.saturating_add(other.input_tokens),
            cached_tokens: self.cached_tokens.saturating_add(other.cached_tokens),
            output_tokens: self.output_tokens.saturating_add(other.output_tokens),
            reasoning_tokens: self.reasoning_tokens.saturating_add(other.reasoning_tokens),
            cost_usd: self.cost_usd.zip(other.cost_usd).and_then(|(a, b)| a.checked_add(b)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn texts_of_doubles_are_kept_to_the_last_digit() {
        for text in
            ["0.0012425000000000001", "9990.01252875", "0", "-1.5", "10182.700052085997717666516"]
        {
            assert_eq!(text.parse::<Usd>().unwrap().to_string(), text);
        }
        assert_eq!("1.105e-05".parse::<Usd>().unwrap().to_string(), "0.00001105");
        assert_eq!("2E3".parse::<Usd>().unwrap().to_string(), "2000");
        assert_eq!(".5".parse::<Usd>().unwrap().to_string(), "0.5");
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in ["", "-", ".", "1,5", "NaN", "inf", "1e", "e5", "1.2.3", "0x10", " 1", "--1"] {
            assert_eq!(text.parse::<Usd>(), Err(UsdError::NotANumber), "{text:?}");
        }
        assert_eq!("1e-25".parse::<Usd>(), Err(UsdError::TooFine));
        assert_eq!("1e15".parse::<Usd>(), Err(UsdError::TooLarge));
        assert_eq!("1e999999999".parse::<Usd>(), Err(UsdError::TooLarge));
        assert_eq!("0e999".parse::<Usd>(), Ok(Usd::ZERO));
    }

    #[test]
    fn more_digits_than_there_are_can_be_cut_off() {
        let lossy = |text: &str| Usd::parse_lossy(text.as_bytes()).map(|usd| usd.to_string());
        assert_eq!(
            lossy("1.23456789012345678901234567890"),
            Ok("1.234567890123456789012345".to_owned())
        );
        assert_eq!(lossy("1.2345678901234567e-10"), Ok("0.000000000123456789012345".to_owned()));
        assert_eq!(lossy("5e-30"), Ok("0".to_owned()));
        assert_eq!(lossy("99999999999999999999999999999999999999999"), Err(UsdError::TooLarge));
        assert_eq!(lossy("0.1x"), Err(UsdError::NotANumber));
    }

    #[test]
    fn amounts_for_people_are_rounded_half_away_from_zero() {
        let amount: Usd = "-2.345".parse().unwrap();
        assert_eq!(amount.rounded(2), "-2.35");
        assert_eq!(amount.rounded(0), "-2");
        assert_eq!("0.004".parse::<Usd>().unwrap().rounded(2), "0.00");
        assert_eq!("999.995".parse::<Usd>().unwrap().rounded(2), "1000.00");
    }

    #[test]
    fn ratios_round_half_away_from_zero() {
        assert_eq!(Usd::from_units(5).ratio(1, 2), Usd::from_units(3));
        assert_eq!(Usd::from_units(-5).ratio(1, 2), Usd::from_units(-3));
        assert_eq!(Usd::from_units(10).ratio(1, 3), Usd::from_units(3));
        assert_eq!(Usd::from_units(11).ratio(1, 3), Usd::from_units(4));
        assert_eq!("4".parse::<Usd>().unwrap().ratio(1, 0), Usd::ZERO);
    }

    #[test]
    fn shares_are_exact_and_round_half_away_from_zero() {
        let usd = |text: &str| text.parse::<Usd>().unwrap();
        assert_eq!(usd("10").share(usd("1"), usd("2")), usd("5"));
        assert_eq!(usd("0.00001").share(usd("0.00000125"), usd("0.0000025")), usd("0.000005"));
        assert_eq!(Usd::from_units(-5).share(usd("1"), usd("2")), Usd::from_units(-3));
        assert_eq!(usd("4").share(usd("1"), Usd::ZERO), Usd::ZERO);
        let large = usd("1000000000").share(usd("0.333333333333333333333333"), usd("1"));
        assert_eq!(large.rounded(0), "333333333");
    }

    #[test]
    fn unpriced_use_stays_unpriced() {
        let unpriced = Usage { input_tokens: 3, cost_usd: None, ..Usage::NONE };
        assert_eq!(Usage::NONE.plus(unpriced).cost_usd, None);
        assert_eq!(Usage::NONE.plus(Usage::NONE).cost_usd, Some(Usd::ZERO));
    }

    proptest! {
        #[test]
        fn text_and_amount_are_the_same(units in -(10_i128.pow(37))..10_i128.pow(37)) {
            let amount = Usd::from_units(units);
            prop_assert_eq!(amount.to_string().parse::<Usd>(), Ok(amount));
        }

        #[test]
        fn any_text_is_parsed_or_refused(text in "\\PC{0,40}") {
            let _ = text.parse::<Usd>();
        }
    }
}
