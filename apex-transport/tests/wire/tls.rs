//! TLS on the bundled listener: what is shown, how it is replaced while clients are connected, and what is refused.

use crate::support::socket::{Io, Socket, assert_whole};
use crate::support::{Settings, TestClock, Wire, bearer};
use apex_core::clock::SystemClock;
use apex_core::config::{Checks, FaultCode, Loader, Section};
use apex_core::error::Kind;
use apex_core::health::Status;
use apex_transport::{Tls, TlsFiles, tls};
use rcgen::{CertificateParams, CertifiedIssuer, DnType, KeyPair};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// An authority of our own, and a folder with a server's pair in it.
struct Pki {
    authority: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Pki {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority = CertifiedIssuer::self_signed(params, key).unwrap();
        Self { authority, folder: TempDir::new().unwrap() }
    }

    fn files(&self) -> TlsFiles {
        let at = |name| self.folder.path().join(name);
        TlsFiles { certificate: at("chain.pem"), private_key: at("key.pem") }
    }

    /// A pair whose certificate ends so many days from now.
    fn pair(&self, name: &str, days: i64) -> (String, String) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let now = std::time::SystemTime::now();
        params.not_before = (now - 90 * DAY).into();
        params.not_after = (now - 30 * DAY).into();
        params.not_after += std::time::Duration::from_secs(((days + 30) * 86_400) as u64);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn write(&self, certificate: &str, key: &str) {
        let files = self.files();
        std::fs::write(&files.certificate, certificate).unwrap();
        std::fs::write(&files.private_key, key).unwrap();
        close_to_others(&files.private_key);
    }

    fn connector(&self, alpn: &[&[u8]]) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        TlsConnector::from(Arc::new(config))
    }

    async fn connect(&self, wire: &Wire) -> TlsStream<TcpStream> {
        let tcp = TcpStream::connect(wire.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        self.connector(&[b"http/1.1"]).connect(name, tcp).await.unwrap()
    }

    /// The name in the certificate that a new client is shown.
    async fn shown(&self, wire: &Wire) -> String {
        let stream = self.connect(wire).await;
        let chain = stream.get_ref().1.peer_certificates().unwrap();
        let text = String::from_utf8_lossy(&chain[0]);
        ["first", "second", "third"].into_iter().find(|name| text.contains(name)).unwrap().into()
    }
}

fn close_to_others(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

async fn start(pki: &Pki) -> Wire {
    Wire::start_with(Settings { tls: Some(pki.files()), ..Settings::default() }).await
}

/// One request over TLS, by a client of its own.
async fn post(pki: &Pki, wire: &Wire, path: &str, body: &str) -> String {
    let mut stream = pki.connect(wire).await;
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    answer
}

async fn socket(pki: &Pki, wire: &Wire) -> Socket {
    let answer = post(pki, wire, "/auth/dev", r#"{"user":"ada"}"#).await;
    let body = answer.split("\r\n\r\n").nth(1).unwrap();
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    let token = bearer(body["token"].as_str().unwrap());
    let stream: Box<dyn Io> = Box::new(pki.connect(wire).await);
    let headers = [("authorization", token.as_str())];
    let mut socket = Socket::over(stream, wire.address, "/ws", &headers).await.unwrap();
    assert_eq!(socket.frame().await["frame"], "welcome");
    socket
}

/// Waits until `holds`, for what is looked at every two seconds.
async fn until<F: Future<Output = bool>>(what: &str, holds: impl Fn() -> F) {
    for _ in 0..100 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{what} did not come about within 10 s");
}

#[tokio::test]
async fn a_new_pair_is_shown_and_an_open_websocket_goes_on() {
    let pki = Pki::new();
    let (certificate, key) = pki.pair("first", 60);
    pki.write(&certificate, &key);
    let wire = start(&pki).await;
    assert_eq!(pki.shown(&wire).await, "first");
    let mut socket = socket(&pki, &wire).await;

    let (certificate, key) = pki.pair("second", 60);
    pki.write(&certificate, &key);
    assert!(wire.tls.as_ref().unwrap().reload().await.unwrap());
    assert!(!wire.tls.as_ref().unwrap().reload().await.unwrap(), "there is nothing new");
    assert_eq!(pki.shown(&wire).await, "second");
    let run = socket.start("thoughts 3").await["run"].clone();
    assert_whole(&socket.events(&run).await);

    // By itself, too.
    let (certificate, key) = pki.pair("third", 20);
    pki.write(&certificate, &key);
    until("the third certificate", || async { pki.shown(&wire).await == "third" }).await;
    assert_eq!(socket.call(serde_json::json!({"frame": "ping", "n": 1})).await["frame"], "pong");
    until("its end in the health", || async {
        let report = wire.observer.health().report().await;
        report.certificates[0].status == Status::Warn && report.certificates[0].problem.is_none()
    })
    .await;
    assert_eq!(wire.statistics().connections, 1);
}

#[tokio::test]
async fn a_bad_pair_leaves_the_last_good_one_and_the_host_hears_of_it() {
    let pki = Pki::new();
    let (certificate, key) = pki.pair("first", 60);
    pki.write(&certificate, &key);
    let wire = start(&pki).await;
    let (other, other_key) = pki.pair("second", 60);
    let ended = pki.pair("third", -1);
    for (certificate, key, told) in [
        (other.as_str(), key.as_str(), "does not belong to the certificate"),
        ("", other_key.as_str(), "is no certificate in PEM"),
        (other.as_str(), "-----BEGIN", "is no private key in PEM"),
        (ended.0.as_str(), ended.1.as_str(), "has ended at"),
    ] {
        pki.write(certificate, key);
        let error = wire.tls.as_ref().unwrap().reload().await.unwrap_err();
        assert_eq!(error.kind(), Kind::Config);
        assert!(error.message().contains(told), "{error}");
        assert_eq!(pki.shown(&wire).await, "first");
    }
    std::fs::remove_file(pki.files().private_key).unwrap();
    assert!(wire.tls.as_ref().unwrap().reload().await.is_err());
    until("the problem in the health", || async {
        let report = wire.observer.health().report().await;
        let line = &report.certificates[0];
        let problem = line.problem.as_ref();
        problem.is_some_and(|problem| problem.contains("private_key: cannot be read"))
            && line.not_after.is_some()
            && report.status == Status::Warn
    })
    .await;
    assert!(wire.observer.errors().groups().iter().any(|group| group.operation == "server.tls"));
    assert_eq!(pki.shown(&wire).await, "first");

    pki.write(&certificate, &key);
    until("the recovery", || async {
        wire.observer.health().report().await.certificates[0].problem.is_none()
    })
    .await;
}

#[tokio::test]
async fn the_end_of_the_certificate_is_known_to_health() {
    let pki = Pki::new();
    let (certificate, key) = pki.pair("first", 40);
    pki.write(&certificate, &key);
    let wire = start(&pki).await;
    pki.shown(&wire).await;
    for (days, line, node) in [
        (0, Status::Pass, Status::Pass),
        (15, Status::Warn, Status::Warn),
        (23, Status::Fail, Status::Warn),
        (3, Status::Fail, Status::Fail),
    ] {
        wire.clock.advance(days * DAY);
        let report = wire.observer.health().report().await;
        assert_eq!(
            (report.certificates[0].status, report.status),
            (line, node),
            "{days} more days"
        );
    }
}

#[tokio::test]
async fn only_http_1_1_is_spoken_and_a_handshake_ends_in_time() {
    let pki = Pki::new();
    let (certificate, key) = pki.pair("first", 60);
    pki.write(&certificate, &key);
    let mut settings = Settings { tls: Some(pki.files()), ..Settings::default() };
    settings.transport.http.headers_within = Duration::from_secs(1);
    let wire = Wire::start_with(settings).await;
    let stream = pki.connect(&wire).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let tcp = TcpStream::connect(wire.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    assert!(pki.connector(&[b"h2"]).connect(name, tcp).await.is_err());

    let mut silent = TcpStream::connect(wire.address).await.unwrap();
    let began = std::time::Instant::now();
    let mut end = Vec::new();
    let hung_up = tokio::time::timeout(Duration::from_secs(5), silent.read_to_end(&mut end)).await;
    assert!(hung_up.is_ok(), "whoever says nothing is hung up on");
    assert!(began.elapsed() >= Duration::from_millis(900));

    let mut plain = TcpStream::connect(wire.address).await.unwrap();
    plain.write_all(b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/"), "nothing is told without TLS");
}

/// The fields as a section has them.
#[derive(Debug, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(default)]
struct Fields {
    environment: apex_core::config::Environment,
    certificate: Option<PathBuf>,
    private_key: Option<PathBuf>,
}

impl Section for Fields {
    fn check(&self, checks: &mut Checks<'_>) {
        tls::check(self.certificate.as_deref(), self.private_key.as_deref(), checks);
    }
}

#[test]
fn a_configuration_with_a_bad_pair_does_not_start() {
    let pki = Pki::new();
    let (certificate, key) = pki.pair("first", 60);
    let (other, other_key) = pki.pair("second", 60);
    let ended = pki.pair("third", -1);
    let load = |certificate: &str, private_key: &str| {
        let variables = [("APEX_CERTIFICATE", certificate), ("APEX_PRIVATE_KEY", private_key)];
        let given = variables.into_iter().filter(|(_, value)| !value.is_empty());
        match Loader::new().environment(given).load::<Fields>() {
            Ok(_) => Vec::new(),
            Err(report) => {
                assert!(!report.to_string().contains("PRIVATE KEY"));
                report.faults.into_iter().map(|fault| (fault.key, fault.code)).collect()
            }
        }
    };
    let files = pki.files();
    let (chain_file, key_file) =
        (files.certificate.display().to_string(), files.private_key.display().to_string());
    assert_eq!(load("", ""), []);
    for (one, other, missing) in
        [(chain_file.as_str(), "", "private_key"), ("", key_file.as_str(), "certificate")]
    {
        assert_eq!(load(one, other), [(missing.to_owned(), FaultCode::Missing)]);
    }
    for (certificate, key, field, code) in [
        (&other, &key, "private_key", FaultCode::Conflict),
        (&ended.0, &ended.1, "certificate", FaultCode::Range),
        (&key, &key, "certificate", FaultCode::Format),
        (&other, &other, "private_key", FaultCode::Format),
    ] {
        pki.write(certificate, key);
        assert_eq!(load(&chain_file, &key_file), [(field.to_owned(), code)]);
    }
    let folder = pki.folder.path().display().to_string();
    assert_eq!(load(&folder, &key_file), [("certificate".to_owned(), FaultCode::Unreadable)]);
    pki.write(&certificate, &key);
    assert_eq!(load(&chain_file, &key_file), []);
    pki.write(&other, &other_key);
    std::fs::set_permissions(&files.private_key, {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::Permissions::from_mode(0o644)
    })
    .unwrap();
    assert_eq!(load(&chain_file, &key_file), [("private_key".to_owned(), FaultCode::SecretMode)]);
}

#[test]
fn what_is_not_good_yet_is_refused() {
    let pki = Pki::new();
    let (certificate, key) = pki.pair("first", 60);
    pki.write(&certificate, &key);
    #[derive(Debug)]
    struct Past;
    impl apex_core::clock::Clock for Past {
        fn now(&self) -> apex_core::clock::Timestamp {
            apex_core::clock::Clock::now(&SystemClock).minus(100 * DAY)
        }
    }
    let error = Tls::open(pki.files(), Arc::new(Past)).unwrap_err();
    assert!(error.message().contains("is not good before"), "{error}");
    Tls::open(pki.files(), Arc::new(TestClock::default())).unwrap();
}
