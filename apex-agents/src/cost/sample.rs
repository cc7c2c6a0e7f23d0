//! A small usage file of our own making, with faults and waste planted in it, for a first run without any data.
//!
//! It is generated, always the same, and in our own format. What is planted is named by the constants, so that a test
//! can say what an analysis has to find.

use std::fmt::Write;

/// The name that the file goes by.
pub const NAME: &str = "sample-usage.csv";

/// The days that it covers, from 2026-10-20.
pub const DAYS: u64 = 20;
/// The requests of each of the three people on each day.
pub const DAILY: u64 = 6;
/// Calls that failed after 4,000 input tokens and were billed: claude-sonnet-4-5, $0.012 each.
pub const FAILED: u64 = 9;
/// Second and later copies of one question: gemini-2.5-flash, 3,000 in and 200 out, $0.0014 each.
pub const REPEATS: u64 = 5;
/// Requests of a nightly job, one every two seconds: gpt-4o, 2,000 in and 200 out, $0.007 each.
pub const BURST: u64 = 150;
/// Requests to a model that no catalogue knows.
pub const UNPRICED: u64 = 8;
/// The recorded cost of the one absurd row, for 980 tokens of gpt-4o that cost $0.00305.
pub const ABSURD_COST: &str = "250";

/// The file's bytes.
#[must_use]
pub fn csv() -> Vec<u8> {
    let mut file = Sample { csv: String::with_capacity(80 << 10), next: 0 };
    file.csv.push_str(
        "timestamp,request_id,user,session,provider,model,status,input_tokens,cached_tokens,output_tokens,cost_usd,\
         content_hash\n",
    );
    for day in 0..DAYS {
        for turn in 0..DAILY {
            let hour = 9 + turn;
            // Growing counts: no two requests look alike by chance.
            let grown = day * 7 + turn * 131;
            file.row(
                day,
                hour,
                5,
                "ana",
                "chat",
                &GPT_4O,
                "ok",
                [1_200 + grown, 0, 150 + turn],
                "",
            );
            file.row(
                day,
                hour,
                20,
                "ben",
                "review",
                &SONNET,
                "ok",
                [4_000 + grown, 2_500, 400 + turn],
                "",
            );
            file.row(
                day,
                hour,
                40,
                "cleo",
                "search",
                &FLASH,
                "ok",
                [2_000 + grown, 0, 90 + turn],
                "",
            );
        }
        match day {
            3 => (0..FAILED).for_each(|n| {
                file.row(day, 15, n, "ben", "review", &SONNET, "error", [4_000, 0, 0], "")
            }),
            6 => (0..=REPEATS).for_each(|n| {
                file.row(day, 15, n, "cleo", "faq", &FLASH, "ok", [3_000, 0, 200], "c0ffee")
            }),
            8 => file.absurd(day),
            10 => (0..BURST).for_each(|n| {
                file.line(
                    day,
                    7_200 + n * 2,
                    "nightly-report",
                    "",
                    &GPT_4O,
                    "ok",
                    [2_000, 0, 200],
                    None,
                    &format!("night-{n}"),
                );
            }),
            12 => (0..UNPRICED).for_each(|n| {
                file.row(day, 16, n, "ana", "trial", &IN_HOUSE, "ok", [500, 0, 50], "")
            }),
            14 => file.faults(),
            _ => {}
        }
    }
    file.csv.into_bytes()
}

/// A model with its price, in dollars per million tokens times 100, in the order input, cached, output.
struct Model {
    provider: &'static str,
    name: &'static str,
    prices: Option<[u64; 3]>,
}

const GPT_4O: Model = Model { provider: "openai", name: "gpt-4o", prices: Some([250, 125, 1_000]) };
const SONNET: Model =
    Model { provider: "anthropic", name: "claude-sonnet-4-5", prices: Some([300, 30, 1_500]) };
const FLASH: Model =
    Model { provider: "google", name: "gemini-2.5-flash", prices: Some([30, 3, 250]) };
const IN_HOUSE: Model = Model { provider: "in-house", name: "llama-4-tuned", prices: None };

struct Sample {
    csv: String,
    next: u64,
}

impl Sample {
    #[expect(clippy::too_many_arguments, reason = "one for each column")]
    fn row(
        &mut self,
        day: u64,
        hour: u64,
        minute: u64,
        user: &str,
        topic: &str,
        model: &Model,
        status: &str,
        tokens: [u64; 3],
        content: &str,
    ) {
        let session = format!("{user}-{topic}-{day}");
        let content =
            if content.is_empty() { format!("q{}", self.next) } else { content.to_owned() };
        self.line(
            day,
            hour * 3_600 + minute * 60,
            user,
            &session,
            model,
            status,
            tokens,
            None,
            &content,
        );
    }

    #[expect(clippy::too_many_arguments, reason = "one for each column")]
    fn line(
        &mut self,
        day: u64,
        second: u64,
        user: &str,
        session: &str,
        model: &Model,
        status: &str,
        tokens: [u64; 3],
        cost: Option<&str>,
        content: &str,
    ) {
        let [input, cached, output] = tokens;
        let cost = cost.map_or_else(
            || match model.prices {
                // Hundredths of a dollar per million tokens make units of 10^-8 dollars.
                Some([i, c, o]) => {
                    let units = (input - cached) * i + cached * c + output * o;
                    format!("{}.{:08}", units / 100_000_000, units % 100_000_000)
                }
                None => String::new(),
            },
            str::to_owned,
        );
        let (provider, name) = (model.provider, model.name);
        // 2026-10-20 is the first day; the sample ends before the tenth of November does.
        let (month, date) = if day < 12 { (10, 20 + day) } else { (11, day - 11) };
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        let id = self.next;
        self.next += 1;
        let _ = writeln!(
            self.csv,
            "2026-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}Z,req-{id:05},{user},{session},{provider},{name},{status},{input},{cached},{output},{cost},{content}"
        );
    }

    /// A row whose recorded cost is absurd.
    fn absurd(&mut self, day: u64) {
        self.line(
            day,
            50_000,
            "ana",
            "ana-chat-8",
            &GPT_4O,
            "ok",
            [900, 0, 80],
            Some(ABSURD_COST),
            "absurd",
        );
    }

    /// Rows that are no records: the row before them again, and three with nonsense in them.
    fn faults(&mut self) {
        let copy = self.csv.lines().last().unwrap_or_default().to_owned();
        for line in [
            copy.as_str(),
            "2026-11-03T17:00:00Z,bad-1,ana,s,openai,gpt-4o,ok,-40,0,5,0.0001,b1",
            "2026-11-03T17:01:00Z,bad-2,ana,s,openai,gpt-4o,ok,many,0,5,0.0001,b2",
            "1970-01-01T00:00:00Z,bad-3,ana,s,openai,gpt-4o,ok,40,0,5,0.0001,b3",
        ] {
            self.csv.push_str(line);
            self.csv.push('\n');
        }
    }
}
