//! The user's own files.

use super::Call;
use super::body::RequestBody;
use super::reply::{self, ResponseBody};
use apex_core::error::{Error, Kind, Result};
use apex_core::file::FileInfo;
use apex_core::id::FileId;
use apex_core::principal::Scope;
use http::{HeaderMap, Response, StatusCode};
use serde::Serialize;

const OPERATION: &str = "service.files";

/// Carries a file's name, percent-encoded UTF-8.
const NAME_HEADER: &str = "x-file-name";

/// The longest name, in bytes.
const MAX_NAME: usize = 255;

#[derive(Serialize)]
struct FilesBody {
    items: Vec<FileInfo>,
}

/// `POST /files`: keeps the body, as it streams in.
pub(super) async fn put(call: &Call, body: RequestBody) -> Result<Response<ResponseBody>> {
    let principal = call.principal(Scope::Run).await?;
    let name = file_name(&call.head.headers)?;
    let gateway = &call.gateway;
    let body = body.stream(
        &call.head.headers,
        gateway.config.files.file_bytes,
        gateway.config.http.body_idle,
    )?;
    let file = FileId::new(&*gateway.clock);
    let info = gateway.stores.files.put(&principal, file, &name, body).await?;
    Ok(reply::json(StatusCode::CREATED, &info))
}

/// `GET /files`.
pub(super) async fn list(call: &Call) -> Result<Response<ResponseBody>> {
    let principal = call.principal(Scope::Read).await?;
    let items = call.gateway.stores.files.list(&principal).await?;
    Ok(reply::json(StatusCode::OK, &FilesBody { items }))
}

/// `DELETE /files/{file}`.
pub(super) async fn delete(call: &Call, id: &str) -> Result<Response<ResponseBody>> {
    let principal = call.principal(Scope::Run).await?;
    let file = id.parse().map_err(|_| Error::not_found(OPERATION, "file"))?;
    call.gateway.stores.files.delete(&principal, file).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

fn file_name(headers: &HeaderMap) -> Result<String> {
    let wrong = || {
        Error::new(
            Kind::BadRequest,
            OPERATION,
            "`X-File-Name` must be the file's name: percent-encoded UTF-8, 1 to 255 bytes, no control characters",
        )
    };
    let mut values = headers.get_all(NAME_HEADER).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(wrong());
    };
    let name = value.to_str().ok().and_then(percent_decoded).ok_or_else(wrong)?;
    let name = name.trim();
    if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(wrong());
    }
    Ok(name.to_owned())
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let (high, low) = (hex(rest.next()?)?, hex(rest.next()?)?);
                high << 4 | low
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(value: &str) -> Result<String> {
        let mut headers = HeaderMap::new();
        headers.insert(NAME_HEADER, value.parse().unwrap());
        file_name(&headers)
    }

    #[test]
    fn names_are_percent_encoded_text() {
        assert_eq!(named("usage.csv").unwrap(), "usage.csv");
        assert_eq!(named("f%C3%BCr%20uns.csv").unwrap(), "für uns.csv");
        // A name is text for people, never a path: it is kept as it is and opens nothing.
        assert_eq!(named("..%2F..%2Fetc").unwrap(), "../../etc");
        let long = "a".repeat(256);
        for bad in ["", "%20", "%", "%G1", "%C3", "a%00b", "a%0Ab", &long] {
            assert_eq!(named(bad).unwrap_err().kind(), Kind::BadRequest, "{bad}");
        }
        assert!(file_name(&HeaderMap::new()).is_err());
    }
}
