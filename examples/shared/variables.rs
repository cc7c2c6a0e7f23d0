//! The environment, without what only the project's own tests are told by.

use std::ffi::{OsStr, OsString};

/// Every variable that may be configuration.
pub(crate) fn variables() -> impl Iterator<Item = (OsString, OsString)> {
    std::env::vars_os().filter(|(name, _)| !is_of_the_tests(name))
}

fn is_of_the_tests(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| {
        name.starts_with("APEX_TEST_") || ["APEX_FULL", "APEX_SEED", "APEX_UPDATE"].contains(&name)
    })
}
