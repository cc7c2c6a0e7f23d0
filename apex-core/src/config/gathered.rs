//! What the sources said about each field, and the judgement on all of it.

use super::checks::Checks;
use super::loaded::{Listed, Loaded};
use super::report::{Fault, FaultCode, Report, nearest};
use super::schema::{Field, Node};
use super::source::{Entry, Origin};
use super::{DatabaseUrl, Environment, Section};
use crate::clock::Timestamp;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use zeroize::{Zeroize, Zeroizing};

/// A value that a source has for a field.
pub(super) struct Candidate {
    origin: Origin,
    pub(super) value: Value,
    from_text: bool,
}

impl Candidate {
    pub(super) fn new(origin: Origin, value: Value) -> Self {
        Self { origin, value, from_text: false }
    }

    pub(super) fn text(origin: Origin, mut text: Zeroizing<String>) -> Self {
        Self { origin, value: Value::String(std::mem::take(&mut *text)), from_text: true }
    }
}

/// Everything that the sources said, before it is judged.
pub(super) struct Gathered<'n> {
    pub(super) node: &'n Node,
    pub(super) fields: BTreeMap<String, &'n Field>,
    pub(super) candidates: BTreeMap<String, Vec<Candidate>>,
    pub(super) faults: Vec<Fault>,
    /// Faults outside development, warnings in it.
    pub(super) lax: Vec<Fault>,
    /// Fields that are faulty already.
    faulty: BTreeSet<String>,
    /// A whole source could not be read: what it would have said is unknown, so no rule is judged.
    pub(super) blind: bool,
}

impl<'n> Gathered<'n> {
    pub(super) fn new(node: &'n Node) -> Self {
        Self {
            node,
            fields: node.fields().into_iter().map(|field| (field.key.clone(), field)).collect(),
            candidates: BTreeMap::new(),
            faults: Vec::new(),
            lax: Vec::new(),
            faulty: BTreeSet::new(),
            blind: false,
        }
    }

    pub(super) fn offer(&mut self, key: &str, candidate: Candidate) {
        if self.fields.contains_key(key) {
            self.candidates.entry(key.to_owned()).or_default().push(candidate);
        } else {
            let near = nearest(key, self.fields.keys().map(String::as_str));
            let source = candidate.origin.to_string();
            let fault = unknown(key, &source, "there is no such field", near);
            self.faults.push(fault);
        }
    }

    pub(super) fn refuse(&mut self, key: &str, fault: Fault) {
        self.faults.push(fault);
        self.faulty.insert(key.to_owned());
    }

    /// Takes the members of a table that the schema knows, and reports the others. `at` says where a line's come from.
    pub(super) fn walk(
        &mut self,
        at: &dyn Fn(usize) -> Origin,
        node: &'n Node,
        prefix: &str,
        members: Vec<(String, usize, Entry)>,
    ) {
        let Node::Group(known) = node else { return };
        for (name, line, entry) in members {
            let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            let origin = at(line);
            match (known.get(&name), entry) {
                (Some(node @ Node::Group(_)), Entry::Table(members)) => {
                    self.walk(at, node, &key, members)
                }
                (Some(Node::Group(_)), Entry::Value(_)) => self.faults.push(Fault {
                    source: origin.to_string(),
                    problem: "is a value where a table of fields belongs".to_owned(),
                    advice: format!("write [{key}] and its fields below it"),
                    code: FaultCode::Type,
                    key,
                }),
                (Some(Node::Leaf(field)), entry) => {
                    self.offer(&field.key, Candidate::new(origin, plain(entry)))
                }
                (None, _) => {
                    let near = nearest(&name, known.keys().map(String::as_str));
                    self.faults.push(unknown(
                        &key,
                        &origin.to_string(),
                        "there is no such field",
                        near,
                    ));
                }
            }
        }
    }

    pub(super) fn resolve<T: Section>(&mut self, now: Timestamp) -> Result<Loaded<T>, Report> {
        let (values, listed) = self.choose();
        let secrets = self.secret_texts();
        let environment = self.environment(&values);
        let mut warnings = Vec::new();
        let lax = std::mem::take(&mut self.lax);
        if environment == Environment::Development { &mut warnings } else { &mut self.faults }
            .extend(lax);

        let value = self.deserialize::<T>(values);
        if let Some(value) = &value
            && !self.blind
        {
            let sources =
                listed.iter().map(|entry| (entry.key.clone(), entry.source.to_string())).collect();
            let mut checks = Checks::new(
                environment,
                now,
                &self.faulty,
                &sources,
                &mut self.faults,
                &mut warnings,
            );
            value.check(&mut checks);
        }
        for fault in self.faults.iter_mut().chain(&mut warnings) {
            scrub(fault, &secrets);
        }
        self.faults.sort();
        match value {
            Some(value) if self.faults.is_empty() => {
                Ok(Loaded { value, environment, listed, warnings })
            }
            _ => Err(Report { faults: std::mem::take(&mut self.faults) }),
        }
    }

    /// Takes the last word on each field, if it fits.
    fn choose(&mut self) -> (BTreeMap<String, Value>, Vec<Listed>) {
        let mut values = BTreeMap::new();
        let mut listed = Vec::new();
        for (key, field) in std::mem::take(&mut self.fields) {
            let candidates = self.candidates.get(&key).map(Vec::as_slice).unwrap_or_default();
            let overrides = candidates.iter().rev().skip(1).map(|c| c.origin.clone()).collect();
            let Some(last) = candidates.last() else {
                let shown = Listed::show(field, &field.default);
                listed.push(Listed {
                    key,
                    value: shown,
                    source: Origin::Default,
                    overrides,
                    secret: field.secret,
                });
                continue;
            };
            let source = last.origin.clone();
            if let Some(fault) = contradiction(&key, candidates) {
                self.faults.push(fault);
                self.faulty.insert(key);
                continue;
            }
            if self.faulty.contains(&key) {
                continue;
            }
            match field.shape.fit(last.value.clone(), last.from_text) {
                Ok(value) => {
                    let plaintext = matches!(source, Origin::Variable(_) | Origin::File { .. });
                    if plaintext && holds_secret(field, &value) {
                        self.lax.push(Fault {
                            key: key.clone(),
                            source: source.to_string(),
                            problem: "a secret stands in plain text".to_owned(),
                            advice: "put it into a file and name that by the variable with _FILE at its end, or use \
                                     the secrets folder or a secret source"
                                .to_owned(),
                            code: FaultCode::Insecure,
                        });
                    }
                    let shown = Listed::show(field, &value);
                    values.insert(key.clone(), value);
                    listed.push(Listed {
                        key,
                        value: shown,
                        source,
                        overrides,
                        secret: field.secret,
                    });
                }
                Err(misfit) => {
                    self.faulty.insert(key.clone());
                    self.faults.push(Fault {
                        key,
                        source: source.to_string(),
                        problem: misfit.problem,
                        advice: misfit.advice,
                        code: misfit.code,
                    });
                }
            }
        }
        self.fields =
            self.node.fields().into_iter().map(|field| (field.key.clone(), field)).collect();
        (values, listed)
    }

    /// Where the process runs, as far as that can be known; the strictest where it cannot.
    fn environment(&self, values: &BTreeMap<String, Value>) -> Environment {
        let given = values.get("environment");
        let default = self.fields.get("environment").map(|field| &field.default);
        let known = if self.faulty.contains("environment") { None } else { given.or(default) };
        known.and_then(|value| serde_json::from_value(value.clone()).ok()).unwrap_or_default()
    }

    /// Every secret that a source gave, and the password of each address in plain letters.
    fn secret_texts(&self) -> Vec<Zeroizing<String>> {
        let secret = |key: &String| self.fields.get(key).is_some_and(|field| field.secret);
        let offered = self.candidates.iter().filter(|(key, _)| secret(key));
        let texts = offered.flat_map(|(_, all)| all).filter_map(|one| one.value.as_str());
        let password = |text: &str| {
            let url = text.parse::<DatabaseUrl>().ok()?;
            Some(url.password()?.reveal().clone())
        };
        texts
            .flat_map(|text| [Some(text.to_owned()), password(text)])
            .flatten()
            .map(Zeroizing::new)
            .collect()
    }

    /// Builds the value. What a field's own type refuses becomes a row, its default takes its place and the rest is
    /// judged, until nothing is refused.
    fn deserialize<T: Section>(&mut self, mut values: BTreeMap<String, Value>) -> Option<T> {
        let result = loop {
            let mut tree = tree(self.node, "", &values);
            let result = serde_path_to_error::deserialize::<_, T>(&tree);
            wipe(&mut tree);
            let error = match result {
                Ok(value) => break Some(value),
                Err(error) => error,
            };
            let path = error.path().to_string();
            let key = values.keys().rev().find(|key| {
                path.strip_prefix(key.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
            });
            let field = key.and_then(|key| self.fields.get(key).copied());
            let (Some(key), Some(field)) = (key.cloned(), field) else {
                // Only a type whose defaults do not fit itself ends here.
                self.faults.push(Fault {
                    key: path,
                    source: "default".to_owned(),
                    problem: "the configuration type refuses its own default".to_owned(),
                    advice: "report this as a defect".to_owned(),
                    code: FaultCode::Type,
                });
                break None;
            };
            let mut refused = values.remove(&key);
            let source =
                self.candidates.get(&key).and_then(|c| c.last()).map(|c| c.origin.to_string());
            self.faulty.insert(key.clone());
            self.faults.push(Fault {
                key,
                source: source.unwrap_or_default(),
                problem: without_value(&error.into_inner().to_string(), refused.as_ref()),
                advice: format!("give {}", field.hint()),
                code: FaultCode::Format,
            });
            if let Some(value) = &mut refused {
                wipe(value);
            }
        };
        values.values_mut().for_each(wipe);
        result
    }
}

/// Two sources of one rank that disagree: nobody can tell which one is meant.
fn contradiction(key: &str, candidates: &[Candidate]) -> Option<Fault> {
    let named = candidates.iter().find(|c| matches!(c.origin, Origin::SecretFile { .. }))?;
    let other = candidates.iter().find(|c| match c.origin {
        Origin::Variable(_) => true,
        Origin::SecretsFolder(_) => c.value != named.value,
        _ => false,
    })?;
    Some(Fault {
        key: key.to_owned(),
        source: format!("{} and {}", other.origin, named.origin),
        problem: "two sources give this secret".to_owned(),
        advice: "keep one of them".to_owned(),
        code: FaultCode::Conflict,
    })
}

/// Whether a value is one that must not lie about: a URL is one only when a password is in it.
fn holds_secret(field: &Field, value: &Value) -> bool {
    let text = value.as_str().unwrap_or_default();
    match field.format.as_deref() {
        Some(DatabaseUrl::FORMAT) => {
            text.parse::<DatabaseUrl>().is_ok_and(|url| url.password().is_some())
        }
        _ => field.secret,
    }
}

/// A table where a field of free form stands.
fn plain(entry: Entry) -> Value {
    match entry {
        Entry::Value(value) => value,
        Entry::Table(members) => Value::Object(
            members.into_iter().map(|(name, _, entry)| (name, plain(entry))).collect(),
        ),
    }
}

/// The values in the form of the type. Every section is there, so that each field's own default holds.
fn tree(node: &Node, prefix: &str, values: &BTreeMap<String, Value>) -> Value {
    let Node::Group(members) = node else {
        return values.get(prefix).cloned().unwrap_or_default();
    };
    let mut object = Map::new();
    for (name, node) in members {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        if matches!(node, Node::Group(_)) || values.contains_key(&key) {
            object.insert(name.clone(), tree(node, &key, values));
        }
    }
    Value::Object(object)
}

/// Serde's messages quote the value; this leaves what was expected.
fn without_value(message: &str, value: Option<&Value>) -> String {
    let expected = message.find("expected ").and_then(|at| message.get(at..));
    let quotes = message.starts_with("invalid ") || message.starts_with("unknown ");
    let text = match expected {
        Some(expected) if quotes => expected.to_owned(),
        _ => message.to_owned(),
    };
    match value.and_then(Value::as_str) {
        Some(value) if value.len() > 2 => text.replace(value, "…"),
        _ => text,
    }
}

/// The last guard: no text of a report contains a secret, whoever wrote it.
fn scrub(fault: &mut Fault, secrets: &[Zeroizing<String>]) {
    for secret in secrets.iter().filter(|secret| secret.len() > 3) {
        for text in [&mut fault.key, &mut fault.source, &mut fault.problem, &mut fault.advice] {
            if text.contains(secret.as_str()) {
                *text = text.replace(secret.as_str(), "…");
            }
        }
    }
}

pub(super) fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(items) => items.iter_mut().for_each(wipe),
        Value::Object(members) => members.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

pub(super) fn unknown(key: &str, source: &str, problem: &str, near: Option<&str>) -> Fault {
    // What stands where a name belongs may be anything, also something long or a terminal's control characters.
    let key: String = key.chars().take(128).flat_map(char::escape_debug).collect();
    Fault {
        key,
        source: source.to_owned(),
        problem: problem.to_owned(),
        advice: near.map_or_else(
            || "remove it".to_owned(),
            |near| format!("did you mean `{near}`? Else remove it"),
        ),
        code: FaultCode::UnknownKey,
    }
}
