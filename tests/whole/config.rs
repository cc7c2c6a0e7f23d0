//! A host's configuration as a whole, and what is generated from it.

use crate::schema::check;
use crate::support::{example, text};
use netra_apex::ApexConfig;
use netra_apex::core::config::{Fault, FaultCode, Loader, json_schema};
use netra_apex::core::health::{degraded, metric};
use netra_apex::core::resilience::BreakerState;
use netra_apex::core::{error, health};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const CANARY: &str = "not-a-real-password";

fn doctor(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(example("doctor"));
    command
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env_clear()
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

fn faults(output: &Output) -> Vec<Value> {
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    report["faults"].as_array().unwrap().clone()
}

#[test]
fn the_doctor_finds_nothing_wrong_with_the_defaults() {
    let output = doctor(&[], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    let shown = text(&output.stdout);
    assert!(shown.contains("This configuration would start, in production."), "{shown}");

    let output = doctor(&["--json"], &[("APEX_DATABASE_URL", "sqlite:/data/a.db")]);
    assert_eq!(output.status.code(), Some(0));
    assert!(faults(&output).is_empty());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let values = report["values"].as_array().unwrap();
    let url = values.iter().find(|value| value["key"] == "database.url").unwrap();
    assert_eq!(
        (&url["source"], &url["value"]),
        (&"APEX_DATABASE_URL".into(), &"sqlite:/data/a.db".into())
    );
}

#[test]
fn the_doctor_finds_the_twelve_faults_of_its_example_and_shows_no_password() {
    let file = ["--config", "examples/doctor/twelve_faults.toml"];
    let output = doctor(&[file[0], file[1], "--json"], &[]);
    assert_eq!(output.status.code(), Some(78));
    let faults = faults(&output);
    let keys: Vec<&str> = faults.iter().map(|fault| fault["key"].as_str().unwrap()).collect();
    assert_eq!(
        keys,
        [
            "agents.step_deadline",
            "auth.session_life",
            "auth.ticket_life",
            "auth.unused_ticket",
            "connections.hello_bytes",
            "database.url",
            "databse",
            "files.user_bytes",
            "runs.queued",
            "runs.running",
            "server.listen",
            "server.origins",
        ]
    );
    for fault in &faults {
        for field in ["key", "source", "problem", "advice", "code"] {
            let text = fault[field].as_str().unwrap();
            assert!(!text.is_empty(), "{fault}");
        }
    }
    let people = doctor(&file, &[]);
    assert_eq!(people.status.code(), Some(78));
    assert!(text(&people.stdout).starts_with("the configuration has 12 faults"));
    for output in [output, people] {
        let all = text(&output.stdout) + &text(&output.stderr);
        assert!(!all.contains(CANARY), "{all}");
    }
}

#[test]
fn a_reader_that_goes_away_does_not_change_what_the_doctor_found() {
    let mut command = Command::new(example("doctor"));
    let mut doctor = command.env_clear().stdout(Stdio::piped()).spawn().unwrap();
    drop(doctor.stdout.take());
    assert_eq!(doctor.wait().unwrap().code(), Some(0));
}

#[test]
fn the_doctor_says_how_it_is_called() {
    for arguments in [&["--help"][..], &["--config"], &["extra"]] {
        let output = doctor(arguments, &[]);
        assert_eq!(output.status.code(), Some(64));
        assert!(text(&output.stderr).contains("usage: doctor"));
    }
}

#[test]
fn what_is_loaded_is_what_is_built() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("with space.db");
    let url = format!("sqlite:{}", path.display());
    let loader = Loader::new().environment([
        ("APEX_ENVIRONMENT", "development"),
        ("APEX_DATABASE_URL", url.as_str()),
        ("APEX_CONNECTIONS_PER_USER", "7"),
        ("APEX_RUNS_LEASE", "20s"),
        ("APEX_SERVER_ORIGINS", "http://localhost:3000,https://a.example"),
        ("APEX_RESILIENCE_TRIES", "2"),
        ("APEX_RESILIENCE_BREAKER_LEAST_CALLS", "4"),
    ]);
    let config = loader.load::<ApexConfig>().unwrap().value;
    let transport = config.transport();
    assert_eq!((transport.hub.per_user, transport.runs.lease.as_secs()), (7, 20));
    assert_eq!(transport.origins.len(), 2);
    let policy = config.policy("billing");
    assert_eq!((policy.options().tries, policy.options().total.as_secs()), (2, 5));
    for _ in 0..4 {
        let down = error::Error::new(error::Kind::Unavailable, "billing", "it does not answer");
        policy.breaker().admit().unwrap().done::<()>(&Err(down));
    }
    assert_eq!(policy.breaker().state(), BreakerState::Open);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        config.builder().unwrap().build().await.unwrap();
    });
    assert!(path.exists());
}

#[test]
fn every_address_that_is_called_is_judged_before_anything_opens() {
    let judge = |environment: &str, pairs: &[(&str, &str)]| {
        let given = pairs.iter().copied().chain([("APEX_ENVIRONMENT", environment)]);
        let report = Loader::new().environment(given).load::<ApexConfig>().err();
        let faults = report.map(|report| report.faults).unwrap_or_default();
        let row = |fault: &Fault| (fault.key.clone(), fault.code);
        faults.iter().map(row).collect::<Vec<_>>()
    };
    let row = |key: &str, code| vec![(key.to_owned(), code)];
    for provider in ["OPENAI", "ANTHROPIC", "GEMINI", "COMPATIBLE"] {
        let variable = format!("APEX_MODELS_{provider}_BASE_URL");
        let key = format!("models.{}.base_url", provider.to_lowercase());
        for bad in ["api.example.com", "https://:443", "https://a:99999/v1", "https://u:p@a/v1"] {
            let found = judge("production", &[(&variable, bad)]);
            assert_eq!(found, row(&key, FaultCode::Format), "{bad}");
        }
        let plain = [(variable.as_str(), "http://models.internal:8000/v1")];
        assert_eq!(judge("production", &plain), row(&key, FaultCode::Insecure));
        for (environment, good) in [
            ("development", "http://models.internal:8000/v1"),
            ("production", "https://models.internal:8000/v1"),
            ("production", "http://127.0.0.1:8000/v1"),
        ] {
            assert_eq!(judge(environment, &[(&variable, good)]), []);
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let proxy = folder.path().join("proxy");
    let through = |text: &str| {
        std::fs::write(&proxy, text).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mine = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(&proxy, mine).unwrap();
        }
        judge("production", &[("APEX_MODELS_PROXY_FILE", proxy.to_str().unwrap())])
    };
    assert_eq!(through("proxy:3128"), row("models.proxy", FaultCode::Format));
    assert_eq!(through("http://u:p@proxy:3128"), row("models.proxy", FaultCode::Insecure));
    for good in ["http://proxy:3128", "https://u:p@proxy:3128", "http://u:p@127.0.0.1:3128"] {
        assert_eq!(through(good), [], "{good}");
    }
}

#[test]
fn a_database_of_one_environment_is_refused_in_another() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("a.db").display());
    let build = |environment: &str| {
        let pairs = [("APEX_ENVIRONMENT", environment), ("APEX_DATABASE_URL", &url)];
        let config = Loader::new().environment(pairs).load::<ApexConfig>().unwrap().value;
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async { config.builder().unwrap().build().await.map(drop) })
    };
    build("production").unwrap();
    for other in ["development", "staging"] {
        let refused = build(other).unwrap_err();
        assert_eq!(refused.kind(), error::Kind::Config);
        assert!(refused.to_string().contains("belongs to production"), "{refused}");
    }
    build("production").unwrap();
}

/// The ranges are said here and checked again by the wire: they must agree, so that what loads also builds.
#[test]
fn every_bound_of_the_schema_passes_the_wire() {
    let schema = json_schema::<ApexConfig>();
    for section in ["ServerSection", "ConnectionsSection"] {
        let fields = schema["$defs"][section]["properties"].as_object().unwrap();
        for (name, field) in fields {
            for bound in ["minimum", "maximum", "x-minimum", "x-maximum"] {
                let Some(value) = field.get(bound) else {
                    continue;
                };
                let table = if section == "ServerSection" { "server" } else { "connections" };
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                let key = format!("{table}.{name}");
                let loader = Loader::new().environment([(
                    format!("APEX_{}", key.replace('.', "_").to_uppercase()),
                    value,
                )]);
                // At some bounds a rule across fields speaks; then the wire is not asked.
                if let Ok(loaded) = loader.load::<ApexConfig>() {
                    let checked = loaded.value.transport().validate();
                    assert!(checked.is_ok(), "{key} at {bound}: {checked:?}");
                }
            }
        }
    }
}

#[test]
fn no_two_fields_have_the_same_variable() {
    let page = ApexConfig::reference();
    let variables: Vec<&str> = page.split('`').filter(|word| word.starts_with("APEX_")).collect();
    let different: BTreeSet<&&str> = variables.iter().collect();
    assert_eq!(variables.len(), different.len());
    assert!(variables.len() > 70);
}

#[test]
fn the_schema_of_the_configuration_is_committed() {
    check("config.schema.json", &json_schema::<ApexConfig>());
}

/// Puts each generated table between its marks.
fn with_tables(page: &str) -> String {
    let tables = [
        ("configuration", ApexConfig::reference()),
        ("errors", error::page()),
        ("metrics", metric::page()),
        ("degraded modes", degraded::page()),
    ];
    tables.iter().fold(page.to_owned(), |page, (name, table)| {
        let (begin, end) =
            (format!("<!-- generated: {name} -->\n"), format!("<!-- end of {name} -->"));
        let (before, rest) = page.split_once(&begin).unwrap();
        let (_, after) = rest.split_once(&end).unwrap();
        format!("{before}{begin}{table}{end}{after}")
    })
}

#[test]
fn the_operators_page_has_every_field_error_metric_and_degraded_mode() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let current = with_tables(&page);
    if std::env::var_os("APEX_UPDATE").is_some() {
        std::fs::write(&path, &current).unwrap();
    } else {
        assert!(
            page == current,
            "docs/operations.md is not what the types say: run the tests once with APEX_UPDATE=1"
        );
    }
}

/// The sources of a crate.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// A metric that nobody lists is one that no operator finds.
#[test]
fn every_metric_of_the_ground_floor_is_listed_and_used() {
    let mut files = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    sources(&root.join("apex-core/src"), &mut files);
    sources(&root.join("apex-agents/src"), &mut files);
    files.retain(|path| !path.ends_with("health/metric.rs"));
    let mut used = BTreeSet::new();
    for file in files {
        let source = std::fs::read_to_string(file).unwrap();
        for make in ["counter!(", "gauge!(", "histogram!("] {
            for call in source.split(make).skip(1) {
                if let Some(name) = call.trim_start().strip_prefix('"') {
                    used.insert(name.split('"').next().unwrap().to_owned());
                }
            }
        }
    }
    let listed: BTreeSet<String> =
        health::metric::METRICS.iter().map(|metric| metric.name.to_owned()).collect();
    assert_eq!(used, listed);
}
