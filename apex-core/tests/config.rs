//! A configuration as a host would load it: every source, every fault at once, and nothing shown that is secret.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests may fail like tests"
)]

use apex_core::config::{
    Cache, Checks, DatabaseUrl, Environment, Fault, FaultCode, HumanDuration, Loaded, Loader,
    Origin, Report, Secret, SecretSource, Section, duration, json_schema, reference, weakness,
};
use apex_core::error::{Error, Kind};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

const CANARY: &str = "canary-7f3a91-never-shown";
const KEY: &str = "9f2c61e0b7a84d35c8e1f4029b6d7a53";

/// A section of a kind that each room declares.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default)]
struct Limits {
    /// A count.
    #[schemars(range(min = 1, max = 100))]
    count: u32,
    /// A share.
    #[schemars(range(min = 0.0, max = 1.0))]
    share: f64,
    /// A wait.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "1s", "x-maximum" = "60s"))]
    wait: Duration,
    /// Whether.
    flag: bool,
    /// A name.
    #[schemars(length(min = 1, max = 10))]
    name: String,
    /// Some places.
    origins: Vec<String>,
    /// At least this many.
    low: u32,
    /// At most this many.
    high: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            count: 10,
            share: 0.5,
            wait: Duration::from_secs(5),
            flag: false,
            name: "apex".into(),
            origins: Vec::new(),
            low: 1,
            high: 2,
        }
    }
}

impl Section for Limits {
    fn check(&self, checks: &mut Checks<'_>) {
        checks.require(
            &["low", "high"],
            self.low <= self.high,
            FaultCode::Conflict,
            "low is above high",
            "lower it",
        );
    }
}

/// A section with secrets.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
struct Access {
    /// Signs.
    signing_key: Option<Secret<String>>,
    /// Opens.
    api_key: Option<Secret<String>>,
    /// Keeps.
    database: Option<DatabaseUrl>,
}

impl Section for Access {
    fn check(&self, checks: &mut Checks<'_>) {
        if let Some(problem) = self.signing_key.as_ref().and_then(|key| weakness(key, 32)) {
            checks.require_outside_development(
                &["signing_key"],
                false,
                FaultCode::WeakSecret,
                problem,
                "make one",
            );
        }
        if let Some(url) = &self.database {
            url.check(checks, "database");
        }
    }
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
struct Settings {
    /// Where.
    environment: Environment,
    access: Access,
    a: Limits,
    b: Limits,
    c: Limits,
    d: Limits,
    e: Limits,
    f: Limits,
}

impl Section for Settings {
    fn check(&self, checks: &mut Checks<'_>) {
        checks.section("access", &self.access);
        for (name, section) in [
            ("a", &self.a),
            ("b", &self.b),
            ("c", &self.c),
            ("d", &self.d),
            ("e", &self.e),
            ("f", &self.f),
        ] {
            checks.section(name, section);
        }
    }
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn write(folder: &Path, name: &str, content: impl AsRef<[u8]>) -> std::path::PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    private(&path, 0o600);
    path
}

fn private(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn variables<const N: usize>(pairs: [(&str, &str); N]) -> Loader {
    Loader::new().environment(pairs)
}

fn faults(loader: &Loader) -> Vec<Fault> {
    match loader.load::<Settings>() {
        Ok(_) => Vec::new(),
        Err(report) => report.faults,
    }
}

fn only(loader: &Loader) -> Fault {
    let faults = faults(loader);
    assert_eq!(faults.len(), 1, "{faults:#?}");
    faults.into_iter().next().unwrap()
}

fn good(loader: &Loader) -> Loaded<Settings> {
    loader.load().unwrap_or_else(|report| panic!("{report}"))
}

#[derive(Debug)]
struct Vault(BTreeMap<&'static str, Result<&'static str, &'static str>>);

impl SecretSource for Vault {
    fn name(&self) -> &'static str {
        "vault"
    }

    fn secret(&self, key: &str) -> Result<Option<Secret<String>>, Error> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Ok(value)) => Ok(Some(Secret::new((*value).to_owned()))),
            Some(Err(problem)) => Err(Error::new(Kind::Unavailable, "vault.read", *problem)),
        }
    }
}

#[test]
fn each_source_overrules_the_one_before_and_is_remembered() {
    let folder = folder();
    let secrets = folder.path().join("secrets");
    std::fs::create_dir(&secrets).unwrap();
    let file = write(
        folder.path(),
        "apex.toml",
        "[a]\ncount = 2\nshare = 0.25\nwait = \"2s\"\n\n[access]\ndatabase = \"sqlite:x.db\"\n",
    );
    write(&secrets, "apex_access_signing_key", format!("{KEY}\n"));
    write(&secrets, "other", "not ours");
    let api = write(folder.path(), "api", "from-file-variable");
    let vault = Vault(BTreeMap::from([("access.api_key", Ok("from-vault"))]));
    let loader = Loader::new()
        .preset("a.count", 3)
        .preset("b.count", 3)
        .toml_file(&file)
        .environment([
            ("APEX_A_WAIT", "3s".to_owned()),
            ("APEX_A_ORIGINS", "x, y".to_owned()),
            ("APEX_ACCESS_API_KEY_FILE", api.display().to_string()),
            ("APEXX_A_COUNT", "9".to_owned()),
            ("HOME", "/root".to_owned()),
        ])
        .secrets_dir(&secrets)
        .secret_source(Arc::new(vault));
    let loaded = good(&loader);
    let settings = &loaded.value;
    assert_eq!((settings.a.count, settings.b.count, settings.c.count), (2, 3, 10));
    assert_eq!(settings.a.wait, Duration::from_secs(3));
    assert_eq!(settings.a.origins, ["x", "y"]);
    assert_eq!(settings.access.signing_key.as_ref().unwrap().reveal(), KEY);
    assert_eq!(settings.access.api_key.as_ref().unwrap().reveal(), "from-vault");

    let origin = |key: &str| loaded.origin(key).unwrap().to_string();
    assert_eq!(origin("a.count"), format!("{}:2", file.display()));
    assert_eq!(origin("a.wait"), "APEX_A_WAIT");
    assert_eq!(origin("b.count"), "host");
    assert_eq!(loaded.origin("c.count"), Some(&Origin::Default));
    assert_eq!(
        origin("access.signing_key"),
        secrets.join("apex_access_signing_key").display().to_string()
    );
    assert_eq!(origin("access.api_key"), "secret source vault");
    let wait = loaded.listed.iter().find(|entry| entry.key == "a.wait").unwrap();
    assert_eq!(wait.value, "3s");
    assert_eq!(wait.overrides.len(), 1);
    let text = loaded.to_string();
    assert!(text.contains("(hidden)") && text.contains("sqlite:x.db"), "{text}");
    assert!(!text.contains(KEY) && !text.contains("from-vault"));
}

#[test]
fn twelve_faults_are_twelve_rows() {
    let folder = folder();
    let file = write(
        folder.path(),
        "apex.toml",
        "[a]\ncount = 0\nshare = \"much\"\nhigh = 1\nlow = 2\ncuont = 4\n[b]\nwait = \"2 s\"\nflag = 1\n[limts]\nx = 1\n",
    );
    let loader = Loader::new().toml_file(&file).environment([
        ("APEX_C_COUNT", "ten"),
        ("APEX_D_NAME", ""),
        ("APEX_E_CONUT", "4"),
        ("APEX_ACCESS_SIGNING_KEY_FILE", "/nowhere/key"),
        ("APEX_ACCESS_DATABASE", "postgres://u:canary-7f3a91-never-shown@h/d?sslmode=prefer"),
    ]);
    let report = loader.load::<Settings>().err().unwrap();
    let rows: Vec<(&str, &str)> =
        report.faults.iter().map(|f| (f.key.as_str(), f.code.as_str())).collect();
    assert_eq!(
        rows,
        [
            ("APEX_E_CONUT", "config_unknown_key"),
            ("a.count", "config_range"),
            ("a.cuont", "config_unknown_key"),
            ("a.low", "config_conflict"),
            ("a.share", "config_type"),
            ("access.database", "config_format"),
            ("access.signing_key", "config_unreadable"),
            ("b.flag", "config_type"),
            ("b.wait", "config_type"),
            ("c.count", "config_type"),
            ("d.name", "config_missing"),
            ("limts", "config_unknown_key"),
        ]
    );
    assert_eq!(report.faults[0].advice, "did you mean `APEX_E_COUNT`? Else remove it");
    assert_eq!(report.faults[1].source, format!("{}:2", file.display()));
    let json = serde_json::to_value(&report).unwrap();
    let row = json["faults"][0].as_object().unwrap();
    let mut fields: Vec<&String> = row.keys().collect();
    fields.sort();
    assert_eq!(fields, ["advice", "code", "key", "problem", "source"]);
    assert!(!json.to_string().contains(CANARY) && !report.to_string().contains(CANARY));
}

#[test]
fn what_is_allowed_in_development_is_refused_elsewhere() {
    let weak = [
        ("APEX_ACCESS_SIGNING_KEY", "changeme"),
        ("APEX_ACCESS_DATABASE", "postgres://me:pw-in-plain-text@db.example/apex?sslmode=disable"),
    ];
    let strict = faults(&Loader::new().environment(weak));
    let codes: Vec<(&str, FaultCode)> = strict.iter().map(|f| (f.key.as_str(), f.code)).collect();
    assert_eq!(
        codes,
        [
            ("access.database", FaultCode::Insecure),
            ("access.database", FaultCode::Insecure),
            ("access.signing_key", FaultCode::Insecure),
            ("access.signing_key", FaultCode::WeakSecret),
        ]
    );
    let loaded = good(&Loader::new().environment(weak).preset("environment", "development"));
    assert_eq!(loaded.environment, Environment::Development);
    assert_eq!(loaded.warnings.len(), 4, "{:?}", loaded.warnings);
}

#[test]
fn a_bad_file_is_one_row_and_other_sources_are_judged() {
    let folder = folder();
    let big = folder.path().join("big.toml");
    std::fs::File::create(&big).unwrap().set_len(100 << 20).unwrap();
    let cases = [
        (folder.path().to_owned(), "directory", FaultCode::Unreadable),
        (folder.path().join("none.toml"), "no such file", FaultCode::Unreadable),
        (big, "larger than 1024 KiB", FaultCode::Unreadable),
        ("/dev/zero".into(), "not a regular file", FaultCode::Unreadable),
        (
            write(folder.path(), "latin", b"a = \"caf\xe9\""),
            "not UTF-8 at byte 8",
            FaultCode::Unreadable,
        ),
        (
            write(folder.path(), "syntax", format!("[a]\nname = \"{CANARY}\ncount = 1")),
            "not TOML",
            FaultCode::Syntax,
        ),
        (write(folder.path(), "twice", "[a]\ncount = 1\ncount = 2"), "not TOML", FaultCode::Syntax),
        (write(folder.path(), "scalar", "a = 1"), "table of fields", FaultCode::Type),
    ];
    for (path, problem, code) in cases {
        let found = faults(&Loader::new().toml_file(&path).environment([("APEX_B_COUNT", "0")]));
        assert_eq!(found.len(), 2, "{}: {found:#?}", path.display());
        let fault = found.iter().find(|fault| fault.key != "b.count").unwrap();
        assert!(fault.problem.contains(problem) && fault.code == code, "{fault:?}");
        assert!(!format!("{found:?}").contains(CANARY));
    }
    let marked = write(folder.path(), "bom", "\u{feff}[a]\r\ncount = 7\r\n");
    assert_eq!(good(&Loader::new().toml_file(marked)).value.a.count, 7);
}

/// Root may read everything, so the case is only a case for others.
#[test]
fn a_file_without_permission_is_named() {
    let folder = folder();
    let file = write(folder.path(), "apex.toml", "");
    private(&file, 0o000);
    if std::fs::read(&file).is_ok() {
        println!("skipped: a_file_without_permission_is_named (this user may read everything)");
        return;
    }
    let fault = only(&Loader::new().toml_file(&file));
    assert!(fault.problem.contains("may not read"), "{fault:?}");
}

#[test]
fn secret_files_lose_one_line_end_and_nothing_else() {
    let folder = folder();
    let load = |content: &str| {
        let path = write(folder.path(), "key", content);
        Loader::new().environment([("APEX_ACCESS_API_KEY_FILE", path)])
    };
    for content in ["s3cret", "s3cret\n", "s3cret\r\n"] {
        assert_eq!(good(&load(content)).value.access.api_key.unwrap().reveal(), "s3cret");
    }
    assert!(good(&load("-----BEGIN-----\nx\n-----END-----\n")).value.access.api_key.is_some());
    assert_eq!(only(&load("s3cret\n\n")).code, FaultCode::Format);
    assert_eq!(only(&load(" s3cret")).code, FaultCode::Format);
    assert_eq!(only(&load("s3\u{7}cret")).code, FaultCode::Format);
    assert_eq!(only(&load("")).code, FaultCode::Missing);
    assert_eq!(only(&load("\n")).code, FaultCode::Missing);
    let folder_as_secret = Loader::new().environment([("APEX_ACCESS_API_KEY_FILE", folder.path())]);
    assert_eq!(only(&folder_as_secret).problem, "it is a directory");
    assert_eq!(only(&load(&"x".repeat(70_000))).code, FaultCode::Unreadable);
}

#[test]
fn a_secret_file_open_to_others_is_refused_unless_the_platform_does_so() {
    let folder = folder();
    let path = write(folder.path(), "key", KEY);
    private(&path, 0o644);
    let loader = Loader::new().environment([("APEX_ACCESS_SIGNING_KEY_FILE", &path)]);
    assert_eq!(only(&loader).code, FaultCode::SecretMode);
    assert!(good(&loader.clone().any_secret_mode()).value.access.signing_key.is_some());
    assert_eq!(good(&loader.preset("environment", "development")).warnings.len(), 1);
}

#[test]
fn contradictory_sources_are_refused() {
    let folder = folder();
    let path = write(folder.path(), "key", KEY).display().to_string();
    let both =
        variables([("APEX_ACCESS_SIGNING_KEY", KEY), ("APEX_ACCESS_SIGNING_KEY_FILE", &path)]);
    let fault = only(&both);
    assert_eq!(fault.code, FaultCode::Conflict);
    assert!(
        fault.source.contains("APEX_ACCESS_SIGNING_KEY and APEX_ACCESS_SIGNING_KEY_FILE"),
        "{fault:?}"
    );

    let secrets = folder.path().join("secrets");
    std::fs::create_dir(&secrets).unwrap();
    let named = variables([("APEX_ACCESS_SIGNING_KEY_FILE", &path)]).secrets_dir(&secrets);
    write(&secrets, "apex_access_signing_key", "another-key-altogether");
    assert_eq!(only(&named).code, FaultCode::Conflict);
    write(&secrets, "apex_access_signing_key", KEY);
    assert!(faults(&named).is_empty());
}

#[test]
fn variables_and_folders_are_checked_by_name() {
    use std::os::unix::ffi::OsStringExt;
    assert_eq!(only(&variables([("APEX_A_COUNT", "")])).problem, "the variable is set to nothing");
    let strange = Loader::new().environment([
        ("APEX_A_NAME", std::ffi::OsString::from_vec(vec![0xff, 0xfe])),
        ("X", "y".into()),
    ]);
    assert_eq!(only(&strange).problem, "the variable is not UTF-8");
    let plain = only(&variables([("APEX_A_NAME_FILE", "/etc/hostname")]));
    assert_eq!(plain.problem, "only secrets are read from files");
    let folder = folder();
    write(folder.path(), "apex_access_singing_key", KEY);
    let fault = only(&Loader::new().secrets_dir(folder.path()));
    assert!(fault.advice.contains("apex_access_signing_key"), "{fault:?}");
    assert_eq!(only(&Loader::new().secrets_dir("/nowhere")).code, FaultCode::Unreadable);
    let control = only(&variables([("APEX_\u{1b}[31mRED", "1")]));
    assert!(!control.key.contains('\u{1b}'));
    let vault = Vault(BTreeMap::from([("access.api_key", Err("sealed"))]));
    assert!(only(&Loader::new().secret_source(Arc::new(vault))).problem.contains("sealed"));
}

#[test]
fn a_rule_is_not_judged_on_a_field_that_is_faulty_already() {
    assert_eq!(only(&variables([("APEX_A_HIGH", "0")])).key, "a.low");
    let one = variables([("APEX_A_LOW", "few"), ("APEX_A_HIGH", "0")]);
    assert_eq!(only(&one).code, FaultCode::Type);
    let unread = variables([("APEX_A_HIGH", "0")]).toml_file("/nowhere/apex.toml");
    assert_eq!(only(&unread).code, FaultCode::Unreadable, "what the file says of low is unknown");
}

#[test]
fn two_configurations_in_one_process_share_nothing() {
    let pairs = [("APEX_A_COUNT", "4"), ("BILLING_A_COUNT", "5"), ("BILLING_B_COUNT", "6")];
    let one = good(&Loader::new().environment(pairs));
    let other = good(&Loader::new().prefix("BILLING").environment(pairs));
    assert_eq!((one.value.a.count, one.value.b.count), (4, 10));
    assert_eq!((other.value.a.count, other.value.b.count), (5, 6));
}

#[tokio::test]
async fn a_reload_that_does_not_pass_changes_nothing_and_one_that_does_is_heard_of() {
    let folder = folder();
    let file = write(folder.path(), "apex.toml", "[a]\ncount = 1\n");
    let cache = Cache::<Settings>::load(Loader::new().toml_file(&file)).unwrap();
    let mut heard = cache.subscribe();
    assert!(!cache.reload().await.unwrap());
    write(folder.path(), "apex.toml", "[a]\ncount = 0\n");
    assert_eq!(cache.reload().await.unwrap_err().faults.len(), 1);
    assert_eq!(cache.current().value.a.count, 1);
    assert!(!heard.has_changed().unwrap());
    write(folder.path(), "apex.toml", "[a]\ncount = 2\n");
    let before = cache.current();
    assert!(cache.reload().await.unwrap());
    assert_eq!((before.value.a.count, cache.current().value.a.count), (1, 2));
    assert!(heard.has_changed().unwrap());
    assert_eq!(heard.borrow_and_update().value.a.count, 2);
}

/// Readers while the file changes two hundred times, every tenth time to something that does not pass.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_under_load_are_whole_or_not_at_all() {
    let folder = folder();
    let write = |number: u32| {
        let (low, high) =
            if number.is_multiple_of(10) { (number + 1, number) } else { (number, number) };
        write(folder.path(), "apex.toml", format!("[a]\nlow = {low}\nhigh = {high}\n"))
    };
    let cache = Arc::new(Cache::<Settings>::load(Loader::new().toml_file(write(1))).unwrap());
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let reader = std::thread::spawn({
        let (cache, stop) = (Arc::clone(&cache), Arc::clone(&stop));
        move || {
            let mut reads = 0_u64;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let current = cache.current();
                assert_eq!(current.value.a.low, current.value.a.high);
                reads += 1;
            }
            reads
        }
    });
    let mut refused = 0;
    for number in 2..=200 {
        write(number);
        refused += u32::from(cache.reload().await.is_err());
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(reader.join().unwrap() > 0);
    assert_eq!((refused, cache.current().value.a.high), (20, 199));
}

/// A small generator with a seed, so that a failing configuration can be made again.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

/// One fault, as lines of a section of the file or as a variable.
enum Planted {
    File(&'static str, String),
    Variable(String, String),
}

/// The faults that can be planted: each in a place of its own, each exactly one row.
fn plantable() -> Vec<Planted> {
    let mut all = Vec::new();
    for section in ["a", "b", "c", "d", "e", "f"] {
        let name = section.to_uppercase();
        let variable = |field: &str, value: &str| {
            Planted::Variable(format!("APEX_{name}_{field}"), value.to_owned())
        };
        all.push(Planted::File(section, "count = 101".into()));
        all.push(variable("SHARE", "1.01"));
        all.push(Planted::File(section, format!("wait = \"{CANARY}\"")));
        all.push(variable("FLAG", CANARY));
        all.push(Planted::File(section, format!("name = \"{CANARY}\"")));
        all.push(Planted::File(section, format!("origins = [\"x\", {{ y = \"{CANARY}\" }}]")));
        all.push(Planted::File(section, "low = 9".into()));
        all.push(variable("HIHG", CANARY));
        all.push(Planted::File(section, format!("unheard_of = \"{CANARY}\"")));
    }
    all.push(Planted::Variable(
        "APEX_ACCESS_DATABASE".into(),
        format!("postgres://u:{CANARY}@h:0/d"),
    ));
    all.push(Planted::Variable("APEX_ACCESS_SIGNING_KEY".into(), KEY.into()));
    all.push(Planted::Variable("APEX_ACCESS_API_KEY_FILE".into(), "/nowhere/at/all".into()));
    all.push(Planted::Variable("APEX_ENVIRONMENT".into(), CANARY.into()));
    all
}

#[test]
fn any_number_of_faults_is_that_number_of_rows() {
    let folder = folder();
    for seed in 0..600 {
        let mut dice = Dice(seed);
        let count = 1 + dice.below(40);
        let mut left = plantable();
        let mut sections = BTreeMap::<&str, String>::new();
        let mut pairs = vec![("PATH".to_owned(), CANARY.to_owned())];
        for _ in 0..count {
            match left.swap_remove(dice.below(left.len())) {
                Planted::File(section, line) => {
                    *sections.entry(section).or_default() += &format!("{line}\n")
                }
                Planted::Variable(name, value) => pairs.push((name, value)),
            }
        }
        let text: String =
            sections.iter().map(|(name, lines)| format!("[{name}]\n{lines}")).collect();
        let file = write(folder.path(), "apex.toml", text);
        let report: Report =
            Loader::new().toml_file(&file).environment(pairs).load::<Settings>().err().unwrap();
        assert_eq!(report.faults.len(), count, "seed {seed}: {report}");
        let shown = format!("{report} {report:?} {}", serde_json::to_string(&report).unwrap());
        assert!(!shown.contains(CANARY) && !shown.contains(KEY), "seed {seed}");
        let error = Error::from(report);
        assert!(!format!("{error} {error:?} {:?}", error.report()).contains(CANARY), "seed {seed}");
    }
}

#[test]
fn the_schema_and_the_reference_come_from_the_type() {
    let schema = json_schema::<Settings>();
    assert_eq!(schema["$defs"]["Access"]["properties"]["signing_key"]["writeOnly"], true);
    let page = reference::<Settings>("APEX");
    let row = page.lines().find(|line| line.contains("`a.wait`")).unwrap();
    assert_eq!(
        row,
        "| `a.wait` | `APEX_A_WAIT` | a duration such as 30s from 1s to 1m | `5s` | A wait. |"
    );
    assert!(page.contains("`APEX_ACCESS_API_KEY_FILE`"), "{page}");
}
