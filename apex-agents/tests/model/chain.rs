//! The chain's rules, by the clock of the tests.

use crate::server::{Server, Step, chat_answer, chat_text, quick, response, stream, stream_head};
use apex_agents::cost::Catalogue;
use apex_agents::model::{
    Abilities, Chain, ChainEvent, ChainLink, ChainOptions, FaultReason, Format, HttpOptions,
    HttpProvider, Image, MemoryUsage, Message, Meter, ModelEvent, ModelProvider, ModelRequest,
    Offline, Part, Role,
};
use apex_core::clock::SystemClock;
use apex_core::config::Secret;
use apex_core::error::{Error, Kind};
use apex_core::health::BreakerSource as _;
use apex_core::id::UserId;
use apex_core::money::Usd;
use apex_core::principal::{Principal, Scopes};
use apex_core::resilience::BreakerOptions;
use apex_core::usage::AttemptOutcome;
use std::sync::Arc;
use std::time::{Duration, Instant};

struct Setup {
    servers: Vec<Server>,
    chain: Chain,
    usage: Arc<MemoryUsage>,
}

/// A chain of servers that pass for OpenAI, each with its answers.
async fn setup(answers: impl IntoIterator<Item = Vec<Vec<Step>>>, options: ChainOptions) -> Setup {
    let mut servers = Vec::new();
    for answers in answers {
        servers.push(Server::new(answers).await);
    }
    let links: Vec<_> = servers
        .iter()
        .map(|server| {
            let provider = Arc::new(server.provider(Format::OpenAiChat));
            ChainLink::new(provider as Arc<dyn ModelProvider>, "gpt-4o")
        })
        .collect();
    let (meter, usage) = meter();
    let chain = Chain::new(links, options, meter).unwrap();
    Setup { servers, chain, usage }
}

fn meter() -> (Meter, Arc<MemoryUsage>) {
    let usage = Arc::new(MemoryUsage::new(100));
    let catalogue = Arc::new(Catalogue::embedded().unwrap());
    (Meter::new(catalogue, Arc::new(SystemClock), Arc::clone(&usage) as _), usage)
}

fn fast() -> ChainOptions {
    ChainOptions { backoff: Duration::from_millis(10), ..ChainOptions::default() }
}

fn me() -> Principal {
    Principal::vouched(UserId::new(&SystemClock), Scopes::USER)
}

fn hi() -> Arc<ModelRequest> {
    Arc::new(ModelRequest::user("hi"))
}

impl Setup {
    async fn ask(&self) -> Result<String, Error> {
        let answer = self.chain.complete(&me(), hi()).await?;
        Ok(answer.response.text())
    }

    fn asked(&self) -> Vec<usize> {
        self.servers.iter().map(|server| server.requests().len()).collect()
    }

    fn outcomes(&self) -> Vec<(AttemptOutcome, Option<String>)> {
        let attempts = self.usage.attempts().into_iter();
        attempts.map(|attempt| (attempt.outcome, attempt.reason)).collect()
    }
}

fn good(text: &str) -> Vec<Vec<Step>> {
    vec![stream(&chat_answer(text))]
}

fn refuses(status: &str, headers: &str, body: &str) -> Vec<Vec<Step>> {
    vec![response(status, headers, body)]
}

#[tokio::test]
async fn passing_trouble_is_tried_again_and_then_passed_over() {
    let setup = setup([refuses("500 Oops", "", ""), good("second")], fast()).await;
    assert_eq!(setup.ask().await.unwrap(), "second");
    assert_eq!(setup.asked(), [2, 1]);
    let failed = || (AttemptOutcome::Failed, Some("failed".to_owned()));
    assert_eq!(setup.outcomes(), [failed(), failed(), (AttemptOutcome::Answered, None)]);
    let attempts = setup.usage.attempts();
    // A refusal costs nothing; gpt-4o costs $2.50 and $10 a million.
    assert_eq!(attempts[0].usage.cost_usd, Some(Usd::ZERO));
    assert_eq!(attempts[2].usage.cost_usd, Some("0.0035".parse().unwrap()));
    assert_eq!(attempts[2].request.as_deref(), Some("req_7"));
}

#[tokio::test]
async fn what_waiting_does_not_help_fails_over_at_once() {
    let quota = r#"{"error":{"message":"m","code":"insufficient_quota"}}"#;
    for (status, body) in
        [("429 Too Many", quota), ("401 No", ""), ("404 No", ""), ("413 Large", "")]
    {
        let setup = setup([refuses(status, "", body), good("second")], fast()).await;
        assert_eq!(setup.ask().await.unwrap(), "second");
        assert_eq!(setup.asked(), [1, 1], "{status}");
    }
}

#[tokio::test]
async fn what_fails_everywhere_ends_the_chain() {
    let setup = setup([refuses("400 Bad", "", ""), good("second")], fast()).await;
    assert_eq!(setup.ask().await.unwrap_err().kind(), Kind::BadRequest);
    assert_eq!(setup.asked(), [1, 0]);
}

#[tokio::test]
async fn an_answer_that_breaks_is_taken_back_before_the_next_begins() {
    let broken = vec![vec![stream_head(), Step::Bytes(chat_text("half ").into()), Step::Close]];
    let options = ChainOptions { tries: 1, ..fast() };
    let setup = setup([broken, good("whole")], options).await;
    let mut stream = setup.chain.stream(&me(), hi());
    let mut told = Vec::new();
    while let Some(event) = stream.next().await {
        told.push(match event.unwrap() {
            ChainEvent::Begun { attempt, .. } => format!("begun {attempt}"),
            ChainEvent::Piece(ModelEvent::Text(text)) => text,
            ChainEvent::Piece(other) => format!("{other:?}"),
            ChainEvent::Retracted { attempt, usage, .. } => {
                assert_eq!(usage.cost_usd, None, "nobody said what the half cost");
                format!("retracted {attempt}")
            }
            other @ (ChainEvent::Failed { .. } | ChainEvent::Dropped { .. }) => {
                format!("{other:?}")
            }
            ChainEvent::Done(answer) => {
                assert_eq!(answer.total.cost_usd, None);
                assert_eq!(answer.usage.cost_usd, Some("0.0035".parse().unwrap()));
                format!("done {}", answer.attempt)
            }
        });
    }
    assert_eq!(told, ["begun 1", "half ", "retracted 1", "begun 2", "whole", "done 2"]);
    assert_eq!(setup.usage.attempts()[0].request.as_deref(), Some("req_7"));
    assert_eq!(
        setup.outcomes(),
        [(AttemptOutcome::Retracted, Some("broken".to_owned())), (AttemptOutcome::Answered, None)]
    );
    assert!(setup.usage.attempts()[0].estimated);
}

#[tokio::test]
async fn what_a_broken_answer_had_used_is_billed() {
    let start = "data: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"model\":\"claude-sonnet-4-5\",\"usage\":{\"input_tokens\":1000,\"output_tokens\":1}}}\n\n\
        data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"half\"}}\n\n";
    let server = Server::new([vec![stream_head(), Step::Bytes(start.into()), Step::Close]]).await;
    let (meter, usage) = meter();
    let provider = Arc::new(server.provider(Format::Anthropic));
    let links =
        [ChainLink::new(provider, "claude-sonnet-4-5"), ChainLink::new(Arc::new(Offline), "none")];
    let options = ChainOptions { tries: 1, ..fast() };
    let chain = Chain::new(links, options, meter).unwrap();
    let error = chain.complete(&me(), hi()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    let attempts = usage.attempts();
    // $3 and $15 a million.
    assert_eq!(attempts[0].usage.cost_usd, Some("0.003015".parse().unwrap()));
    assert_eq!(attempts[1].reason.as_deref(), Some(FaultReason::Offline.word()));
}

#[tokio::test]
async fn retry_after_is_obeyed_or_passed_over_and_remembered() {
    let short = vec![
        response("429 Too Many", "retry-after-ms: 300\r\n", ""),
        stream(&chat_answer("first")),
    ];
    let patient = setup([short, good("second")], fast()).await;
    let began = Instant::now();
    assert_eq!(patient.ask().await.unwrap(), "first");
    assert!(began.elapsed() >= Duration::from_millis(300));

    let long = refuses("429 Too Many", "retry-after: 60\r\n", "");
    let options = ChainOptions { sticky: Duration::ZERO, ..fast() };
    let busy = setup([long, good("second")], options).await;
    for _ in 0..3 {
        assert_eq!(busy.ask().await.unwrap(), "second");
    }
    assert_eq!(busy.asked(), [1, 3], "it was left alone for as long as it asked");
}

#[tokio::test]
async fn a_limit_is_respected_before_it_is_hit() {
    let last = "content-type: text/event-stream\r\nx-ratelimit-limit-requests: 10\r\n\
        x-ratelimit-remaining-requests: 0\r\nx-ratelimit-reset-requests: 1m0s\r\n";
    let first = vec![response("200 OK", last, &chat_answer("first"))];
    let setup = setup([first, good("second")], fast()).await;
    assert_eq!(setup.ask().await.unwrap(), "first");
    assert_eq!(setup.ask().await.unwrap(), "second");
    assert_eq!(setup.asked(), [1, 1]);
}

#[tokio::test]
async fn who_stands_in_stays_for_a_while() {
    let bad = || refuses("500 Oops", "", "");
    let options = ChainOptions { tries: 1, sticky: Duration::from_secs(2), ..fast() };
    let setup = setup([bad(), good("second")], options).await;
    for _ in 0..3 {
        assert_eq!(setup.ask().await.unwrap(), "second");
    }
    assert_eq!(setup.asked(), [1, 3]);
    tokio::time::sleep(Duration::from_millis(2_050)).await;
    setup.ask().await.unwrap();
    assert_eq!(setup.asked(), [2, 4]);
}

#[tokio::test]
async fn a_breaker_leaves_alone_what_does_not_answer() {
    let options = ChainOptions {
        tries: 1,
        sticky: Duration::ZERO,
        breaker: BreakerOptions { least_calls: 3, ..ChainOptions::default().breaker },
        ..fast()
    };
    let setup = setup([refuses("500 Oops", "", ""), good("second")], options).await;
    for _ in 0..6 {
        assert_eq!(setup.ask().await.unwrap(), "second");
    }
    assert_eq!(setup.asked(), [3, 6]);
    assert_eq!(setup.chain.breakers()[0].dependency(), "openai:gpt-4o");
}

#[tokio::test]
async fn a_ceiling_stops_further_attempts() {
    let start = vec![vec![stream_head(), Step::Bytes(chat_text("half ").into()), Step::Close]];
    let options = ChainOptions { tries: 1, ceiling: Some("0.01".parse().unwrap()), ..fast() };
    let setup = setup([start, good("second")], options).await;
    assert_eq!(setup.ask().await.unwrap_err().kind(), Kind::BudgetExhausted);
    assert_eq!(setup.asked(), [1, 0], "what the half cost is not known");
}

#[tokio::test]
async fn what_a_model_cannot_do_is_not_asked_of_it() {
    let servers = [Server::new(good("blind")).await, Server::new(good("sees")).await];
    let [blind, sees] = servers
        .each_ref()
        .map(|server| ChainLink::new(Arc::new(server.provider(Format::OpenAiChat)), "gpt-4o"));
    let blind = blind.with_abilities(Abilities { images: false, ..Abilities::ALL });
    let picture = Arc::new(ModelRequest {
        messages: vec![Message {
            role: Role::User,
            parts: vec![Part::Image(Image::Url("https://example.com/a.png".to_owned()))],
        }],
        ..ModelRequest::default()
    });
    let (meter, _) = meter();
    let chain = Chain::new([blind.clone(), sees], fast(), meter.clone()).unwrap();
    let answer = chain.complete(&me(), Arc::clone(&picture)).await.unwrap();
    assert_eq!(answer.response.text(), "sees");
    let chain = Chain::new([blind], fast(), meter).unwrap();
    assert_eq!(chain.complete(&me(), picture).await.unwrap_err().kind(), Kind::Config);
}

#[tokio::test]
async fn an_answer_that_nobody_waits_for_is_recorded_as_abandoned() {
    let endless = vec![vec![
        stream_head(),
        Step::Bytes(chat_text("Hello").into()),
        Step::Endless(b": ping\n\n".to_vec()),
    ]];
    let mut setup = setup([endless], fast()).await;
    let mut stream = setup.chain.stream(&me(), hi());
    while !matches!(stream.next().await, Some(Ok(ChainEvent::Piece(_)))) {}
    drop(stream);
    let attempts = setup.usage.attempts();
    assert_eq!(attempts.len(), 1);
    assert_eq!(attempts[0].outcome, AttemptOutcome::Abandoned);
    assert_eq!(attempts[0].usage.cost_usd, None);
    tokio::time::timeout(Duration::from_secs(5), setup.servers[0].closed.recv()).await.unwrap();
}

#[tokio::test]
async fn a_slow_model_is_hedged_and_the_slower_one_is_dropped_and_billed() {
    let slow = || vec![vec![Step::Wait(Duration::from_secs(3)), stream_head(), Step::Close]];
    let hedge = Some(Duration::from_millis(50));
    let options = ChainOptions { hedge, sticky: Duration::ZERO, ..fast() };
    let mut setup = setup([slow(), good("second")], options.clone()).await;
    assert_eq!(setup.ask().await.unwrap(), "second");
    assert_eq!(setup.asked(), [1, 1]);
    assert_eq!(
        setup.outcomes(),
        [(AttemptOutcome::Abandoned, None), (AttemptOutcome::Answered, None)]
    );
    assert_eq!(setup.usage.attempts()[0].usage.cost_usd, None);
    tokio::time::timeout(Duration::from_secs(5), setup.servers[0].closed.recv()).await.unwrap();
    // One that is quick enough is not hedged; one that fails leaves the other to answer.
    let quick = self::setup([good("first"), good("second")], options.clone()).await;
    assert_eq!(quick.ask().await.unwrap(), "first");
    assert_eq!(quick.asked(), [1, 0]);
    let late = vec![vec![Step::Wait(Duration::from_millis(150)), Step::Close]];
    let answers = vec![
        vec![Step::Wait(Duration::from_millis(400))]
            .into_iter()
            .chain(stream(&chat_answer("second")))
            .collect(),
    ];
    let fails = self::setup([late, answers], options.clone()).await;
    assert_eq!(fails.ask().await.unwrap(), "second");
    assert_eq!(fails.asked(), [1, 1]);
    let both = ChainOptions { ceiling: Some(Usd::ZERO), ..options };
    let (meter, _) = meter();
    let link = ChainLink::new(Arc::new(Offline), "none");
    assert_eq!(Chain::new([link], both, meter).unwrap_err().kind(), Kind::Config);
}

#[tokio::test]
async fn retries_are_a_share_of_the_calls() {
    let options =
        ChainOptions { retry_share: 0.0, retries_per_second: 0, sticky: Duration::ZERO, ..fast() };
    let setup = setup([refuses("500 Oops", "", ""), good("second")], options).await;
    assert_eq!(setup.ask().await.unwrap(), "second");
    assert_eq!(setup.asked(), [1, 1], "none are allowed");
}

#[tokio::test]
async fn offline_answers_nothing_and_an_empty_chain_is_refused() {
    let (meter, _) = meter();
    let chain =
        Chain::new([ChainLink::new(Arc::new(Offline), "none")], fast(), meter.clone()).unwrap();
    let error = chain.complete(&me(), hi()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert_eq!(Chain::new([], fast(), meter).unwrap_err().kind(), Kind::Config);
}

#[tokio::test]
async fn a_wrong_key_gives_one_clear_line() {
    let server = Server::new(refuses("401 Unauthorized", "", "")).await;
    let key = Some(Secret::new("sk-wrong".to_owned()));
    let options = HttpOptions { ..quick() };
    let url = format!("{}/v1", server.url);
    let provider =
        HttpProvider::compatible("openrouter", &url, key, options, Arc::new(SystemClock)).unwrap();
    let error = provider.complete("m", &ModelRequest::user("hi")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the provider refuses the key: check that it is whole, active and allowed: openrouter answered 401"
    );
}
