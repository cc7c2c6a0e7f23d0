//! Wire, report and error types are defined once, in Rust; what other languages are generated from, and the types of
//! their packages, are committed and must be what the Rust types say. `APEX_UPDATE=1` writes them anew.

use crate::types::Model;
use netra_apex::agents::cost::Report;
use netra_apex::core::error;
use netra_apex::core::event::Envelope;
use netra_apex::core::run::RunGraph;
use netra_apex::transport::protocol::{ClientFrame, ServerFrame};
use serde_json::{Value, json};
use std::path::Path;

pub(crate) fn check(name: &str, schema: &Value) {
    let pretty = serde_json::to_string_pretty(schema).unwrap() + "\n";
    check_text(&format!("schema/{name}"), &pretty);
}

fn check_text(name: &str, generated: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("bindings").join(name);
    if std::env::var_os("APEX_UPDATE").is_some() {
        std::fs::write(&path, generated).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == generated,
        "{name} is not what the types say: run the tests once with APEX_UPDATE=1"
    );
}

#[test]
fn the_schema_of_the_wire_is_committed() {
    // One generator, so that both directions and the envelope share their definitions.
    let mut generator = schemars::SchemaGenerator::default();
    let (client, server, envelope) = (
        generator.subschema_for::<ClientFrame>(),
        generator.subschema_for::<ServerFrame>(),
        generator.subschema_for::<Envelope>(),
    );
    let definitions = generator.take_definitions(true);
    check(
        "wire.schema.json",
        &json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "The wire protocol, version 1",
            "properties": { "client_frame": client, "server_frame": server, "envelope": envelope },
            "$defs": definitions,
        }),
    );
}

#[test]
fn the_schema_of_reports_is_committed() {
    check("report.schema.json", &schemars::schema_for!(Report).to_value());
}

#[test]
fn the_schema_of_graphs_is_committed() {
    check("graph.schema.json", &schemars::schema_for!(RunGraph).to_value());
}

#[test]
fn the_schema_of_errors_is_committed() {
    check("errors.schema.json", &error::schema());
}

#[test]
fn the_errors_of_other_languages_are_those_of_the_catalogue() {
    check_text("node/types/errors.ts", &error::typescript());
    check_text("python/netra_apex/errors.py", &error::python());
}

#[test]
fn the_frames_events_and_reports_of_other_languages_are_those_of_the_schema() {
    let mut generator = schemars::SchemaGenerator::default();
    generator.subschema_for::<ClientFrame>();
    generator.subschema_for::<ServerFrame>();
    generator.subschema_for::<Envelope>();
    generator.subschema_for::<Report>();
    generator.subschema_for::<RunGraph>();
    let model = Model::read(
        &generator.take_definitions(true),
        &[
            ("ClientFrame", ("frame", "Client", "")),
            ("ServerFrame", ("frame", "Server", "")),
            ("Envelope", ("type", "", "Event")),
        ],
    );
    check_text("node/types/wire.ts", &model.typescript());
    check_text("python/netra_apex/wire.py", &model.python());
}
