use super::erase::Erase;
use crate::auth::{TicketRecord, TicketStore, TokenHash, too_many_tickets};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::id::UserId;
use async_trait::async_trait;
use parking_lot::Mutex;
use std::collections::HashMap;

/// Tickets in memory.
#[derive(Debug, Default)]
pub(super) struct MemoryTicketStore {
    pub(super) tickets: Mutex<HashMap<TokenHash, TicketRecord>>,
}

impl Erase for MemoryTicketStore {
    fn erase(&self, user: UserId) {
        self.tickets.lock().retain(|_, known| known.user != user);
    }
}

#[async_trait]
impl TicketStore for MemoryTicketStore {
    async fn issue(&self, ticket: TicketRecord, now: Timestamp, most_unused: usize) -> Result<()> {
        let mut tickets = self.tickets.lock();
        tickets.retain(|_, known| known.expires_at > now);
        let of_user = || tickets.values().filter(|known| known.user == ticket.user);
        if of_user().count() >= most_unused {
            let lapses = of_user().map(|known| known.expires_at).min();
            return Err(too_many_tickets(most_unused, lapses, now));
        }
        tickets.insert(ticket.hash, ticket);
        Ok(())
    }

    async fn redeem(&self, hash: &TokenHash) -> Result<Option<TicketRecord>> {
        Ok(self.tickets.lock().remove(hash))
    }
}
