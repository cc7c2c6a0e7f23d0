//! A canary secret goes in by every source, and is looked for in everything that comes out: reports, listings,
//! errors, logs, spans and metrics.

#![allow(clippy::unwrap_used, reason = "helpers of tests may fail like tests")]

use apex_core::clock::SystemClock;
use apex_core::config::{
    Cache, Checks, DatabaseKind, DatabaseUrl, Environment, FaultCode, Loader, Secret, SecretSource,
    Section, weakness,
};
use apex_core::error::{Error, ErrorLog, EscalationPolicy, Failure, Phase};
use apex_core::resilience::{Effect, ResilienceConfig};
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use parking_lot::Mutex;
use std::fmt::{self, Write};
use std::path::Path;
use std::sync::Arc;
use tracing::field::{Field, Visit};
use tracing::span;

const CANARY: &str = "canary%2F7f3a91-never-shown";

#[derive(Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(default)]
struct Settings {
    /// Where.
    environment: Environment,
    /// Signs.
    key: Option<Secret<String>>,
    /// Keeps.
    url: Option<DatabaseUrl>,
    /// Counts.
    #[schemars(range(min = 1, max = 9))]
    count: Option<u32>,
    /// A free form.
    extra: std::collections::BTreeMap<String, u32>,
}

impl Section for Settings {
    fn check(&self, checks: &mut Checks<'_>) {
        if let Some(key) = &self.key {
            // A careless rule that repeats the secret is caught by the last guard.
            let problem = format!("{} is {}", key.reveal(), weakness(key, 64).unwrap_or("fine"));
            checks.require(&["key"], false, FaultCode::WeakSecret, problem, "make another one");
        }
        if let Some(url) = &self.url {
            let password = url.password().map_or("none", |password| password.reveal());
            checks.prefer(
                &["url"],
                false,
                FaultCode::Insecure,
                format!("its password is {password}"),
                "hide it",
            );
            url.check(checks, "url");
        }
    }
}

/// Everything that was said, as text.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<String>>);

impl Heard {
    fn take(&self, text: impl fmt::Display) {
        writeln!(self.0.lock(), "{text}").unwrap();
    }
}

impl Visit for Heard {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(format_args!("{}={value:?}", field.name()));
    }
}

impl tracing::Subscriber for Heard {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        attributes.record(&mut self.clone());
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, values: &span::Record<'_>) {
        values.record(&mut self.clone());
    }

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut self.clone());
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

impl Recorder for Heard {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        self.take(key);
        Counter::noop()
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        self.take(key);
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        self.take(key);
        Histogram::noop()
    }
}

#[derive(Debug)]
struct Vault;

impl SecretSource for Vault {
    fn name(&self) -> &'static str {
        "vault"
    }

    fn secret(&self, key: &str) -> Result<Option<Secret<String>>, Error> {
        Ok((key == "key").then(|| Secret::new(CANARY.to_owned())))
    }
}

fn write(folder: &Path, name: &str, text: &str) -> std::path::PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// A loader for each way in which the canary can get into a configuration.
fn loaders(folder: &Path) -> Vec<Loader> {
    let secrets = folder.join("secrets");
    std::fs::create_dir(&secrets).unwrap();
    write(&secrets, "apex_key", CANARY);
    let secret = write(folder, "secret", CANARY);
    let files = [
        format!("key = \"{CANARY}\""),
        format!("key = \"{CANARY}\n"),
        format!("key = [\"{CANARY}\"]"),
        format!("count = \"{CANARY}\""),
        format!("extra = {{ a = \"{CANARY}\" }}"),
        format!("url = \"postgres://u:{CANARY}@h/d?sslmode=disable\""),
        format!("url = \"postgres://u:{CANARY}@h/d?password={CANARY}\""),
        format!("url = \"mysql://u:{CANARY}@h/d\""),
        format!("key = \" {CANARY}\""),
    ];
    let mut loaders: Vec<Loader> = files
        .iter()
        .enumerate()
        .map(|(number, text)| {
            Loader::new().toml_file(write(folder, &format!("{number}.toml"), text))
        })
        .collect();
    let postgres = format!("postgres://u:{CANARY}@h:5432/d");
    loaders.extend([
        Loader::new().environment([("APEX_KEY", CANARY)]),
        Loader::new().environment([("APEX_URL", postgres.as_str())]),
        Loader::new().environment([("APEX_COUNT", CANARY)]),
        Loader::new().environment([("APEX_EXTRA", CANARY)]),
        Loader::new().environment([("APEX_KEYS", CANARY), ("APEX_KEY_FIL", CANARY)]),
        Loader::new().environment([("APEX_KEY_FILE", &secret)]),
        Loader::new().environment([("APEX_KEY", CANARY)]).secret_source(Arc::new(Vault)),
        Loader::new().secrets_dir(&secrets).any_secret_mode(),
        Loader::new().secret_source(Arc::new(Vault)),
        Loader::new().preset("key", CANARY),
    ]);
    loaders
}

#[test]
fn the_canary_is_nowhere() {
    let heard = Heard::default();
    let folder = tempfile::tempdir().unwrap();
    tracing::subscriber::set_global_default(heard.clone()).unwrap();
    metrics::with_local_recorder(&heard, || {
        for loader in loaders(folder.path()) {
            heard.take(format_args!("{loader:?}"));
            for environment in [None, Some("development")] {
                let loader = loader.clone();
                let loader = match environment {
                    Some(environment) => loader.preset("environment", environment),
                    None => loader,
                };
                match loader.load::<Settings>() {
                    Ok(loaded) => {
                        heard.take(format_args!("{loaded} {loaded:?}"));
                        heard.take(serde_json::to_string(&loaded.listed).unwrap());
                        heard.take(serde_json::to_string(&loaded.warnings).unwrap());
                    }
                    Err(report) => {
                        heard.take(format_args!("{report} {report:?}"));
                        heard.take(serde_json::to_string(&report).unwrap());
                        let error = Error::from(report);
                        heard.take(format_args!("{error} {error:?} {:?}", error.report()));
                    }
                }
            }
        }
        let url = DatabaseUrl::new(DatabaseKind::Redis, "0")
            .with_host("h", 1)
            .unwrap()
            .with_password(Secret::new(CANARY.to_owned()));
        heard.take(format_args!("{url} {url:?}"));
        run(&heard, folder.path());
    });
    let all = heard.0.lock();
    assert!(
        all.contains("apex_errors_total") && all.contains("breaker changed"),
        "something was heard:\n{all}"
    );
    let decoded = "canary/7f3a91-never-shown";
    let lines: Vec<&str> =
        all.lines().filter(|line| line.contains(CANARY) || line.contains(decoded)).collect();
    assert!(lines.is_empty(), "{lines:#?}");
}

/// A reload, and calls that fail until the breaker opens.
fn run(heard: &Heard, folder: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let path = write(folder, "reload.toml", "count = 1");
        let cache = Cache::<Settings>::load(Loader::new().toml_file(&path)).unwrap();
        write(folder, "reload.toml", &format!("count = \"{CANARY}\""));
        heard.take(format_args!("{:?}", cache.reload().await));
        heard.take(format_args!("{cache:?}"));

        let policy = ResilienceConfig { tries: Some(1), ..ResilienceConfig::default() }
            .policy("database", Environment::Production);
        let log = ErrorLog::new(Arc::new(SystemClock), EscalationPolicy::default(), Arc::new(()));
        let url: DatabaseUrl = format!("postgres://u:{CANARY}@h/d").parse().unwrap();
        for _ in 0..30 {
            let call = policy.call(Effect::Read);
            let down =
                || Error::driver(Failure::Connection, Phase::BeforeCommit, "db.connect", "refused");
            let result =
                policy.run::<(), _, _>(call, |_| async { Err(down().with("url", &url)) }).await;
            log.record(&result.unwrap_err(), None);
        }
        heard.take(serde_json::to_string(&log.groups()).unwrap());
        heard.take(serde_json::to_string(&policy.breaker().status()).unwrap());
    });
}
