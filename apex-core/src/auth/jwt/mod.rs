//! Signed tokens (RFC 7519, by the rules of RFC 8725): made and verified over *ring*, with keys that know their one
//! algorithm.
//!
//! What decides is on our side of the wire. A token's header may name a key that is known here already, and that is
//! all it may do: its `alg` has to be the key's, and whatever else would lead to a key or ask for special treatment
//! (`jku`, `jwk`, `x5u`, `x5c`, `crit`, `b64`) refuses the token.

mod claims;
mod compact;
mod jwk;
mod key;
mod key_ring;
mod policy;
mod remote;

pub use claims::{Audience, Claims, SessionClaim, TokenUse};
pub use compact::MAX_TOKEN;
pub(super) use compact::{issuer_of, key_id_of};
pub use jwk::{Jwks, jwks_of, read_jwks};
pub use key::{Algorithm, SigningKey, VerifyingKey};
pub use key_ring::KeyRing;
pub use policy::{LEEWAY, Refusal, TokenPolicy};
pub use remote::{KeySource, RemoteKeys, RemoteOptions};
