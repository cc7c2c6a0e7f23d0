//! What the environment and a configuration file say to an example.

#[path = "variables.rs"]
mod variables;

use netra_apex::ApexConfig;
use netra_apex::core::config::{DatabaseUrl, Loader, Report};
use std::ffi::OsString;
use std::path::Path;
use variables::variables;

/// Reads `file`, where one is named, and then the environment (`APEX_<SECTION>_<FIELD>`). The examples open the
/// development login, so they always run in development. `database` is an SQLite file that was named elsewhere, and
/// holds; `otherwise` is the one where nobody names any. `said` are variables that hold over all.
pub(crate) fn load(
    file: Option<&Path>,
    database: Option<&Path>,
    otherwise: &Path,
    said: Vec<(OsString, OsString)>,
) -> Result<ApexConfig, Report> {
    let sqlite = |path: &Path| Some(DatabaseUrl::sqlite(path.to_string_lossy()));
    let development = ("APEX_ENVIRONMENT".into(), "development".into());
    let mut loader = Loader::new().environment(variables().chain([development]).chain(said));
    if let Some(file) = file {
        loader = loader.toml_file(file);
    }
    let mut config = loader.load::<ApexConfig>()?.value;
    if let Some(path) = database {
        config.database.url = sqlite(path);
    } else if config.database.url.is_none() {
        config.database.url = sqlite(otherwise);
    }
    Ok(config)
}
