use super::erase::{Erase, Erased};
use super::share::Shares;
use crate::clock::{Clock, Timestamp};
use crate::error::{Error, Result};
use crate::event::Recorded;
use crate::id::{Epoch, RequestId, RunId, ThreadId, UserId};
use crate::principal::{Principal, Scope};
use crate::run::checkpoint::{Kept, unfounded};
use crate::run::place::{OpenRun, admit, with_place};
use crate::run::record::{Claimable, Effects, RunInput, RunRecord, fenced, fold};
use crate::run::{
    Append, Appended, Claim, Claimed, InboxEntry, InboxPage, Lease, NewRun, Page, RunLimits,
    RunLog, RunState, RunView, Signal, Snapshot, Started, Topic, Wakeup,
};
use crate::store::{PAGE_BYTES, PAGE_ITEMS, SWEEP, run_taken, still_open};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

/// Runs in memory, under one lock: each call is one transaction.
#[derive(Debug)]
pub(super) struct MemoryRunLog {
    limits: RunLimits,
    clock: Arc<dyn Clock>,
    wakeup: Arc<dyn Wakeup>,
    shares: Shares,
    erased: Arc<Erased>,
    pub(super) runs: Mutex<Runs>,
}

#[derive(Debug, Clone)]
pub(super) struct Runs {
    by_id: HashMap<RunId, Entry>,
    requests: HashMap<(UserId, RequestId), RunId>,
    /// The runs that have not ended, in the order in which they were put on record.
    open: BTreeMap<u64, RunId>,
    open_of: HashMap<UserId, BTreeMap<u64, RunId>>,
    /// The runs that have ended and still have events.
    histories: BTreeSet<(Timestamp, RunId)>,
    inboxes: HashMap<UserId, VecDeque<InboxEntry>>,
    inbox_epoch: Epoch,
    started: u64,
}

#[derive(Debug, Clone)]
struct Entry {
    place: u64,
    record: RunRecord,
    input: RunInput,
    events: VecDeque<Recorded>,
    checkpoint: Option<Kept>,
    snapshot: Snapshot,
    folded: u64,
}

impl MemoryRunLog {
    pub(super) fn new(
        limits: RunLimits,
        clock: Arc<dyn Clock>,
        wakeup: Arc<dyn Wakeup>,
        shares: Shares,
        erased: Arc<Erased>,
    ) -> Self {
        let runs = Mutex::new(Runs {
            by_id: HashMap::new(),
            requests: HashMap::new(),
            open: BTreeMap::new(),
            open_of: HashMap::new(),
            histories: BTreeSet::new(),
            inboxes: HashMap::new(),
            inbox_epoch: Epoch::new(&*clock),
            started: 0,
        });
        Self { limits, clock, wakeup, shares, erased, runs }
    }

    /// Whether a user may read what a run made.
    pub(super) fn opens(&self, run: RunId, owner: UserId, reader: UserId) -> bool {
        let runs = self.runs.lock();
        let record = runs.by_id.get(&run).map(|entry| &entry.record);
        record.is_some_and(|record| {
            record.user == owner && self.shares.open(record.thread, owner, reader)
        })
    }

    /// Wakes those who follow the open runs of a conversation.
    pub(super) fn wake_readers(&self, owner: UserId, thread: ThreadId) {
        let open: Vec<RunId> = {
            let runs = self.runs.lock();
            let of_owner = runs.open_of.get(&owner).into_iter().flat_map(BTreeMap::values);
            let of_thread = |run: &RunId| {
                runs.by_id.get(run).is_some_and(|entry| entry.record.thread == thread)
            };
            of_owner.copied().filter(of_thread).collect()
        };
        for run in open {
            self.wakeup.wake(Topic::Run(run));
        }
    }

    /// The run, when the principal may read it.
    fn readable<'a>(
        &self,
        runs: &'a Runs,
        principal: &Principal,
        run: RunId,
        operation: &'static str,
    ) -> Result<&'a Entry> {
        runs.by_id
            .get(&run)
            .filter(|entry| {
                let record = &entry.record;
                self.shares.open(record.thread, record.user, principal.user())
            })
            .ok_or_else(|| Error::not_found(operation, "run"))
    }

    fn wake(&self, effects: &Effects) {
        for topic in &effects.wakes {
            self.wakeup.wake(*topic);
        }
    }
}

impl Erase for MemoryRunLog {
    fn erase(&self, user: UserId) {
        let open = self.runs.lock().erase(user);
        for run in open {
            self.wakeup.wake(Topic::Run(run));
            self.wakeup.wake(Topic::Ended(run));
        }
    }
}

#[async_trait]
impl RunLog for MemoryRunLog {
    async fn start(&self, principal: &Principal, run: NewRun) -> Result<Started> {
        principal.require(Scope::Run, "run_log.start")?;
        let (started, effects) = self.runs.lock().start(principal, run, self)?;
        self.wake(&effects);
        Ok(started)
    }

    async fn begun(&self, principal: &Principal, run: &NewRun) -> Result<Option<Started>> {
        principal.require(Scope::Run, "run_log.start")?;
        self.runs.lock().begun(principal, run)
    }

    async fn claim(&self, claim: Claim) -> Result<Vec<Claimed>> {
        let now = self.clock.now();
        let mut runs = self.runs.lock();
        runs.drop_old_histories(now, &self.limits);
        Ok(runs.claim(&claim, now, &self.limits))
    }

    async fn append(&self, lease: &Lease, batch: Append) -> Result<Appended> {
        let now = self.clock.now();
        let (appended, effects) = self.runs.lock().append(lease, batch, now, &self.limits)?;
        self.wake(&effects);
        Ok(appended)
    }

    async fn queued(&self) -> Result<Option<u64>> {
        let runs = self.runs.lock();
        let queued = |run: &&RunId| {
            runs.by_id.get(*run).is_some_and(|entry| entry.record.state == RunState::Queued)
        };
        Ok(Some(runs.open.values().filter(queued).count() as u64))
    }

    async fn signal(&self, principal: &Principal, run: RunId, signal: Signal) -> Result<RunState> {
        principal.require(signal.scope(), "run_log.signal")?;
        let (state, effects) = {
            let mut runs = self.runs.lock();
            let record = &mut runs.own_mut(principal, run, "run_log.signal")?.record;
            let effects = record.signal(principal.user(), signal)?;
            (record.state, effects)
        };
        self.wake(&effects);
        Ok(state)
    }

    async fn view(&self, principal: &Principal, run: RunId) -> Result<RunView> {
        principal.require(Scope::Read, "run_log.view")?;
        let runs = self.runs.lock();
        let entry = self.readable(&runs, principal, run, "run_log.view")?;
        let unfolded: Vec<Recorded> = entry.after(entry.folded).cloned().collect();
        let (record, snapshot) = (entry.record.clone(), entry.snapshot.clone());
        // Decoding is the dear part, and needs no lock.
        drop(runs);
        Ok(record.view(snapshot, &unfolded))
    }

    async fn read(
        &self,
        principal: &Principal,
        run: RunId,
        after: u64,
        max: usize,
    ) -> Result<Page> {
        principal.require(Scope::Read, "run_log.read")?;
        let runs = self.runs.lock();
        let entry = self.readable(&runs, principal, run, "run_log.read")?;
        let mut bytes = 0;
        let events = entry
            .after(after)
            .take(max.min(PAGE_ITEMS))
            .take_while(|event| {
                let first = bytes == 0;
                bytes += event.json.len();
                first || bytes <= PAGE_BYTES
            })
            .cloned()
            .collect();
        Ok(entry.record.page(events))
    }

    async fn inbox(&self, principal: &Principal, after: u64, max: usize) -> Result<InboxPage> {
        principal.require(Scope::Read, "run_log.inbox")?;
        let runs = self.runs.lock();
        let entries = runs.inboxes.get(&principal.user());
        let head = entries.and_then(|entries| entries.back()).map_or(0, |last| last.seq);
        let oldest = entries.and_then(|entries| entries.front()).map_or(1, |first| first.seq);
        let entries = entries
            .into_iter()
            .flatten()
            .filter(|entry| entry.seq > after)
            .take(max.min(PAGE_ITEMS))
            .cloned()
            .collect();
        Ok(InboxPage { epoch: runs.inbox_epoch, entries, head, oldest })
    }

    async fn forget(&self, principal: &Principal, thread: ThreadId) -> Result<Vec<RunId>> {
        principal.require(Scope::Run, "run_log.forget")?;
        self.runs.lock().forget(principal.user(), thread)
    }
}

impl Runs {
    fn begun(&self, principal: &Principal, new: &NewRun) -> Result<Option<Started>> {
        let Some(known) = self.requests.get(&(principal.user(), new.request)) else {
            return Ok(None);
        };
        self.own(principal, *known, "run_log.start")?.record.started_before(new).map(Some)
    }

    fn start(
        &mut self,
        principal: &Principal,
        new: NewRun,
        log: &MemoryRunLog,
    ) -> Result<(Started, Effects)> {
        let user = principal.user();
        log.erased.refuse(user, "run_log.start")?;
        if let Some(started) = self.begun(principal, &new)? {
            return Ok((started, Effects::default()));
        }
        if self.by_id.contains_key(&new.run) {
            return Err(run_taken(new.run));
        }
        let begins = admit(&self.open_runs(user), &new, &log.limits)?;
        let (record, first) = RunRecord::start(principal, &new, begins, &*log.clock)?;
        let effects = record.start_effects(begins);
        self.started += 1;
        self.enter(&record, &effects, record.started_at, &log.limits);
        self.requests.insert((user, new.request), new.run);
        self.open.insert(self.started, new.run);
        self.open_of.entry(user).or_default().insert(self.started, new.run);
        let started = Started { run: new.run, thread: new.thread, created: true };
        let entry = Entry {
            place: self.started,
            record,
            input: RunInput { text: new.text, attachments: new.attachments },
            events: VecDeque::from([first]),
            checkpoint: None,
            snapshot: Snapshot::new(),
            folded: 0,
        };
        self.by_id.insert(new.run, entry);
        Ok((started, effects))
    }

    fn claim(&mut self, claim: &Claim, now: Timestamp, limits: &RunLimits) -> Vec<Claimed> {
        for run in self.open.values() {
            if let Some(entry) = self.by_id.get_mut(run) {
                entry.record.wake(now);
            }
        }
        let mut candidates: [Vec<RunId>; 3] = Default::default();
        let [at_once, queued, lost] = &mut candidates;
        for run in self.open.values() {
            match self.by_id.get(run).map_or(Claimable::No, |entry| entry.record.claimable(now)) {
                Claimable::No => {}
                Claimable::AtOnce => at_once.push(*run),
                Claimable::WithPlace => queued.push(*run),
                Claimable::Lost => lost.push(*run),
            }
        }
        let mut placed: HashMap<UserId, Vec<RunId>> = HashMap::new();
        queued.retain(|run| {
            let Some(entry) = self.by_id.get(run) else {
                return false;
            };
            placed
                .entry(entry.record.user)
                .or_insert_with(|| with_place(&self.open_runs(entry.record.user), limits))
                .contains(run)
        });
        let chosen: Vec<RunId> =
            candidates.into_iter().flatten().take(claim.max.min(PAGE_ITEMS)).collect();
        chosen
            .iter()
            .filter_map(|run| {
                let entry = self.by_id.get_mut(run)?;
                entry.record.claim(claim.node, now, limits);
                Some(entry.record.claimed(
                    claim.node,
                    entry.input.clone(),
                    entry.checkpoint.as_ref().map(Kept::whole),
                ))
            })
            .collect()
    }

    fn append(
        &mut self,
        lease: &Lease,
        batch: Append,
        now: Timestamp,
        limits: &RunLimits,
    ) -> Result<(Appended, Effects)> {
        let Some(entry) = self.by_id.get_mut(&lease.run) else {
            return Err(fenced(lease, "the run is no longer on record"));
        };
        let saved = batch.checkpoint.as_ref();
        if !saved.is_none_or(|saved| Kept::takes(entry.checkpoint.as_ref(), saved))
            && entry.record.clone().append(lease, &batch, now, limits)?.is_some()
        {
            return Err(unfounded());
        }
        let Some(effects) = entry.record.append(lease, &batch, now, limits)? else {
            return Ok((entry.record.appended(), Effects::default()));
        };
        if let Some(saved) = saved {
            Kept::save(&mut entry.checkpoint, saved);
        }
        entry.events.extend(batch.events);
        entry.trim(limits);
        let appended = entry.record.appended();
        if effects.inbox.is_none() {
            return Ok((appended, effects));
        }
        let (record, place) = (entry.record.clone(), entry.place);
        if record.ended_at.is_some() {
            entry.checkpoint = None;
            self.open.remove(&place);
            if let Some(open) = self.open_of.get_mut(&record.user) {
                open.remove(&place);
                if open.is_empty() {
                    self.open_of.remove(&record.user);
                }
            }
            self.histories.insert((now, record.run));
        }
        self.enter(&record, &effects, now, limits);
        Ok((appended, effects))
    }

    fn forget(&mut self, user: UserId, thread: ThreadId) -> Result<Vec<RunId>> {
        let of_thread = |entry: &&Entry| entry.record.user == user && entry.record.thread == thread;
        let mut found: Vec<(u64, RunId)> = Vec::new();
        for entry in self.by_id.values().filter(of_thread) {
            if entry.record.ended_at.is_none() {
                return Err(still_open(entry.record.run));
            }
            found.push((entry.place, entry.record.run));
        }
        found.sort_unstable();
        for (_, run) in &found {
            if let Some(entry) = self.by_id.remove(run) {
                self.requests.remove(&(user, entry.record.request));
                if let Some(ended) = entry.record.ended_at {
                    self.histories.remove(&(ended, *run));
                }
            }
        }
        Ok(found.into_iter().map(|(_, run)| run).collect())
    }

    /// Drops all of a user's; the runs that had not ended.
    fn erase(&mut self, user: UserId) -> Vec<RunId> {
        let open = self.open_of.remove(&user).unwrap_or_default();
        self.open.retain(|place, _| !open.contains_key(place));
        let by_id = &mut self.by_id;
        by_id.retain(|_, entry| entry.record.user != user);
        self.histories.retain(|(_, run)| by_id.contains_key(run));
        self.requests.retain(|(owner, _), _| *owner != user);
        self.inboxes.remove(&user);
        open.into_values().collect()
    }

    fn drop_old_histories(&mut self, now: Timestamp, limits: &RunLimits) {
        for _ in 0..SWEEP {
            let Some((ended, run)) = self.histories.first().copied() else {
                return;
            };
            if now.since(ended) < limits.history_age {
                return;
            }
            self.histories.remove(&(ended, run));
            if let Some(entry) = self.by_id.get_mut(&run) {
                entry.drop_history();
            }
        }
    }

    /// Begins a new life of every log that is still open, and of the inboxes; their events go, their outcome stays.
    #[cfg(feature = "testkit")]
    pub(super) fn renew_epochs(&mut self, clock: &dyn Clock) {
        self.inbox_epoch = Epoch::new(clock);
        for run in self.open.values() {
            if let Some(entry) = self.by_id.get_mut(run) {
                entry.drop_history();
                entry.record.epoch = Epoch::new(clock);
            }
        }
    }

    /// Those that are on record.
    #[cfg(feature = "testkit")]
    pub(super) fn known(&self) -> BTreeSet<RunId> {
        self.by_id.keys().copied().collect()
    }

    /// Enters a run's new state into its user's inbox.
    fn enter(&mut self, record: &RunRecord, effects: &Effects, at: Timestamp, limits: &RunLimits) {
        let Some(state) = effects.inbox else {
            return;
        };
        let inbox = self.inboxes.entry(record.user).or_default();
        let seq = inbox.back().map_or(0, |last| last.seq) + 1;
        inbox.push_back(InboxEntry { seq, run: record.run, thread: record.thread, state, at });
        while inbox.len() > limits.inbox_entries.max(1) {
            inbox.pop_front();
        }
    }

    fn open_runs(&self, user: UserId) -> Vec<OpenRun> {
        self.open_of
            .get(&user)
            .into_iter()
            .flat_map(BTreeMap::values)
            .filter_map(|run| Some(OpenRun::from(&self.by_id.get(run)?.record)))
            .collect()
    }

    fn own(&self, principal: &Principal, run: RunId, operation: &'static str) -> Result<&Entry> {
        self.by_id
            .get(&run)
            .filter(|entry| entry.record.user == principal.user())
            .ok_or_else(|| Error::not_found(operation, "run"))
    }

    fn own_mut(
        &mut self,
        principal: &Principal,
        run: RunId,
        operation: &'static str,
    ) -> Result<&mut Entry> {
        self.by_id
            .get_mut(&run)
            .filter(|entry| entry.record.user == principal.user())
            .ok_or_else(|| Error::not_found(operation, "run"))
    }
}

impl Entry {
    fn after(&self, seq: u64) -> impl Iterator<Item = &Recorded> {
        let skipped = seq.saturating_add(1).saturating_sub(self.record.oldest);
        let skipped = usize::try_from(skipped).unwrap_or(usize::MAX);
        self.events.range(skipped.min(self.events.len())..)
    }

    fn trim(&mut self, limits: &RunLimits) {
        if self.record.is_past_limits(limits) {
            self.record.trim(limits, self.events.iter().map(|event| event.json.len() as u64));
        }
        self.fold();
        while self.events.front().is_some_and(|event| event.seq < self.record.oldest) {
            self.events.pop_front();
        }
    }

    fn drop_history(&mut self) {
        self.record.drop_history();
        self.fold();
        self.events = VecDeque::new();
    }

    fn fold(&mut self) {
        let Some(to) = self.record.fold_to(self.folded) else {
            return;
        };
        for event in &self.events {
            if event.seq > self.folded && event.seq <= to {
                fold(&mut self.snapshot, event);
            }
        }
        self.folded = to;
    }
}
