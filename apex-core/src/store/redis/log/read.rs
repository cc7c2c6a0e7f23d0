//! Reading: the events of Redis, and after them those that only the database has.

use super::RedisRunLog;
use super::streams::{Answer, Found, Of, Why};
use crate::error::{Error, Kind, Result};
use crate::id::RunId;
use crate::principal::Principal;
use crate::run::record::fold;
use crate::run::{Page, RunView};
use crate::store::PAGE_ITEMS;

/// So often a log is looked at again that changes its life meanwhile.
const TURNS: usize = 6;

impl RedisRunLog {
    pub(super) async fn page_of(
        &self,
        principal: &Principal,
        run: RunId,
        after: u64,
        max: usize,
    ) -> Result<Page> {
        let max = max.min(PAGE_ITEMS);
        for turn in 0..TURNS {
            // How far it was seen to go by now, then the database, then Redis: each has at least what the one before it
            // tells.
            let seen = self.seen.of(run);
            let (page, fence) = self.ledger()?.page(principal, run, after, max).await?;
            if fence == 0 || (page.ended && page.oldest > page.head) {
                // It was never written, or its events are gone with their age.
                return Ok(page);
            }
            let of = Of { run, epoch: page.epoch, fence };
            let seen = seen.head(page.epoch);
            let why = match self.streams.read(of, after, max).await {
                Ok(Answer::Done(found)) => match merged(&page, found, (after, max), seen) {
                    Some(merged) => {
                        self.seen.note(run, merged.epoch, merged.head);
                        return Ok(merged);
                    }
                    None => "it is shorter than it was",
                },
                Ok(Answer::Not(Why::Gone)) => {
                    // All of one that has ended may be in the database, or the first claim be under way; nobody here
                    // has seen more of it.
                    if (fence == 1 || page.ended) && page.oldest == 1 && seen <= page.head {
                        return Ok(page);
                    }
                    "it is gone"
                }
                Ok(Answer::Not(_)) => "it is in another life",
                Err(error) => {
                    let known = after.saturating_add(1) >= page.oldest && after <= page.head;
                    return if known && seen <= page.head { Ok(page) } else { Err(error) };
                }
            };
            // A claim may be under way, or the life have changed between the two looks.
            if turn > 0 {
                tracing::debug!(%run, why, "a reader mends a log");
                self.mend(principal, run, false).await?;
            }
        }
        Err(restless(run))
    }

    pub(super) async fn view_of(&self, principal: &Principal, run: RunId) -> Result<RunView> {
        'again: for _ in 0..TURNS {
            let mut view = self.runs.view(principal, run).await?;
            let mut cursor = view.head;
            loop {
                let page = self.page_of(principal, run, cursor, PAGE_ITEMS).await?;
                if page.epoch != view.epoch || page.ended != view.state.is_terminal() {
                    continue 'again;
                }
                view.oldest = page.oldest;
                for event in &page.events {
                    fold(&mut view.snapshot, event);
                    cursor = event.seq;
                }
                if page.events.is_empty() || cursor >= page.head {
                    break;
                }
            }
            view.head = cursor;
            // Claims and signals change the state without an event.
            view.snapshot.state = view.state;
            return Ok(view);
        }
        Err(restless(run))
    }
}

/// What both have of a page; `None` where Redis has less than it must.
fn merged(page: &Page, found: Found, (after, max): (u64, usize), seen: u64) -> Option<Page> {
    let Found { head, oldest, mut events } = found;
    // What is kept after the cursor has to be there.
    let hole = events.is_empty() && max > 0 && after.saturating_add(1).max(oldest) <= head;
    if head + 1 < page.oldest || seen > head.max(page.head) || hole {
        return None;
    }
    let mut last = events.last().map_or(after, |event| event.seq);
    if last >= head {
        for event in &page.events {
            if event.seq <= last {
                continue;
            }
            if event.seq != last.saturating_add(1) || events.len() >= max {
                break;
            }
            last = event.seq;
            events.push(event.clone());
        }
    }
    let head = head.max(page.head);
    Some(Page { epoch: page.epoch, events, head, oldest, ended: page.ended })
}

fn restless(run: RunId) -> Error {
    Error::new(
        Kind::Unavailable,
        "run_log.read",
        "the log changes its life all the time; look at the Redis that keeps it",
    )
    .with("run", run)
}
