use super::policy::Refusal;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;

/// The longest token that is looked at, in bytes.
pub const MAX_TOKEN: usize = 8 * 1024;

/// The longest name of a key.
const MAX_KEY_ID: usize = 128;

/// A token taken apart; nothing in it is believed yet.
#[derive(Debug)]
pub(super) struct Compact<'a> {
    pub(super) header: Header,
    /// What is signed: header and claims as they came.
    pub(super) signed: &'a [u8],
    pub(super) claims: Vec<u8>,
    pub(super) signature: Vec<u8>,
}

/// A token's header. What is not named here is ignored; what would lead to a key is named, to be refused.
#[derive(Debug, Deserialize)]
pub(super) struct Header {
    pub(super) alg: String,
    pub(super) typ: Option<String>,
    pub(super) kid: Option<String>,
    crit: Option<Value>,
    b64: Option<Value>,
    jku: Option<Value>,
    jwk: Option<Value>,
    x5u: Option<Value>,
    x5c: Option<Value>,
    zip: Option<Value>,
    enc: Option<Value>,
}

impl<'a> Compact<'a> {
    /// Takes a token apart.
    pub(super) fn read(token: &'a str) -> Result<Self, Refusal> {
        if token.len() > MAX_TOKEN {
            return Err(Refusal::TooLong);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(Refusal::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(Refusal::Malformed)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| Refusal::Malformed);
        // A fourth part is a dot in the claims, which base64url does not have.
        let (header, claims, signature) = (decode(header)?, decode(claims)?, decode(signature)?);
        let header: Header = serde_json::from_slice(&header).map_err(|_| Refusal::Malformed)?;
        header.check()?;
        Ok(Self { header, signed: signed.as_bytes(), claims, signature })
    }
}

/// Who a token says to have made it. Nothing of it is believed: it only leads to whose keys are asked.
pub(in crate::auth) fn issuer_of(token: &str) -> Result<String, Refusal> {
    #[derive(Deserialize)]
    struct Issuer {
        iss: String,
    }
    let token = Compact::read(token)?;
    let issuer: Issuer =
        serde_json::from_slice(&token.claims).map_err(|_| Refusal::MissingClaim)?;
    Ok(issuer.iss)
}

/// The name of the key by which a token says to be signed.
pub(in crate::auth) fn key_id_of(token: &str) -> Result<Option<String>, Refusal> {
    Ok(Compact::read(token)?.header.kid)
}

impl Header {
    fn check(&self) -> Result<(), Refusal> {
        let special = [
            &self.crit, &self.b64, &self.jku, &self.jwk, &self.x5u, &self.x5c, &self.zip, &self.enc,
        ];
        if special.into_iter().any(Option::is_some) {
            return Err(Refusal::SpecialHeader);
        }
        let plain = |id: &str| {
            (1..=MAX_KEY_ID).contains(&id.len())
                && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.~+=:@".contains(&b))
        };
        if self.kid.as_deref().is_some_and(|id| !plain(id)) {
            return Err(Refusal::UnknownKey);
        }
        Ok(())
    }
}
