//! Login with Google or any other provider of OpenID Connect (Core 1.0): the authorization code flow with PKCE (RFC
//! 7636), state and nonce, discovery, and keys that rotate.
//!
//! Between the way out and the way back everything is in a cookie of the browser that went: whoever brings a code
//! without it began no login here. Nothing is kept on this side, so any node may finish what another began.

mod fetch;
mod flow;
mod provider;

pub use flow::{OidcAnswer, OidcBegun, OidcFinished};
pub use provider::OidcProvider;
