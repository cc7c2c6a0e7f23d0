//! The servers and the proxy do what they say.
#![allow(clippy::unwrap_used)]

use apex_test_services::{Kind, Options, Proxy, Replies, Server};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// Says a line back for each line.
fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().take(64) {
            let stream = stream.unwrap();
            std::thread::spawn(move || {
                for line in BufReader::new(&stream).lines().map_while(Result::ok) {
                    if (&stream).write_all(format!("{line}\n").as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

/// How long what has to come may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

struct Client(TcpStream);

impl Client {
    fn new(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }

    /// Says something that nothing comes back to.
    fn say_into_silence(&mut self, text: &str) {
        self.0.set_read_timeout(Some(Duration::from_millis(400))).unwrap();
        assert_eq!(self.say(text), Err(ErrorKind::WouldBlock));
        self.0.set_read_timeout(Some(PATIENCE)).unwrap();
    }

    /// What comes back; the kind of the error where nothing does.
    fn say(&mut self, text: &str) -> Result<String, ErrorKind> {
        self.0.write_all(format!("{text}\n").as_bytes()).map_err(|e| e.kind())?;
        self.hear(text.len() + 1)
    }

    fn hear(&mut self, bytes: usize) -> Result<String, ErrorKind> {
        let mut heard = vec![0; bytes];
        self.0.read_exact(&mut heard).map_err(|e| e.kind())?;
        Ok(String::from_utf8(heard).unwrap())
    }
}

#[test]
fn a_proxy_freezes_and_thaws_everything() {
    let proxy = Proxy::start(echo()).unwrap();
    let mut client = Client::new(proxy.port());
    assert_eq!(client.say("one").unwrap(), "one\n");
    proxy.freeze();
    client.say_into_silence("two");
    proxy.pass();
    assert_eq!(client.hear(4).unwrap(), "two\n");
    assert_eq!((proxy.open(), proxy.accepted()), (1, 1));
    assert_eq!(proxy.sent(), b"one\ntwo\n");
}

#[test]
fn a_proxy_abandons_old_connections_while_new_ones_work() {
    let proxy = Proxy::start(echo()).unwrap();
    let mut old = Client::new(proxy.port());
    assert_eq!(old.say("one").unwrap(), "one\n");
    proxy.abandon();
    proxy.pass();
    old.say_into_silence("two");
    assert_eq!(Client::new(proxy.port()).say("three").unwrap(), "three\n");
}

#[test]
fn a_proxy_cuts_by_reset_and_refuses() {
    let proxy = Proxy::start(echo()).unwrap();
    let mut client = Client::new(proxy.port());
    assert_eq!(client.say("one").unwrap(), "one\n");
    proxy.cut();
    assert_eq!(client.hear(1), Err(ErrorKind::ConnectionReset));
    proxy.refuse();
    let mut refused = Client::new(proxy.port());
    assert!(refused.say("two").is_err());
    proxy.pass();
    assert_eq!(Client::new(proxy.port()).say("three").unwrap(), "three\n");
}

#[test]
fn a_half_closed_connection_still_sends() {
    let proxy = Proxy::start(echo()).unwrap();
    let mut client = Client::new(proxy.port());
    assert_eq!(client.say("one").unwrap(), "one\n");
    proxy.half_close();
    assert_eq!(client.hear(1), Err(ErrorKind::UnexpectedEof));
    client.0.write_all(b"two\n").unwrap();
    let until = Instant::now() + PATIENCE;
    while proxy.sent() != b"one\ntwo\n" {
        assert!(Instant::now() < until, "{:?}", proxy.sent());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn replies_are_dropped_or_cut_off_where_told() {
    let proxy = Proxy::start(echo()).unwrap();
    let (mut dropped, mut cut) = (Client::new(proxy.port()), Client::new(proxy.port()));
    assert_eq!(dropped.say("one").unwrap(), "one\n");
    proxy.replies(Replies::DropAfter(2));
    dropped.say_into_silence("two");
    proxy.replies(Replies::CutAfter(2));
    cut.0.write_all(b"two\n").unwrap();
    assert_eq!(cut.hear(2).unwrap(), "tw");
    assert_eq!(cut.hear(1), Err(ErrorKind::ConnectionReset));
    proxy.pass();
    proxy.lose_reply_to(b"COMMIT");
    let mut client = Client::new(proxy.port());
    assert_eq!(client.say("begin").unwrap(), "begin\n");
    assert_eq!(client.say("COMMIT"), Err(ErrorKind::ConnectionReset));
    assert_eq!(Client::new(proxy.port()).say("COMMIT").unwrap(), "COMMIT\n");
}

#[test]
fn pieces_come_late_and_in_slices_and_elsewhere() {
    let (first, second) = (echo(), TcpListener::bind("127.0.0.1:0").unwrap());
    let proxy = Proxy::start(first).unwrap();
    let mut client = Client::new(proxy.port());
    proxy.delay(Duration::from_millis(60));
    let began = Instant::now();
    assert_eq!(client.say("one").unwrap(), "one\n");
    assert!(began.elapsed() >= Duration::from_millis(120));
    proxy.pass();
    proxy.slice(1);
    assert_eq!(client.say("two").unwrap(), "two\n");
    proxy.redirect(second.local_addr().unwrap().port());
    let _client = Client::new(proxy.port());
    second.accept().unwrap();
}

#[test]
fn a_server_is_killed_restarted_and_paused() {
    let Some(mut server) = Server::start_or_skip(Kind::Redis, &Options::default()) else { return };
    assert!(server.port() < 32_768);
    assert_eq!(Client::new(server.port()).say("ECHO hey").unwrap(), "$3\r\nhey\r\n");
    server.kill("redis");
    assert!(TcpStream::connect(("127.0.0.1", server.port())).is_err());
    let port = server.port();
    server.restart("redis").unwrap();
    assert_eq!(server.port(), port);
    assert_eq!(Client::new(port).say("ECHO hey").unwrap(), "$3\r\nhey\r\n");
    server.pause("redis");
    Client::new(port).say_into_silence("ECHO hey");
    server.resume("redis");
    assert_eq!(Client::new(port).say("ECHO hey").unwrap(), "$3\r\nhey\r\n");
    server.pause("redis");
    let pid = server.node("redis").pid;
    drop(server);
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn data_in_a_named_folder_outlive_the_server() {
    let folder = std::env::temp_dir().join(format!("apex-services-test-{}", std::process::id()));
    let mut options = Options { folder: Some(folder.clone()), ..Options::default() };
    let Some(server) = Server::start_or_skip(Kind::Postgres, &options) else { return };
    assert!(folder.join("data/PG_VERSION").exists());
    options.port = Some(server.port());
    let url = server.url().to_owned();
    server.kill("postgres");
    drop(server);
    let server = Server::start(Kind::Postgres, &options).unwrap();
    assert_eq!(server.url(), url);
    drop(server);
    std::fs::remove_dir_all(folder).unwrap();
}
