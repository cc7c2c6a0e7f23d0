//! Makes a request's head of bytes: a line is the query, the others are headers; the first byte of a line chooses the
//! name, so that the credentials are met often.

use http::header::{HeaderMap, HeaderName, HeaderValue};

const NAMES: [&str; 8] = [
    "authorization",
    "sec-websocket-protocol",
    "cookie",
    "origin",
    "upgrade",
    "connection",
    "sec-websocket-key",
    "x-forwarded-for",
];

pub fn head(bytes: &[u8]) -> (Option<String>, HeaderMap) {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let query = lines.next().and_then(|line| std::str::from_utf8(line).ok());
    let query =
        query.filter(|query| !query.is_empty() && query.bytes().all(|b| b.is_ascii_graphic()));
    let mut headers = HeaderMap::new();
    for line in lines.take(24) {
        let Some((choice, value)) = line.split_first() else { continue };
        let name = HeaderName::from_static(NAMES[usize::from(*choice) % NAMES.len()]);
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(name, value);
        }
    }
    (query.map(str::to_owned), headers)
}
