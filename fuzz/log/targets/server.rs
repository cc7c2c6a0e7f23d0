//! A Redis of the target's own, on a Unix socket, which ends with this process.

use crate::script;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const SCRIPTS: [&str; 6] =
    [script::APPEND, script::CHECK, script::TAKE, script::PLANT, script::READ, script::ASKED];

pub struct Server {
    digests: Vec<String>,
    sent: Vec<u8>,
    replies: BufReader<UnixStream>,
    operations: u64,
    told: u64,
    /// Its standard input is held open: the server goes when it closes.
    _process: Child,
}

impl Server {
    pub fn start() -> Self {
        let folder = std::env::temp_dir().join(format!("apex-fuzz-log-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let socket = folder.join("redis.sock");
        let guard = "redis-server --port 0 --unixsocket \"$1\" --dir \"$2\" --save '' --appendonly no \
                     --logfile \"$2/log\" & server=$!; read _; kill $server; wait $server; rm -r \"$2\"";
        let process = Command::new("sh")
            .args(["-c", guard, "guard"])
            .args([&socket, &folder])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let stream = (0..500)
            .find_map(|_| {
                std::thread::sleep(Duration::from_millis(20));
                UnixStream::connect(&socket).ok()
            })
            .expect("redis-server is installed and starts");
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let replies = BufReader::with_capacity(64 * 1024, stream);
        let mut server = Self {
            digests: Vec::new(),
            sent: Vec::new(),
            replies,
            operations: 0,
            told: 0,
            _process: process,
        };
        for load in server.loads() {
            server.say(&load.iter().map(Vec::as_slice).collect::<Vec<_>>());
        }
        let digests = server.answers(SCRIPTS.len());
        server.digests = digests
            .into_iter()
            .map(|answer| String::from_utf8(answer[0].clone()).unwrap())
            .collect();
        server.operations = 0;
        server
    }

    /// The commands by which the server knows the scripts.
    pub fn loads(&self) -> Vec<Vec<Vec<u8>>> {
        let load =
            |source: &str| ["SCRIPT", "LOAD", source].map(|word| word.as_bytes().to_vec()).to_vec();
        SCRIPTS.map(load).to_vec()
    }

    /// Puts a command among those to be sent.
    pub fn say(&mut self, words: &[&[u8]]) {
        write!(self.sent, "*{}\r\n", words.len()).unwrap();
        for word in words {
            write!(self.sent, "${}\r\n", word.len()).unwrap();
            self.sent.extend_from_slice(word);
            self.sent.extend_from_slice(b"\r\n");
        }
    }

    /// Puts a script among those to be run.
    pub fn run(&mut self, source: &'static str, arguments: &[Vec<u8>]) {
        let place = SCRIPTS.iter().position(|known| *known == source).unwrap();
        let digest = self.digests[place].clone();
        let fixed: [&[u8]; 6] = [b"EVALSHA", digest.as_bytes(), b"3", b"{f}:s", b"{f}:e", b"{f}:c"];
        let words: Vec<&[u8]> =
            fixed.into_iter().chain(arguments.iter().map(Vec::as_slice)).collect();
        self.operations += 1;
        self.say(&words);
    }

    /// Sends what was said, and reads so many answers, each as the words in it.
    pub fn answers(&mut self, count: usize) -> Vec<Vec<Vec<u8>>> {
        self.replies.get_mut().write_all(&self.sent).unwrap();
        self.sent.clear();
        let answers = (0..count).map(|_| {
            let mut words = Vec::new();
            self.answer(&mut words);
            words
        });
        let answers = answers.collect();
        if self.operations >= self.told + 1_000_000 {
            self.told = self.operations;
            eprintln!("{} operations", self.operations);
        }
        answers
    }

    fn answer(&mut self, words: &mut Vec<Vec<u8>>) {
        let mut line = Vec::new();
        self.replies.read_until(b'\n', &mut line).unwrap();
        let rest = std::str::from_utf8(&line[1..]).unwrap().trim_end();
        match line[0] {
            b'*' => {
                for _ in 0..rest.parse::<i64>().unwrap().max(0) {
                    self.answer(words);
                }
            }
            b'$' => {
                let length: i64 = rest.parse().unwrap();
                if let Ok(length) = usize::try_from(length) {
                    let mut word = vec![0; length + 2];
                    self.replies.read_exact(&mut word).unwrap();
                    word.truncate(length);
                    words.push(word);
                }
            }
            b'-' => panic!("Redis refuses: {rest}"),
            _ => words.push(rest.as_bytes().to_vec()),
        }
    }
}
