//! Carries out what a [`Connection`] asks: calls the runner and the stores, follows streams, keeps the time. It knows
//! no socket; a shell such as `websocket` pumps frames in and out.

use crate::call::{in_time, to_the_end};
use crate::connection::{
    Action, Brought, Connection, Input, Moment, Opened, Outgoing, Stream, StreamKey,
};
use crate::gateway::Gateway;
use crate::handshake::Caller;
use crate::hub::{Notice, Seat};
use apex_core::auth::{Door, Entry, Way};
use apex_core::error::{Result, correlation};
use apex_core::id::CorrelationId;
use apex_core::principal::Principal;
use apex_core::run::{InboxSubscription, Position, Subscription};
use futures_util::StreamExt as _;
use futures_util::future::{AbortHandle, Abortable, Aborted, BoxFuture};
use futures_util::stream::FuturesUnordered;
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// How often a stream is read again while its store is away.
const TRIES: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// One connection with everything that it has under way.
pub(crate) struct Driver {
    gateway: Arc<Gateway>,
    connection: Connection,
    caller: Caller,
    seat: Seat,
    opened: Instant,
    timer: Pin<Box<Sleep>>,
    calls: FuturesUnordered<BoxFuture<'static, Input<'static>>>,
    streams: FuturesUnordered<Abortable<BoxFuture<'static, Step>>>,
    aborts: HashMap<StreamKey, AbortHandle>,
}

/// What came of one look at a stream.
enum Step {
    Opened(StreamKey, Result<(Opened, Reader)>),
    Brought(StreamKey, Reader, Brought),
}

enum Reader {
    Run(Box<Subscription>),
    Inbox(Box<InboxSubscription>),
}

impl Driver {
    pub(crate) fn new(
        gateway: Arc<Gateway>,
        seat: Seat,
        caller: Caller,
        entry: Option<Entry>,
    ) -> Self {
        let opened = Instant::now();
        let now = Moment { elapsed: Duration::ZERO, at: gateway.now() };
        let connection =
            Connection::new(seat.id(), gateway.config.connection, gateway.limits, entry, now);
        Self {
            gateway,
            connection,
            caller,
            seat,
            opened,
            timer: Box::pin(tokio::time::sleep_until(opened)),
            calls: FuturesUnordered::new(),
            streams: FuturesUnordered::new(),
            aborts: HashMap::new(),
        }
    }

    /// Takes in what came from the client.
    pub(crate) fn receive(&mut self, input: Input<'_>) {
        let now = self.now();
        self.connection.handle(input, now);
        while let Some(error) = self.connection.next_failure() {
            self.gateway.observer.errors().record(&error, self.connection.user());
        }
    }

    /// What is to be sent next.
    pub(crate) fn next_outgoing(&mut self) -> Option<Outgoing> {
        self.connection.next_outgoing()
    }

    /// Whether the client may be listened to.
    pub(crate) fn may_read(&self) -> bool {
        self.connection.may_read()
    }

    /// Whether the client did not even take the close.
    pub(crate) fn is_over(&self) -> bool {
        self.connection.is_over()
    }

    /// Goes on with everything that can go on. Ready when that may have changed what is to be sent or read.
    pub(crate) fn poll_progress(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut progress = self.poll_notice(cx);
        progress |= self.carry_out_all();
        while let Poll::Ready(Some(answer)) = self.calls.poll_next_unpin(cx) {
            self.answer(answer);
            progress = true;
        }
        // A client that is behind is not read for: its cursor stays, and the log keeps what it has not seen.
        while self.connection.may_deliver() {
            match self.streams.poll_next_unpin(cx) {
                Poll::Ready(Some(step)) => {
                    self.step(step);
                    progress = true;
                }
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        progress |= self.poll_timer(cx);
        progress |= self.carry_out_all();
        if progress { Poll::Ready(()) } else { Poll::Pending }
    }

    fn now(&self) -> Moment {
        Moment { elapsed: self.opened.elapsed(), at: self.gateway.now() }
    }

    fn poll_notice(&mut self, cx: &mut Context<'_>) -> bool {
        match self.seat.poll_notice(cx) {
            Poll::Ready(Notice::Drain(draining)) => self.receive(Input::Drain(draining)),
            Poll::Ready(Notice::Revoked) => self.receive(Input::Revoked),
            Poll::Pending => return false,
        }
        true
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> bool {
        let now = self.now();
        let Some(due) = self.connection.deadline(now) else {
            return false;
        };
        // What is due already needs no timer: one that is set to the past again and again would never be ready.
        if due > now.elapsed {
            let due = self.opened + due;
            if self.timer.deadline() != due {
                self.timer.as_mut().reset(due);
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return false;
            }
        }
        self.receive(Input::Tick);
        true
    }

    fn answer(&mut self, answer: Input<'static>) {
        let answer = match answer {
            // Who the client is decides whose share of connections it uses.
            Input::Entered(id, Ok(entry)) => {
                let seated = self.seat.identify(&entry.principal);
                Input::Entered(id, seated.map(|()| entry))
            }
            other => other,
        };
        self.receive(answer);
    }

    fn step(&mut self, step: Result<Step, Aborted>) {
        match step {
            Ok(Step::Opened(key, Ok((opened, reader)))) => {
                self.receive(Input::Opened(key, Ok(opened)));
                self.read_on(key, reader);
            }
            Ok(Step::Opened(key, Err(error))) => {
                self.aborts.remove(&key);
                self.receive(Input::Opened(key, Err(error)));
            }
            Ok(Step::Brought(key, reader, brought)) => {
                let ends = matches!(
                    brought,
                    Brought::Broken(_) | Brought::Run(apex_core::run::Delivery::End(_))
                );
                self.receive(Input::Brought(key, brought));
                if ends {
                    self.aborts.remove(&key);
                } else {
                    self.read_on(key, reader);
                }
            }
            Err(Aborted) => {}
        }
    }

    fn carry_out_all(&mut self) -> bool {
        let mut any = false;
        while let Some(action) = self.connection.next_action() {
            self.carry_out(action);
            any = true;
        }
        if self.connection.is_closing() && !self.aborts.is_empty() {
            self.aborts.clear();
            self.streams.clear();
        }
        any
    }

    fn carry_out(&mut self, action: Action) {
        let gateway = Arc::clone(&self.gateway);
        let longest = gateway.config.connection.call_within;
        let id = match &action {
            Action::Start(_, _, message) => correlation::of_message(message.request_id),
            _ => CorrelationId::new(&*gateway.clock),
        };
        let call: BoxFuture<'static, Input<'static>> = match action {
            Action::Authenticate(id, credential) => {
                let presented = self.caller.presents(Way::Hello, Door::Connection);
                let connection = self.seat.id();
                Box::pin(async move {
                    let entered = match gateway.verify(&credential, &presented).await {
                        Ok(entry) => {
                            let shared = gateway.hub.share(connection, &entry.principal).await;
                            shared.map(|()| entry)
                        }
                        refused => refused,
                    };
                    Input::Entered(id, entered)
                })
            }
            Action::Start(id, who, message) => Box::pin(async move {
                let start = async move { gateway.runner.start(&who, message).await };
                Input::Started(id, to_the_end(longest, start).await)
            }),
            Action::Cancel(id, who, run) => Box::pin(async move {
                let cancel = async move { gateway.runner.cancel(&who, run).await };
                Input::Done(id, to_the_end(longest, cancel).await)
            }),
            Action::Stop(id, who, run, step) => Box::pin(async move {
                let stop = async move { gateway.runner.stop(&who, run, step).await };
                Input::Done(id, to_the_end(longest, stop).await)
            }),
            Action::Decide(id, who, run, approval, digest, decision) => Box::pin(async move {
                let decide = async move {
                    let runner = &gateway.runner;
                    runner.decide(&who, run, approval, &digest, decision).await
                };
                Input::Done(id, to_the_end(longest, decide).await)
            }),
            Action::Follow(key, who, stream, position) => {
                let opening = open(gateway, key, who, stream, position);
                return self.spawn(key, correlation::within(id, opening));
            }
            Action::Leave(key) => {
                if let Some(abort) = self.aborts.remove(&key) {
                    abort.abort();
                }
                return;
            }
        };
        self.calls.push(Box::pin(correlation::within(id, call)));
    }

    fn read_on(&mut self, key: StreamKey, reader: Reader) {
        // A stream that was left, or a connection that closes, is read no further.
        if self.aborts.contains_key(&key) && !self.connection.is_closing() {
            self.spawn(key, read(key, reader));
        }
    }

    fn spawn(&mut self, key: StreamKey, step: impl Future<Output = Step> + Send + 'static) {
        let (abort, registration) = AbortHandle::new_pair();
        self.aborts.insert(key, abort);
        let step: BoxFuture<'static, Step> = Box::pin(step);
        self.streams.push(Abortable::new(step, registration));
    }
}

async fn open(
    gateway: Arc<Gateway>,
    key: StreamKey,
    who: Principal,
    stream: Stream,
    position: Position,
) -> Step {
    let longest = gateway.config.connection.call_within;
    let log = Arc::clone(&gateway.stores.runs);
    let wakeup = &*gateway.stores.wakeup;
    let opened = match stream {
        Stream::Run(run) => {
            let opening = Subscription::open(log, wakeup, &gateway.live, who, run, position);
            in_time(longest, opening).await.map(|(view, subscription)| {
                let opened = Opened {
                    epoch: view.epoch,
                    head: view.head,
                    oldest: view.oldest,
                    recovered: subscription.recovered(),
                    state: Some(view.state),
                };
                (opened, Reader::Run(Box::new(subscription)))
            })
        }
        Stream::Inbox => {
            let opening = InboxSubscription::open(log, wakeup, who, position);
            in_time(longest, opening).await.map(|(page, inbox)| {
                let opened = Opened {
                    epoch: page.epoch,
                    head: page.head,
                    oldest: page.oldest,
                    recovered: inbox.recovered(),
                    state: None,
                };
                (opened, Reader::Inbox(Box::new(inbox)))
            })
        }
    };
    Step::Opened(key, opened)
}

/// Reads on; a store that is away for a moment is asked again.
async fn read(key: StreamKey, mut reader: Reader) -> Step {
    let mut pause = FIRST_PAUSE;
    let mut tries = 1;
    loop {
        let brought = match &mut reader {
            Reader::Run(subscription) => subscription.next().await.map(Brought::Run),
            Reader::Inbox(inbox) => inbox.next().await.map(Brought::Inbox),
        };
        match brought {
            Ok(brought) => return Step::Brought(key, reader, brought),
            Err(error) if error.is_retryable() && tries < TRIES => {
                tracing::debug!(%error, "a stream is read again");
                tokio::time::sleep(pause).await;
                (pause, tries) = (pause * 2, tries + 1);
            }
            Err(error) => return Step::Brought(key, reader, Brought::Broken(error)),
        }
    }
}
