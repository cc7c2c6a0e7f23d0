//! Files with faults: each row is imported or refused with its line and reason, and nothing is lost in silence.

use super::verified;
use apex_agents::cost::report::Source;
use std::io::Write;

const HEADER: &str = "timestamp,request_id,model,input_tokens,output_tokens,cost_usd\n";

fn read(bytes: impl AsRef<[u8]>) -> Source {
    let source = verified("bad", bytes.as_ref()).sources.remove(0);
    assert_eq!(source.rows, source.imported + source.rejected_rows);
    source
}

fn row(number: u64) -> String {
    format!("2026-10-01T10:00:00Z,r{number},gpt-4o,10,5,0.0001\n")
}

/// The lines and reasons of a table's rejected rows.
fn rejected(rows: &str) -> Vec<(u64, String)> {
    read(format!("{HEADER}{rows}")).rejected.into_iter().map(|r| (r.line, r.reason)).collect()
}

fn refused(bytes: impl AsRef<[u8]>) -> String {
    let source = read(bytes);
    assert_eq!((source.imported, source.rows), (0, 0));
    source.refused.unwrap().reason
}

#[test]
fn byte_order_mark_and_crlf_change_nothing() {
    let text = format!("\u{feff}{HEADER}{}{}", row(1), row(2)).replace('\n', "\r\n");
    let source = read(text);
    assert_eq!((source.imported, source.format.as_str()), (2, "csv"));
    assert!(source.columns.contains(&"timestamp=timestamp".to_owned()));
}

#[test]
fn quoted_newlines_are_part_of_their_cell_and_lines_are_still_right() {
    let csv = "note,model,input_tokens,output_tokens\n\"two\nlines, \"\"quoted\"\"\",gpt-4o,10,5\n\"x\",gpt-4o,-1,5\n";
    let source = read(csv);
    assert_eq!((source.imported, source.rejected[0].line), (1, 4));
}

#[test]
fn a_row_that_sums_up_requests_is_no_request() {
    let csv =
        "model,input_tokens,output_tokens,num_model_requests\ngpt-4o,10,5,1\ngpt-4o,900,50,12\n";
    let source = read(csv);
    assert_eq!((source.imported, source.rejected[0].line), (1, 3));
    assert!(source.rejected[0].reason.contains("sums up 12 requests"), "{:?}", source.rejected);
}

#[test]
fn nonsense_in_a_row_is_refused_with_its_line() {
    let base = row(1);
    let cases = [
        ("2026-10-01,a,gpt-4o,-10,5,0\n", "input_tokens \"-10\" is negative"),
        ("2026-10-01,a,gpt-4o,ten,5,0\n", "input_tokens \"ten\" is not a number"),
        ("2026-10-01,a,gpt-4o,10,5,dear\n", "cost_usd \"dear\" is not an amount"),
        ("1970-01-01T00:00:00Z,a,gpt-4o,10,5,0\n", "implausible time 1970-01-01"),
        ("0,a,gpt-4o,10,5,0\n", "implausible time 1970-01-01"),
        ("soon,a,gpt-4o,10,5,0\n", "is not a time"),
        ("2026-10-01,a,gpt-4o,10\n", "has 4 columns where the header has 6"),
        ("2026-10-01,a,gpt-4o,10,5,0,7\n", "has 7 columns where the header has 6"),
        ("2026-10-01,a,gpt-4o,,,0\n", "has no token counts"),
        ("2026-10-01,a,gpt\0-4o,10,5,0\n", "control character"),
    ];
    for (bad, expected) in cases {
        let found = rejected(&format!("{base}{bad}{}", row(3)));
        assert_eq!((found.len(), found[0].0), (1, 3), "{bad}: {found:?}");
        assert!(found[0].1.contains(expected), "{bad}: {found:?}");
    }
}

#[test]
fn invalid_utf8_is_refused_where_it_matters() {
    let mut bytes = format!("{HEADER}{}", row(1)).into_bytes();
    bytes.extend(b"2026-10-01,a,gpt-\xff,10,5,0\n");
    let source = read(bytes);
    assert_eq!((source.imported, source.rejected[0].line), (1, 3));
    assert!(source.rejected[0].reason.contains("is not UTF-8"));
    let json =
        b"{\"model\":\"gpt-4o\",\"input_tokens\":1,\"output_tokens\":1}\n{\"model\":\"\xff\"}\n";
    assert!(read(json).rejected[0].reason.contains("is not UTF-8"));
}

#[test]
fn the_same_row_twice_is_a_copy_with_an_id_and_a_finding_without() {
    let found = rejected(&format!("{}{}{}", row(1), row(2), row(1)));
    assert_eq!(found, [(4, "is a copy of line 2".to_owned())]);
    let anonymous = "model,input_tokens,output_tokens\ngpt-4o,10,5\ngpt-4o,10,5\n";
    let report = verified("twins", anonymous.as_bytes());
    assert_eq!(report.totals.requests, 2);
    assert!(report.findings.iter().any(|f| f.kind == "identical_rows" && f.requests == 1));
}

#[test]
fn an_id_that_is_used_again_for_another_request_is_no_copy() {
    let source = read(format!(
        "{HEADER}2026-10-01,project-7,gpt-4o,10,5,0\n2026-10-01,project-7,gpt-4o,11,5,0\n"
    ));
    assert_eq!(source.imported, 2);
}

#[test]
fn two_hundred_columns() {
    let mut header: Vec<String> = (0..197).map(|n| format!("extra_{n}")).collect();
    header.extend(["model", "prompt_tokens", "completion_tokens"].map(str::to_owned));
    let mut cells = vec!["x".to_owned(); 197];
    cells.extend(["gpt-4o", "10", "5"].map(str::to_owned));
    let source = read(format!("{}\n{}\n", header.join(","), cells.join(",")));
    assert_eq!((source.imported, source.rejected_rows), (1, 0));
}

#[test]
fn a_missing_column_is_told() {
    let report = verified("x", b"prompt_tokens,completion_tokens\n10,5\n");
    assert_eq!((report.totals.requests, report.totals.unpriced_requests), (1, 1));
    assert_eq!(report.totals.priced_cost_usd, None, "unpriced is not zero");
    let missing = report.findings.iter().find(|f| f.kind == "missing_columns").unwrap();
    assert!(missing.evidence.contains("has no model: nothing can be priced"));
}

#[test]
fn what_is_no_usage_file_is_refused_with_what_to_do() {
    for (bytes, expected) in [
        (&b""[..], "the file is empty"),
        (b"\n \r\n", "the file is empty"),
        (b"\xef\xbb\xbf", "the file is empty"),
        (b"PK\x03\x04rest", "Excel workbook; save the table as CSV"),
        (b"PAR1rest", "Parquet"),
        (b"\xff\xfem\x00o\x00", "UTF-16"),
        (b"\x00\x01\x02\x03\x04", "is not text"),
        (b"\x7fELF\x02\x01\x01\x00", "is not text"),
        (b"[{\"model\":\"a\"}]", "a JSON array"),
        (b"{\n\"model\": \"a\"\n}\n", "over several lines"),
        (b"{\"colour\":\"red\"}\n", "no member holds token counts"),
        (b"colour,size\nred,4\n", "the columns are colour, size"),
        (b"just a sentence\n", "no column holds token counts"),
    ] {
        let reason = refused(bytes);
        assert!(reason.contains(expected), "{reason}");
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

#[test]
fn gzip_that_is_nested_damaged_or_a_bomb() {
    let table = format!("{HEADER}{}", (0..5_000).map(row).collect::<String>());
    assert!(refused(gzip(&gzip(table.as_bytes()))).contains("gzip inside gzip"));
    let whole = gzip(table.as_bytes());
    let cut = read(&whole[..whole.len() / 2]);
    assert!(cut.imported > 0 && cut.imported < 5_000 && cut.rejected_rows == 0);
    let refusal = cut.refused.unwrap();
    assert!(refusal.reason.contains("damaged or ends early"), "{refusal:?}");
    assert_eq!(refusal.line, cut.rows + 2, "the line after the last whole row");
    let mut bomb = HEADER.as_bytes().to_vec();
    bomb.resize(100 << 20, b'x');
    let bomb = read(gzip(&bomb));
    assert!(bomb.refused.unwrap().reason.contains("expands more than 500-fold"));
}

#[test]
fn a_line_that_is_cut_off_or_has_no_end() {
    let found = rejected(&format!("{}2026-10-01,a,gpt", row(1)));
    assert_eq!(found, [(3, "has 3 columns where the header has 6".to_owned())]);
    let json = "{\"model\":\"gpt-4o\",\"input_tokens\":1,\"output_tokens\":1}\n{\"model\":\"gpt";
    let source = read(json);
    assert_eq!((source.imported, source.rejected[0].line), (1, 2));
    let endless = format!("{HEADER}{}{}\n{}", row(1), "x".repeat(3 << 20), row(2));
    let source = read(endless);
    assert_eq!((source.imported, source.rejected[0].line), (2, 3));
    assert!(source.rejected[0].reason.contains("longer than 1048576 bytes"));
}

#[test]
fn a_quote_that_never_ends_costs_one_row() {
    let rest: String = (2..200).map(row).collect();
    let source = read(format!("{HEADER}{}2026-10-01,\"a,gpt-4o,10,5,0\n{rest}", row(1)));
    assert_eq!((source.imported, source.rejected_rows, source.rejected[0].line), (199, 1, 3));
    assert!(source.rejected[0].reason.contains("quote that never ends"));
}

#[test]
fn deep_and_odd_json_is_refused_row_by_row() {
    let good = "{\"model\":\"gpt-4o\",\"input_tokens\":1,\"output_tokens\":1}\n";
    let deep = format!("{}1{}", "{\"usage\":".repeat(500), "}".repeat(500));
    let odd =
        format!("{good}{deep}\n[1]\n7\n\"x\"\nnull\n{{}}\n{{\"input_tokens\":{{}}}}\n\n{good}");
    let source = read(odd);
    assert_eq!((source.imported, source.rejected_rows, source.rows), (2, 7, 9));
    assert_eq!(source.rejected[0].line, 2);
}

#[test]
fn only_the_first_thousand_reasons_are_kept_and_all_are_counted() {
    let bad = "2026-10-01,a,gpt-4o,x,5,0\n".repeat(2_500);
    let source = read(format!("{HEADER}{bad}"));
    assert_eq!((source.rejected_rows, source.rejected.len()), (2_500, 1_000));
}
