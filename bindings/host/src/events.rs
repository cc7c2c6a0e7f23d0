use futures_util::FutureExt as _;
use netra_apex::Following;
use netra_apex::core::error::Result;
use netra_apex::core::event::Recorded;
use netra_apex::core::run::Delivery;
use serde_json::json;
use tokio::sync::Mutex;

/// How many events one batch has at most, beside those of its last delivery.
const MOST: usize = 256;

/// A run's events, for one reader.
#[derive(Debug)]
pub struct Events(Mutex<Option<Following>>);

/// Events that cross into the host's language at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// A list, as JSON: envelopes, and `{"type": "reset", "data": {"reason", "epoch", "head", "snapshot"}}` where a part
    /// of the log is no longer kept.
    pub json: Vec<u8>,
    /// How many there are.
    pub events: usize,
}

impl Events {
    pub(crate) fn new(following: Following) -> Self {
        Self(Mutex::new(Some(following)))
    }

    /// What comes next, all that is there; waits for it. `None` after the terminal event. Dropping the future loses
    /// nothing.
    ///
    /// # Errors
    /// What the log says; the place stays, so that the call can be made again.
    pub async fn next_many(&self) -> Result<Option<Batch>> {
        let mut place = self.0.lock().await;
        let Some(following) = place.as_mut() else {
            return Ok(None);
        };
        let mut batch = Batch { json: vec![b'['], events: 0 };
        let mut delivery = following.delivery().await?;
        loop {
            match delivery {
                Delivery::Events(events) => events.iter().for_each(|event| batch.add(event)),
                Delivery::Live(event) => batch.add(&event),
                Delivery::Reset { reason, epoch, head, snapshot } => {
                    let data = json!({ "reason": reason, "epoch": epoch, "head": head, "snapshot": snapshot });
                    let reset = json!({ "type": "reset", "data": data });
                    batch.push(reset.to_string().as_bytes());
                }
                Delivery::End(_) => {
                    *place = None;
                    break;
                }
            }
            if batch.events >= MOST {
                break;
            }
            // What fails now fails again when it is asked for.
            match following.delivery().now_or_never() {
                Some(Ok(next)) => delivery = next,
                Some(Err(_)) | None => break,
            }
        }
        batch.json.push(b']');
        Ok((batch.events > 0).then_some(batch))
    }
}

impl Batch {
    fn add(&mut self, event: &Recorded) {
        self.push(&event.json);
    }

    fn push(&mut self, json: &[u8]) {
        if self.events > 0 {
            self.json.push(b',');
        }
        self.json.extend_from_slice(json);
        self.events += 1;
    }
}
