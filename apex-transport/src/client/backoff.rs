use std::time::Duration;

const LONGEST: Duration = Duration::from_secs(30);

/// Pauses that double, each shortened by a random part so that many clients do not come back at once.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    next: Duration,
}

impl Backoff {
    pub(super) fn new(first: Duration) -> Self {
        Self { first, next: first }
    }

    /// The next pause: between half of it and all of it.
    pub(super) fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(LONGEST);
        pause / 2 + random_part(pause / 2)
    }

    pub(super) fn reset(&mut self) {
        self.next = self.first;
    }
}

/// A random part of a duration.
pub(super) fn random_part(of: Duration) -> Duration {
    let mut bytes = [0_u8; 4];
    // Without randomness everybody waits the whole of it, which is safe.
    let part = match getrandom::fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_be_bytes(bytes)) / f64::from(u32::MAX),
        Err(_) => 1.0,
    };
    of.mul_f64(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_differ() {
        let first = Duration::from_millis(500);
        let mut backoff = Backoff::new(first);
        let mut most = first;
        for _ in 0..10 {
            let pause = backoff.pause();
            assert!(pause >= most / 2 && pause <= most, "{pause:?} of {most:?}");
            most = (most * 2).min(LONGEST);
        }
        backoff.reset();
        assert!(backoff.pause() <= first);
    }
}
