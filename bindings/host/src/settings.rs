use crate::Problem;
use netra_apex::ApexConfig;
use netra_apex::core::config::{Loaded, Loader, SecretSource};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// Where a host's configuration is: its own values, a file over them, an environment over that, and secrets.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The host's own values, in the form of the file: sections with their fields.
    pub values: Map<String, Value>,
    /// A configuration file, which must be there.
    pub file: Option<PathBuf>,
    /// The environment; only names that begin with the prefix are looked at.
    pub environment: BTreeMap<String, String>,
    /// What those names begin with; `APEX` where nothing is said.
    pub prefix: Option<String>,
    /// A folder of files that each hold one secret.
    pub secrets_dir: Option<PathBuf>,
    /// Whether secret files of any mode are taken.
    pub any_secret_mode: bool,
}

impl Settings {
    /// Reads and checks everything; opens and writes nothing. `secrets` is the host's own place for them.
    ///
    /// # Errors
    /// `config_invalid` with every fault there is.
    pub fn load(
        self,
        secrets: Option<Arc<dyn SecretSource>>,
    ) -> Result<Loaded<ApexConfig>, Problem> {
        let mut loader = Loader::new();
        if let Some(prefix) = self.prefix {
            loader = loader.prefix(prefix);
        }
        loader = loader.presets(self.values).environment(self.environment);
        if let Some(file) = self.file {
            loader = loader.toml_file(file);
        }
        if let Some(folder) = self.secrets_dir {
            loader = loader.secrets_dir(folder);
        }
        if self.any_secret_mode {
            loader = loader.any_secret_mode();
        }
        if let Some(secrets) = secrets {
            loader = loader.secret_source(secrets);
        }
        Ok(loader.load()?)
    }
}
