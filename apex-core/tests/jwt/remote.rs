use super::{claims, now, policy, signing_keys};
use apex_core::auth::jwt::{KeySource, Refusal, RemoteKeys, RemoteOptions, SigningKey, jwks_of};
use apex_core::error::{Error, Kind, Result};
use async_trait::async_trait;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

/// An issuer whose keys a test changes, and which can be down.
#[derive(Debug, Default)]
struct Issuer {
    state: Mutex<(Vec<SigningKey>, bool, usize)>,
}

impl Issuer {
    fn set(&self, keys: &[SigningKey], down: bool) {
        let mut state = self.state.lock().unwrap();
        (state.0, state.1) = (keys.to_vec(), down);
    }

    fn fetches(&self) -> usize {
        self.state.lock().unwrap().2
    }
}

#[async_trait]
impl KeySource for Issuer {
    async fn fetch(&self) -> Result<Bytes> {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let mut state = self.state.lock().unwrap();
        state.2 += 1;
        if state.1 {
            return Err(Error::new(Kind::Unavailable, "test", "the issuer is down"));
        }
        let keys = state.0.iter().map(SigningKey::verifying);
        Ok(serde_json::to_vec(&jwks_of(keys)).unwrap().into())
    }
}

fn issuer() -> (Arc<Issuer>, RemoteKeys, Vec<SigningKey>) {
    let (issuer, keys) = (Arc::new(Issuer::default()), signing_keys());
    issuer.set(&keys[..1], false);
    let remote = RemoteKeys::new(Arc::clone(&issuer) as _, RemoteOptions::default());
    (issuer, remote, keys)
}

async fn verify(remote: &RemoteKeys, key: &SigningKey) -> Result<Result<(), Refusal>> {
    let token = key.sign("at+jwt", &claims()).unwrap();
    let keys = remote.for_key(Some(key.verifying().id())).await?;
    Ok(policy().verify(token.reveal(), &keys, now()).map(drop))
}

async fn pass(seconds: u64) {
    tokio::time::advance(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn many_at_once_are_one_fetch_and_it_holds_for_five_minutes() {
    let (issuer, remote, keys) = issuer();
    let (remote, key) = (&remote, &keys[0]);
    let many = (0..100).map(|_| verify(remote, key));
    for verified in futures_util::future::join_all(many).await {
        assert_eq!(verified.unwrap(), Ok(()));
    }
    assert_eq!(issuer.fetches(), 1);
    pass(299).await;
    verify(remote, key).await.unwrap().unwrap();
    assert_eq!(issuer.fetches(), 1);
    pass(1).await;
    verify(remote, key).await.unwrap().unwrap();
    assert_eq!(issuer.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_rotated_key_is_found_and_made_up_ones_cost_one_fetch_in_ten_seconds() {
    let (issuer, remote, keys) = issuer();
    verify(&remote, &keys[0]).await.unwrap().unwrap();
    issuer.set(&keys[1..3], false);
    pass(10).await;
    verify(&remote, &keys[1]).await.unwrap().unwrap();
    assert_eq!(issuer.fetches(), 2);
    for _ in 0..1_000 {
        let (unknown, _) = SigningKey::generate().unwrap();
        assert_eq!(verify(&remote, &unknown).await.unwrap(), Err(Refusal::UnknownKey));
    }
    assert_eq!(issuer.fetches(), 2);
    pass(10).await;
    assert_eq!(verify(&remote, &keys[0]).await.unwrap(), Err(Refusal::UnknownKey));
    assert_eq!(issuer.fetches(), 3, "the key that was there before is gone");
    verify(&remote, &keys[2]).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_is_down_is_not_missed_for_a_while() {
    let (issuer, remote, keys) = issuer();
    issuer.set(&keys[..1], true);
    let down = verify(&remote, &keys[0]).await.unwrap_err();
    assert_eq!(down.kind(), Kind::Unavailable);
    assert!(down.retry_after().is_some());
    verify(&remote, &keys[0]).await.unwrap_err();
    assert_eq!(issuer.fetches(), 1, "it is not asked again at once");
    issuer.set(&keys[..1], false);
    pass(10).await;
    verify(&remote, &keys[0]).await.unwrap().unwrap();
    issuer.set(&keys[..1], true);
    for _ in 0..10 {
        pass(301).await;
        verify(&remote, &keys[0]).await.unwrap().unwrap();
    }
    pass(24 * 60 * 60).await;
    let down = verify(&remote, &keys[0]).await.unwrap_err();
    assert_eq!(down.kind(), Kind::Unavailable, "not for ever");
}
