//! The recorded traffic, which is not part of the project.

use apex_agents::model::Format;
use serde_json::{Map, Value};
use std::path::PathBuf;
use yaml_rust2::{Yaml, YamlLoader};

/// A request and what came back.
pub(crate) struct Exchange {
    pub(crate) file: String,
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) asked: Value,
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    pub(crate) streamed: bool,
}

impl Exchange {
    /// The format that it is in, or why it is none of ours.
    pub(crate) fn format(&self) -> Result<Format, &'static str> {
        let path = self.url.split('?').next().unwrap();
        if self.method != "POST" {
            return Err("reads or deletes something that is kept at the provider, asks no model");
        }
        match path {
            _ if path.ends_with("/chat/completions") => Ok(Format::OpenAiChat),
            _ if path.ends_with("/responses") => Ok(Format::OpenAiResponses),
            _ if path.ends_with("/v1/messages") => Ok(Format::Anthropic),
            _ if path.ends_with("enerateContent") => Ok(Format::Gemini),
            _ if path.ends_with("ountTokens") || path.ends_with("count_tokens") => {
                Err("counts tokens, asks no model")
            }
            _ if path.ends_with("mbedContents") => Err("embeds, which the room does not do"),
            _ => Err("keeps something at the provider, asks no model"),
        }
    }

    pub(crate) fn name(&self) -> String {
        format!("{}: {} {}", self.file, self.method, self.url)
    }
}

/// Every recorded exchange; none where the recordings are not there, which is said.
pub(crate) fn exchanges() -> Vec<Exchange> {
    let data = std::env::var_os("APEX_TEST_DATA").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"),
        PathBuf::from,
    );
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let folder =
        [data, beside].map(|folder| folder.join("wire")).into_iter().find(|folder| folder.exists());
    let Some(folder) = folder else {
        println!("skipped: the recorded traffic is not there (set APEX_TEST_DATA)");
        return Vec::new();
    };
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "yaml"))
        .collect();
    files.sort();
    files.iter().flat_map(read).collect()
}

fn read(path: &PathBuf) -> Vec<Exchange> {
    let file = path.file_stem().unwrap().to_string_lossy().into_owned();
    let text = std::fs::read_to_string(path).unwrap();
    let documents = YamlLoader::load_from_str(&text).unwrap_or_else(|e| panic!("{file}: {e}"));
    let interactions = documents[0]["interactions"].as_vec().unwrap();
    interactions
        .iter()
        .map(|interaction| {
            let (request, response) = (&interaction["request"], &interaction["response"]);
            let parsed = &response["parsed_body"];
            let body = if parsed.is_badvalue() {
                let text = response["body"]["string"].as_str().unwrap_or_default();
                text.as_bytes().to_vec()
            } else {
                json(parsed).to_string().into_bytes()
            };
            let kind = response["headers"]["content-type"][0].as_str().unwrap_or_default();
            Exchange {
                file: file.clone(),
                method: request["method"].as_str().unwrap().to_owned(),
                url: request["uri"].as_str().unwrap().to_owned(),
                asked: json(&request["parsed_body"]),
                status: u16::try_from(response["status"]["code"].as_i64().unwrap()).unwrap(),
                body,
                streamed: kind.starts_with("text/event-stream"),
            }
        })
        .collect()
}

fn json(yaml: &Yaml) -> Value {
    match yaml {
        Yaml::Hash(entries) => entries
            .iter()
            .map(|(key, value)| {
                let key = key.as_str().map_or_else(|| json(key).to_string(), str::to_owned);
                (key, json(value))
            })
            .collect::<Map<_, _>>()
            .into(),
        Yaml::Array(items) => items.iter().map(json).collect(),
        Yaml::String(text) => text.as_str().into(),
        Yaml::Integer(number) => (*number).into(),
        Yaml::Real(_) => yaml.as_f64().into(),
        Yaml::Boolean(truth) => (*truth).into(),
        Yaml::Null | Yaml::Alias(_) | Yaml::BadValue => Value::Null,
    }
}
