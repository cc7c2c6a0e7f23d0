use crate::clock::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// How something is doing; the worst of several is the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Well.
    Pass,
    /// Working, and someone should look.
    Warn,
    /// Not working.
    Fail,
}

impl Status {
    /// The HTTP status that carries it.
    #[must_use]
    pub const fn http(self) -> u16 {
        match self {
            Self::Pass | Self::Warn => 200,
            Self::Fail => 503,
        }
    }

    /// The status as a gauge: 0, 1, 2.
    pub(super) const fn level(self) -> f64 {
        match self {
            Self::Pass => 0.0,
            Self::Warn => 1.0,
            Self::Fail => 2.0,
        }
    }
}

/// One line of a health document (draft-inadarei-api-health-check-06, section 4).
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// What is looked at and what of it: `postgres:responseTime`.
    pub name: String,
    /// `datastore`, `component` or `system`.
    pub component: &'static str,
    /// How it is doing.
    pub status: Status,
    /// What was measured.
    pub value: Value,
    /// In which unit.
    pub unit: &'static str,
    /// What is wrong, for operators.
    pub output: Option<String>,
    /// What else is known, as members of its own: a limit, a forecast.
    pub more: Map<String, Value>,
}

/// What the health routes answer, `application/health+json`.
#[derive(Debug, Clone, PartialEq)]
pub struct HealthDocument {
    /// The whole.
    pub status: Status,
    /// When it was looked at.
    pub time: Timestamp,
    /// The details, for operators only.
    pub lines: Vec<Line>,
}

/// The members of what serialises to an object.
pub(super) fn members(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

impl HealthDocument {
    /// Its media type.
    pub const MEDIA_TYPE: &'static str = "application/health+json";

    /// Without the details, for everybody.
    #[must_use]
    pub fn public(&self) -> Self {
        Self { lines: Vec::new(), ..self.clone() }
    }
}

impl Serialize for HealthDocument {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut checks = BTreeMap::<&str, Vec<Value>>::new();
        for line in &self.lines {
            let mut check = json!({
                "componentType": line.component,
                "status": line.status,
                "observedValue": line.value,
                "observedUnit": line.unit,
                "time": self.time,
            });
            if let Some(check) = check.as_object_mut() {
                let output = line.output.as_deref();
                check.extend(output.map(|output| ("output".to_owned(), output.into())));
                check.extend(line.more.clone());
            }
            checks.entry(&line.name).or_default().push(check);
        }
        let mut document = json!({ "status": self.status, "version": "1" });
        if let (false, Some(document)) = (checks.is_empty(), document.as_object_mut()) {
            document.insert("checks".to_owned(), json!(checks));
        }
        document.serialize(serializer)
    }
}
