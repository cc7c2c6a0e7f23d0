//! The small grammar below an address: hosts, ports and percent signs.

use super::{BadDatabaseUrl, bad};
use std::net::{IpAddr, Ipv6Addr};

pub(super) fn host_and_port(text: &str) -> Result<(String, Option<u16>), BadDatabaseUrl> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let Some((host, port)) = rest.split_once(']') else {
                return bad("an IPv6 address lacks its ]");
            };
            (host, port.strip_prefix(':').or_else(|| (!port.is_empty()).then_some("?")))
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    if text.starts_with('[') && host.parse::<Ipv6Addr>().is_err() {
        return bad("what stands in [] is not an IPv6 address");
    }
    let port = match port {
        None => None,
        Some(port) if port.contains(':') => return bad("an IPv6 address stands in []"),
        Some(port) => match port.parse::<u16>() {
            Ok(0) | Err(_) => return bad("a port is a number from 1 to 65535"),
            Ok(port) => Some(port),
        },
    };
    Ok((host_name(host)?, port))
}

pub(super) fn host_name(host: &str) -> Result<String, BadDatabaseUrl> {
    if host.parse::<IpAddr>().is_ok() {
        return Ok(host.to_owned());
    }
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let host = host.to_ascii_lowercase();
    let numeric =
        host.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    if host.is_empty() {
        return bad("a host is empty");
    }
    if numeric || host.len() > 253 || !host.strip_suffix('.').unwrap_or(&host).split('.').all(label)
    {
        return bad("a host is neither a name nor an address");
    }
    Ok(host)
}

pub(super) fn decode(text: &str) -> Result<String, BadDatabaseUrl> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        match (digit(rest.next()), digit(rest.next())) {
            // Two hexadecimal digits fit a byte.
            (Some(high), Some(low)) => {
                bytes.push(u8::try_from(high * 16 + low).unwrap_or_default())
            }
            _ => return bad("a % is not followed by two hexadecimal digits: write %25"),
        }
    }
    let text =
        String::from_utf8(bytes).or_else(|_| bad("what the % signs stand for is not UTF-8"))?;
    if text.chars().any(char::is_control) {
        return bad("there is a control character in it");
    }
    Ok(text)
}

pub(super) fn encode(text: &str) -> String {
    encode_but(text, |_| false)
}

pub(super) fn encode_path(text: &str) -> String {
    encode_but(text, |byte| matches!(byte, b'/' | b':'))
}

fn encode_but(text: &str, keep: impl Fn(u8) -> bool) -> String {
    let plain = |byte: u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') || keep(byte)
    };
    let one = |byte: u8| {
        if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    text.bytes().map(one).collect()
}
