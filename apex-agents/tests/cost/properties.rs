//! What holds for any bytes, however they are cut, and for any change of a report.

use super::{CATALOGUE, go_on, report, verified, verify};
use apex_agents::cost::{Analysis, AnalysisOptions, Report, inspect, sample};
use apex_core::error::Kind;
use proptest::prelude::*;
use serde_json::Value;
use std::io::Read;
use std::sync::{Arc, LazyLock};

static SAMPLE: LazyLock<Report> = LazyLock::new(|| verified(sample::NAME, &sample::csv()));

/// A reader that gives few bytes at a time.
struct Slices<'a> {
    bytes: &'a [u8],
    sizes: std::iter::Cycle<std::slice::Iter<'a, usize>>,
}

impl Read for Slices<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let size = self.sizes.next().copied().unwrap_or(1).min(buffer.len()).min(self.bytes.len());
        let (now, later) = self.bytes.split_at(size);
        buffer[..size].copy_from_slice(now);
        self.bytes = later;
        Ok(size)
    }
}

/// Bytes that look enough like usage files to get far.
fn almost_usage() -> impl Strategy<Value = Vec<u8>> {
    const PIECES: &[&[u8]] = &[
        b"model,input_tokens,output_tokens,cost_usd,timestamp,id,user\n",
        b"gpt-4o,10,5,0.25,2026-10-01,a,b\n",
        b"{\"model\":\"gpt-4o\",\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":1}}\n",
        b"\"",
        b"\"\"",
        b",",
        b"\r\n",
        b"\n",
        b"{",
        b"}",
        b"\0",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"-1",
        b"1e99",
        b"99999999999999999999",
        b"\x1f\x8b\x08",
        b"[1,2]",
        b"\\u0000",
        b";",
        b"\t",
    ];
    let piece = prop::sample::select(PIECES);
    let noise = proptest::collection::vec(any::<u8>(), 0..12);
    let mixed = prop_oneof![4 => piece.prop_map(<[u8]>::to_vec), 1 => noise];
    proptest::collection::vec(mixed, 0..60).prop_map(|pieces| pieces.concat())
}

/// All places of a report at which a figure stands.
fn figures(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                figures(member, &format!("{path}/{name}"), found);
            }
        }
        Value::Array(entries) => {
            for (number, entry) in entries.iter().enumerate() {
                figures(entry, &format!("{path}/{number}"), found);
            }
        }
        Value::Number(_) => found.push(path.to_owned()),
        Value::String(text) if text.bytes().any(|b| b.is_ascii_digit()) => {
            found.push(path.to_owned())
        }
        _ => {}
    }
}

/// The report with the figure at `path` changed.
fn changed(report: &Report, path: &str, by: u64) -> Report {
    let mut value = serde_json::to_value(report).unwrap();
    let place = value.pointer_mut(path).unwrap();
    *place = match &*place {
        Value::Number(n) => Value::from(n.as_u64().unwrap().wrapping_add(by) % (1 << 60)),
        Value::String(text) => {
            // Another digit in the place of one.
            let digits: Vec<usize> = text
                .bytes()
                .enumerate()
                .filter(|(_, b)| b.is_ascii_digit())
                .map(|(at, _)| at)
                .collect();
            let at = digits[by as usize % digits.len()];
            let mut bytes = text.clone().into_bytes();
            bytes[at] = b'0' + (bytes[at] - b'0' + 1) % 10;
            Value::String(String::from_utf8(bytes).unwrap())
        }
        other => other.clone(),
    };
    serde_json::from_value(value).unwrap_or_else(|_| report.clone())
}

#[test]
fn a_change_of_any_figure_is_caught() {
    let report = &*SAMPLE;
    let mut paths = Vec::new();
    figures(&serde_json::to_value(report).unwrap(), "", &mut paths);
    assert!(paths.len() > 200, "{}", paths.len());
    let csv = sample::csv();
    let mut caught = 0;
    for path in paths {
        let forged = changed(report, &path, 1);
        if forged == *report {
            // The change made no report at all, such as a month 20.
            continue;
        }
        let error = verify(&forged, sample::NAME, csv.as_slice()).expect_err(&path);
        assert_eq!(error.kind(), Kind::BadFigures, "{path}");
        caught += 1;
    }
    assert!(caught > 200, "{caught}");
}

#[test]
fn a_verification_names_what_differs() {
    let mut forged = SAMPLE.clone();
    forged.totals.input_tokens += 1;
    let error = verify(&forged, sample::NAME, sample::csv().as_slice()).unwrap_err().to_string();
    assert!(error.contains("totals.input_tokens: the report says"), "{error}");
    assert!(error.contains("by_model: its rows do not add up to the totals"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_change_of_several_figures_is_caught(picks in proptest::collection::vec((any::<prop::sample::Index>(), 1_u64..9), 1..4)) {
        let mut paths = Vec::new();
        figures(&serde_json::to_value(&*SAMPLE).unwrap(), "", &mut paths);
        let mut forged = SAMPLE.clone();
        for (pick, by) in picks {
            forged = changed(&forged, &paths[pick.index(paths.len())], by);
        }
        prop_assume!(forged != *SAMPLE);
        prop_assert!(verify(&forged, sample::NAME, sample::csv().as_slice()).is_err());
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in almost_usage()) {
        let report = verified("any", &bytes);
        let source = &report.sources[0];
        prop_assert_eq!(source.rows, source.imported + source.rejected_rows);
        prop_assert_eq!(source.rejected_rows, source.rejected.len() as u64);
        prop_assert_eq!(report.totals.requests, source.imported);
        let inspection = inspect("any", bytes.as_slice()).unwrap();
        prop_assert_eq!(inspection.refused.is_some(), source.refused.is_some());
        prop_assert!(report.to_html().ends_with("</html>\n"));
    }

    #[test]
    fn how_a_reader_slices_its_bytes_changes_nothing(
        bytes in almost_usage(),
        sizes in proptest::collection::vec(1_usize..40, 1..8),
    ) {
        let whole = report(&[("any", &bytes)]);
        let mut analysis = Analysis::new(Arc::clone(&CATALOGUE), AnalysisOptions::default());
        analysis.add("any", Slices { bytes: &bytes, sizes: sizes.iter().cycle() }, &mut go_on).unwrap();
        prop_assert_eq!(analysis.finish(), whole);
    }

    #[test]
    fn the_sample_is_the_same_in_any_slices(sizes in proptest::collection::vec(1_usize..5_000, 1..8)) {
        let csv = sample::csv();
        let mut analysis = Analysis::new(Arc::clone(&CATALOGUE), AnalysisOptions::default());
        analysis.add(sample::NAME, Slices { bytes: &csv, sizes: sizes.iter().cycle() }, &mut go_on).unwrap();
        prop_assert_eq!(&analysis.finish(), &*SAMPLE);
    }
}
