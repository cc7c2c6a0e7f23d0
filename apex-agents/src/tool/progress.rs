use apex_core::event::Event;
use apex_core::id::StepId;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// At most ten a second from one source.
const PAUSE: Duration = Duration::from_millis(100);

/// Something volatile that a step shows.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    pub(crate) step: StepId,
    // Room is made for many at once.
    pub(crate) event: Box<Event>,
}

/// Where work says how far it is. Nobody waits for it: what comes too often, or while nobody takes it, is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    step: StepId,
    sender: mpsc::Sender<Shown>,
    last: Arc<Mutex<Option<Instant>>>,
}

impl Progress {
    pub(crate) fn new(step: StepId, sender: mpsc::Sender<Shown>) -> Self {
        Self { step, sender, last: Arc::default() }
    }

    pub(crate) fn tell(&self, done: u64, total: Option<u64>, unit: &str) {
        let finished = total.is_some_and(|total| done >= total);
        {
            let mut last = self.last.lock();
            let now = Instant::now();
            if !finished && last.is_some_and(|last| now.duration_since(last) < PAUSE) {
                return;
            }
            *last = Some(now);
        }
        let step = self.step;
        let event = Box::new(Event::Progress { step, done, total, unit: unit.to_owned() });
        let _ = self.sender.try_send(Shown { step, event });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ten_a_second_and_the_end_are_told() {
        let (sender, mut told) = mpsc::channel(100);
        let progress = Progress::new(StepId(1), sender);
        for done in 0..=1_000 {
            progress.tell(done, Some(1_000), "rows");
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        let mut seen = Vec::new();
        while let Ok(shown) = told.try_recv() {
            let Event::Progress { done, .. } = *shown.event else { panic!("{shown:?}") };
            seen.push(done);
        }
        assert_eq!(seen.len(), 11, "{seen:?}");
        assert_eq!(seen.last(), Some(&1_000));
    }
}
