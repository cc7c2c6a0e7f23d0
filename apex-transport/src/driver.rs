//! Carries out what a [`Connection`] asks: calls the runner and the stores, follows streams, keeps the time. It knows
//! no socket; a shell such as `websocket` pumps frames in and out.

use crate::call::{in_time, to_the_end};
use crate::connection::{Action, Connection, Input, Moment, Opened, Outgoing, Stream, StreamKey};
use crate::gateway::Gateway;
use crate::handshake::Caller;
use crate::hub::{Notice, Seat};
use crate::nudge::{Nudge, Nudges, Source, Woken};
use crate::reader::Reader;
use apex_core::auth::{Door, Entry, Way};
use apex_core::error::{Result, correlation};
#[cfg(feature = "websocket")]
use apex_core::event::Recorded;
use apex_core::id::CorrelationId;
use apex_core::principal::Principal;
use apex_core::run::{InboxSubscription, Position, Subscription};
#[cfg(feature = "websocket")]
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::{AbortHandle, Abortable, Aborted, BoxFuture};
use futures_util::stream::FuturesUnordered;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// One connection with everything that it has under way.
pub(crate) struct Driver {
    gateway: Arc<Gateway>,
    connection: Connection,
    caller: Caller,
    seat: Seat,
    opened: Instant,
    /// When it last looked at the clock: nothing that is done at one wake-up takes long.
    now: Moment,
    timer: Pin<Box<Sleep>>,
    /// When the timer is due. It may be too early, since most deadlines are put off again and again.
    timer_at: Instant,
    /// None for most of the time, and then without memory of their own.
    calls: Option<FuturesUnordered<Abortable<BoxFuture<'static, Answer>>>>,
    /// In the order of their keys.
    followed: Vec<Followed>,
    nudges: Nudges,
    woken: Woken,
    hub: Arc<Nudge>,
}

/// What came of a call.
enum Answer {
    Call(Input<'static>),
    Opened(StreamKey, Result<(Opened, Reader)>),
}

/// One stream that is followed, or about to be.
struct Followed {
    key: StreamKey,
    progress: Progress,
}

enum Progress {
    Opening(AbortHandle),
    Reading(Reader, Arc<Nudge>),
}

impl Drop for Followed {
    fn drop(&mut self) {
        if let Progress::Opening(opening) = &self.progress {
            opening.abort();
        }
    }
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
        let connection = Connection::new(seat.id(), Arc::clone(&gateway.terms), entry, now);
        let nudges = Nudges::default();
        let hub = nudges.nudge(Source::Hub);
        Self {
            gateway,
            connection,
            caller,
            seat,
            opened,
            now,
            timer: Box::pin(tokio::time::sleep_until(opened)),
            timer_at: opened,
            calls: None,
            followed: Vec::new(),
            nudges,
            woken: Woken { hub: true, ..Woken::default() },
            hub,
        }
    }

    /// What wakes this connection's task and says that it was the socket.
    pub(crate) fn socket_nudge(&self) -> Arc<Nudge> {
        self.nudges.nudge(Source::Socket)
    }

    /// Whether the socket has something new since this was last asked.
    pub(crate) fn take_socket(&mut self) -> bool {
        std::mem::take(&mut self.woken.socket)
    }

    /// Takes in what came from the client.
    pub(crate) fn receive(&mut self, input: Input<'_>) {
        self.look_at_clock();
        self.take_in(input);
    }

    /// What is to be sent next.
    pub(crate) fn next_outgoing(&mut self) -> Option<Outgoing> {
        self.connection.next_outgoing()
    }

    /// Whether what is to be sent next is an event; `None` where nothing is.
    #[cfg(feature = "websocket")]
    pub(crate) fn sends_event(&self) -> Option<bool> {
        self.connection.sends_event()
    }

    /// An event as it goes over a WebSocket; `None` where it is no text.
    #[cfg(feature = "websocket")]
    pub(crate) fn frame(&self, event: &Recorded) -> Option<Bytes> {
        self.gateway.frames.of(&event.json)
    }

    /// Whether the client may be listened to.
    pub(crate) fn may_read(&self) -> bool {
        self.connection.may_read()
    }

    /// Whether a followed stream was left alone because the client was behind, which it is no longer.
    pub(crate) fn may_go_on(&self) -> bool {
        !self.woken.streams.is_empty() && self.connection.may_deliver()
    }

    /// Whether the client did not even take the close.
    pub(crate) fn is_over(&self) -> bool {
        self.connection.is_over()
    }

    /// Goes on with everything that can go on. Ready when that may have changed what is to be sent or read; in either
    /// case the task is woken when there is more.
    pub(crate) fn poll_progress(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let other_task = self.nudges.collect(cx.waker(), &mut self.woken);
        self.look_at_clock();
        let mut any = self.carry_out_all();
        loop {
            let mut progress = self.look_at_hub();
            progress |= self.poll_calls(cx);
            progress |= self.poll_streams();
            progress |= self.carry_out_all();
            // The timer comes last: what else there is mostly puts it off.
            if !progress && !self.poll_timer(cx, other_task) {
                return if any { Poll::Ready(()) } else { Poll::Pending };
            }
            any = true;
        }
    }

    fn look_at_clock(&mut self) {
        self.now = Moment { elapsed: self.opened.elapsed(), at: self.gateway.now() };
    }

    fn take_in(&mut self, input: Input<'_>) {
        self.connection.handle(input, self.now);
        while let Some(error) = self.connection.next_failure() {
            self.gateway.observer.errors().record(&error, self.connection.user());
        }
    }

    fn look_at_hub(&mut self) -> bool {
        if !std::mem::take(&mut self.woken.hub) {
            return false;
        }
        self.hub.looked_at();
        let waker = Waker::from(Arc::clone(&self.hub));
        match self.seat.poll_notice(&mut Context::from_waker(&waker)) {
            Poll::Ready(Notice::Drain(draining)) => self.take_in(Input::Drain(draining)),
            Poll::Ready(Notice::Revoked) => self.take_in(Input::Revoked),
            Poll::Pending => return false,
        }
        // There may be another one.
        self.woken.hub = true;
        true
    }

    fn poll_calls(&mut self, cx: &mut Context<'_>) -> bool {
        let mut any = false;
        while let Some(calls) = &mut self.calls {
            match calls.poll_next_unpin(cx) {
                Poll::Ready(Some(answer)) => {
                    any = true;
                    match answer {
                        Ok(Answer::Call(input)) => self.answer(input),
                        Ok(Answer::Opened(key, opened)) => self.opened(key, opened),
                        Err(Aborted) => {}
                    }
                }
                Poll::Ready(None) => self.calls = None,
                Poll::Pending => break,
            }
        }
        any
    }

    /// A client that is behind is not read for: its cursor stays, and the log keeps what it has not seen.
    fn poll_streams(&mut self) -> bool {
        let mut any = false;
        while self.connection.may_deliver()
            && let Some(key) = self.woken.streams.pop_front()
        {
            let Some(place) = self.place(key) else { continue };
            let Some(Progress::Reading(reader, nudge)) =
                self.followed.get_mut(place).map(|followed| &mut followed.progress)
            else {
                continue;
            };
            nudge.looked_at();
            let waker = Waker::from(Arc::clone(nudge));
            match reader.poll_next(&mut Context::from_waker(&waker)) {
                Poll::Ready(Some(brought)) => {
                    any = true;
                    if !reader.is_caught_up() {
                        self.woken.streams.push_back(key);
                    }
                    self.take_in(Input::Brought(key, brought));
                }
                Poll::Ready(None) => drop(self.followed.remove(place)),
                Poll::Pending => {}
            }
        }
        any
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>, other_task: bool) -> bool {
        let Some(due) = self.connection.deadline(self.now) else {
            return false;
        };
        // What is due already needs no timer: one that is set to the past again and again would never be ready.
        if due > self.now.elapsed {
            let (due, now) = (self.opened + due, self.opened + self.now.elapsed);
            // One that is set and comes in time is left alone: it costs more than everything else here.
            if self.timer_at > now && self.timer_at <= due && !other_task {
                return false;
            }
            if self.timer_at > due || self.timer_at <= now {
                self.timer_at = due;
                self.timer.as_mut().reset(due);
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return false;
            }
        }
        self.take_in(Input::Tick);
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
        self.take_in(answer);
    }

    fn opened(&mut self, key: StreamKey, opened: Result<(Opened, Reader)>) {
        // What was left in the meantime is over.
        let Some(place) = self.place(key) else { return };
        match opened {
            Ok((opened, reader)) => {
                self.take_in(Input::Opened(key, Ok(opened)));
                if let Some(followed) = self.followed.get_mut(place) {
                    let nudge = self.nudges.nudge(Source::Stream(key));
                    followed.progress = Progress::Reading(reader, nudge);
                    self.woken.streams.push_back(key);
                }
            }
            Err(error) => {
                self.followed.remove(place);
                self.take_in(Input::Opened(key, Err(error)));
            }
        }
    }

    fn place(&self, key: StreamKey) -> Option<usize> {
        self.followed.binary_search_by_key(&key, |followed| followed.key).ok()
    }

    fn carry_out_all(&mut self) -> bool {
        let mut any = false;
        while let Some(action) = self.connection.next_action() {
            self.carry_out(action);
            any = true;
        }
        if self.connection.is_closing() && !self.followed.is_empty() {
            self.followed.clear();
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
                let opening =
                    async move { Answer::Opened(key, open(gateway, who, stream, position).await) };
                let opening = self.call(Box::pin(correlation::within(id, opening)));
                if self.followed.is_empty() {
                    // The first growth would be by four.
                    self.followed.reserve_exact(1);
                }
                // Keys only grow.
                self.followed.push(Followed { key, progress: Progress::Opening(opening) });
                return;
            }
            Action::Leave(key) => {
                if let Some(place) = self.place(key) {
                    self.followed.remove(place);
                }
                return;
            }
        };
        let call = async move { Answer::Call(call.await) };
        self.call(Box::pin(correlation::within(id, call)));
    }

    fn call(&mut self, call: BoxFuture<'static, Answer>) -> AbortHandle {
        let (abort, registration) = AbortHandle::new_pair();
        let calls = self.calls.get_or_insert_with(FuturesUnordered::new);
        calls.push(Abortable::new(call, registration));
        abort
    }
}

async fn open(
    gateway: Arc<Gateway>,
    who: Principal,
    stream: Stream,
    position: Position,
) -> Result<(Opened, Reader)> {
    let longest = gateway.config.connection.call_within;
    let log = Arc::clone(&gateway.stores.runs);
    let wakeup = &*gateway.stores.wakeup;
    match stream {
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
                (opened, Reader::from(subscription))
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
                (opened, Reader::from(inbox))
            })
        }
    }
}
