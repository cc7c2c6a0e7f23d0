use super::Section;
use super::gathered::{Candidate, Gathered, unknown, wipe};
use super::loaded::Loaded;
use super::report::{Fault, FaultCode, Report, nearest};
use super::schema::{Field, Node};
use super::source::{self, Bad, Entry, Origin, SecretSource};
use crate::clock::{Clock, SystemClock};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

/// Reads a configuration from the sources that the host hands over, and judges it whole.
///
/// ```
/// # use apex_core::config::{Loader, Section, Environment};
/// #[derive(Debug, Default, serde::Deserialize, schemars::JsonSchema)]
/// #[serde(default)]
/// struct Settings {
///     environment: Environment,
///     /// How many at a time.
///     #[schemars(range(min = 1, max = 64))]
///     workers: u32,
/// }
/// impl Section for Settings {}
///
/// let loader = Loader::new().environment([("APEX_WORKERS", "65"), ("APEX_WROKERS", "4")]);
/// let report = loader.load::<Settings>().unwrap_err();
/// assert_eq!(report.faults.len(), 2);
/// ```
///
/// Sources, the later winning: the fields' defaults, [presets](Self::preset), the [file](Self::toml_file), the
/// [environment](Self::environment), the [secrets folder](Self::secrets_dir), `…_FILE` variables, the
/// [secret source](Self::secret_source). Two loaders share nothing.
#[derive(Clone)]
pub struct Loader {
    prefix: String,
    presets: BTreeMap<String, Value>,
    tables: Vec<Map<String, Value>>,
    file: Option<PathBuf>,
    variables: BTreeMap<String, Option<Zeroizing<String>>>,
    secrets_dir: Option<PathBuf>,
    secret_source: Option<Arc<dyn SecretSource>>,
    any_secret_mode: bool,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Loader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loader")
            .field("prefix", &self.prefix)
            .field("file", &self.file)
            .field("variables", &self.variables.keys())
            .field("secrets_dir", &self.secrets_dir)
            .field("secret_source", &self.secret_source)
            .finish_non_exhaustive()
    }
}

impl Default for Loader {
    fn default() -> Self {
        Self::new()
    }
}

impl Loader {
    /// A loader that knows the defaults only.
    #[must_use]
    pub fn new() -> Self {
        Self {
            prefix: "APEX".to_owned(),
            presets: BTreeMap::new(),
            tables: Vec::new(),
            file: None,
            variables: BTreeMap::new(),
            secrets_dir: None,
            secret_source: None,
            any_secret_mode: false,
            clock: Arc::new(SystemClock),
        }
    }

    /// The first part of the environment variables' names, `APEX` where nothing is said; call it before
    /// [`environment`](Self::environment). A second configuration in the same process takes another one.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// The host's own default for a field, by its dotted key.
    #[must_use]
    pub fn preset(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.presets.insert(key.into(), value.into());
        self
    }

    /// The host's own defaults, in the form of the file: sections with their fields.
    #[must_use]
    pub fn presets(mut self, values: Map<String, Value>) -> Self {
        self.tables.push(values);
        self
    }

    /// The configuration file, which must be there.
    #[must_use]
    pub fn toml_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.file = Some(path.into());
        self
    }

    /// The environment, as from [`std::env::vars_os`]: only names that begin with the prefix are kept.
    #[must_use]
    pub fn environment<K: Into<OsString>, V: Into<OsString>>(
        mut self,
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        for (name, value) in pairs {
            let Ok(name) = name.into().into_string() else {
                continue;
            };
            let ours = name.strip_prefix(&self.prefix).is_some_and(|rest| rest.starts_with('_'));
            if ours {
                self.variables.insert(name, value.into().into_string().ok().map(Zeroizing::new));
            }
        }
        self
    }

    /// A folder of files that each hold one secret, named like the variable in small letters:
    /// `apex_auth_signing_key`.
    #[must_use]
    pub fn secrets_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.secrets_dir = Some(path.into());
        self
    }

    /// The host's own place for secrets.
    #[must_use]
    pub fn secret_source(mut self, source: Arc<dyn SecretSource>) -> Self {
        self.secret_source = Some(source);
        self
    }

    /// Takes secret files of any mode, for platforms that mount them readable to all inside a container.
    #[must_use]
    pub fn any_secret_mode(mut self) -> Self {
        self.any_secret_mode = true;
        self
    }

    /// Judges what ends, such as a certificate, by this clock.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Reads every source, checks every value and every rule. Opens and writes nothing else.
    ///
    /// # Errors
    /// Every fault there is.
    pub fn load<T: Section>(&self) -> Result<Loaded<T>, Report> {
        let schema = schemars::schema_for!(T).to_value();
        let node = Node::of(&schema);
        let mut gathered = Gathered::new(&node);
        self.gather(&mut gathered);
        let result = gathered.resolve::<T>(self.clock.now());
        for candidate in gathered.candidates.values_mut().flatten() {
            wipe(&mut candidate.value);
        }
        result
    }

    fn gather(&self, into: &mut Gathered<'_>) {
        for (key, value) in &self.presets {
            let candidate = Candidate::new(Origin::Preset, value.clone());
            into.offer(key, candidate);
        }
        for table in &self.tables {
            let members = source::members(table.clone());
            into.walk(&|_| Origin::Preset, into.node, "", members);
        }
        if let Some(path) = &self.file {
            match source::read_toml(path) {
                Ok(Entry::Table(members)) => {
                    let origin = |line| Origin::File { path: path.clone(), line };
                    into.walk(&origin, into.node, "", members);
                }
                Ok(Entry::Value(_)) => {}
                Err(faults) => {
                    into.blind = true;
                    into.faults.extend(faults);
                }
            }
        }
        let names: BTreeMap<String, &Field> =
            into.fields.values().map(|field| (field.variable(&self.prefix), *field)).collect();
        self.gather_variables(into, &names);
        if let Some(folder) = &self.secrets_dir {
            self.gather_folder(into, &names, folder);
        }
        self.gather_named_files(into, &names);
        if let Some(source) = &self.secret_source {
            gather_source(into, source.as_ref());
        }
    }

    fn gather_variables(&self, into: &mut Gathered<'_>, names: &BTreeMap<String, &Field>) {
        for (name, value) in &self.variables {
            let Some(field) = names.get(name) else {
                if secret_of_file_variable(name, names).is_none() {
                    into.faults.push(unknown_variable(name, names));
                }
                continue;
            };
            match checked(value.as_ref()) {
                Ok(text) => {
                    let origin = Origin::Variable(name.clone());
                    into.offer(&field.key, Candidate::text(origin, text.clone()));
                }
                Err(bad) => into.refuse(&field.key, bad.fault(&field.key, name)),
            }
        }
    }

    fn gather_named_files(&self, into: &mut Gathered<'_>, names: &BTreeMap<String, &Field>) {
        for (variable, value) in &self.variables {
            let Some(field) = secret_of_file_variable(variable, names) else {
                continue;
            };
            match checked(value.as_ref()) {
                Ok(path) => {
                    let path = PathBuf::from(path.as_str());
                    let origin =
                        Origin::SecretFile { variable: variable.clone(), path: path.clone() };
                    self.offer_file(into, &field.key, origin, &path);
                }
                Err(bad) => into.refuse(&field.key, bad.fault(&field.key, variable)),
            }
        }
    }

    fn gather_folder(
        &self,
        into: &mut Gathered<'_>,
        names: &BTreeMap<String, &Field>,
        folder: &Path,
    ) {
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) => {
                let name = folder.display().to_string();
                into.blind = true;
                into.faults.push(Fault {
                    key: name.clone(),
                    source: name,
                    problem: format!("the secrets folder cannot be read: {error}"),
                    advice: "check the path and its mode, or leave it away".to_owned(),
                    code: FaultCode::Unreadable,
                });
                return;
            }
        };
        let small: BTreeMap<String, &Field> =
            names.iter().map(|(name, field)| (name.to_lowercase(), *field)).collect();
        let prefix = format!("{}_", self.prefix.to_lowercase());
        let found = entries
            .take(source::MAX_SECRETS)
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok());
        for name in found.filter(|name| name.starts_with(&prefix)) {
            let path = folder.join(&name);
            match small.get(&name).filter(|field| field.secret) {
                Some(field) => {
                    self.offer_file(into, &field.key, Origin::SecretsFolder(path.clone()), &path)
                }
                None => {
                    let secrets = small
                        .iter()
                        .filter(|(_, field)| field.secret)
                        .map(|(name, _)| name.as_str());
                    into.faults.push(unknown(
                        &name,
                        &path.display().to_string(),
                        "no secret has this name",
                        nearest(&name, secrets),
                    ));
                }
            }
        }
    }

    fn offer_file(&self, into: &mut Gathered<'_>, key: &str, origin: Origin, path: &Path) {
        match source::read_secret(path, self.any_secret_mode) {
            Ok((text, open)) => {
                if let Some(bad) = open {
                    into.lax.push(bad.fault(key, &origin.to_string()));
                }
                into.offer(key, Candidate::text(origin, text));
            }
            Err(bad) => into.refuse(key, bad.fault(key, &origin.to_string())),
        }
    }
}

fn gather_source(into: &mut Gathered<'_>, source: &dyn SecretSource) {
    let secrets: Vec<String> =
        into.fields.values().filter(|f| f.secret).map(|f| f.key.clone()).collect();
    for key in secrets {
        let origin = Origin::SecretSource(source.name().to_owned());
        match source.secret(&key) {
            Ok(None) => {}
            Ok(Some(secret)) => {
                into.offer(&key, Candidate::text(origin, Zeroizing::new(secret.reveal().clone())))
            }
            Err(error) => {
                let fault = Fault {
                    key: key.clone(),
                    source: origin.to_string(),
                    problem: format!("the secret source failed: {}", error.message()),
                    advice: "check that it can be reached and that this process may read from it"
                        .to_owned(),
                    code: FaultCode::Unreadable,
                };
                into.refuse(&key, fault);
            }
        }
    }
}

/// The text of a variable, or why it is not taken.
fn checked(value: Option<&Zeroizing<String>>) -> Result<&Zeroizing<String>, Bad> {
    let bad = |code, problem: &str, advice: &str| Bad {
        code,
        problem: problem.to_owned(),
        advice: advice.to_owned(),
    };
    let text = value.ok_or_else(|| {
        bad(FaultCode::Format, "the variable is not UTF-8", "set it to UTF-8 text")
    })?;
    if text.is_empty() {
        return Err(bad(
            FaultCode::Missing,
            "the variable is set to nothing",
            "unset it, or give it a value",
        ));
    }
    if text.len() as u64 > source::MAX_SECRET_BYTES {
        return Err(bad(
            FaultCode::Range,
            "the variable is longer than 64 KiB",
            "check what it was set from",
        ));
    }
    Ok(text)
}

/// The secret field that a `…_FILE` variable means.
fn secret_of_file_variable<'f>(
    name: &str,
    names: &BTreeMap<String, &'f Field>,
) -> Option<&'f Field> {
    if names.contains_key(name) {
        return None;
    }
    names.get(name.strip_suffix("_FILE")?).copied().filter(|field| field.secret)
}

fn unknown_variable(name: &str, names: &BTreeMap<String, &Field>) -> Fault {
    let plain = name.strip_suffix("_FILE").filter(|base| names.contains_key(*base));
    match plain {
        Some(base) => unknown(name, "environment", "only secrets are read from files", Some(base)),
        None => {
            let near = nearest(name, names.keys().map(String::as_str));
            unknown(name, "environment", "no field has this variable", near)
        }
    }
}
