//! Floods of refusals: what they leave on record, and who is told of them.

use super::*;
use crate::auth::BurstPolicy;
use crate::clock::SystemClock;
use crate::error::{Alert, AlertSink, EscalationPolicy, Notice, Severity};
use parking_lot::Mutex;

#[tokio::test]
async fn a_flood_of_refusals_does_not_fill_the_record() {
    let house = House::open();
    let nonsense = Credential::Token(Secret::new("nonsense".into()));
    for _ in 0..5_000 {
        house.refused(&nonsense, &by(Way::Bearer)).await;
    }
    let (login, entry) = house.entry().await;
    house.auth.log_out(&entry.principal, &by(Way::Bearer)).await.unwrap();
    house.refused(&token(&login), &by(Way::Bearer)).await;
    assert!(house.auth.audit_written(PATIENCE).await);
    let mut kept = 0;
    let mut before = None;
    loop {
        let page = AuditQuery { user: None, before, limit: 1_000 };
        let events = house.auth.audit(page).await.unwrap();
        let Some(last) = events.last() else { break };
        before = Some(last.id);
        kept += events.len();
    }
    assert!((2_000..3_000).contains(&kept), "{kept}");
}

#[derive(Debug, Default)]
struct Pager(Mutex<Vec<(String, Severity, u32)>>);

impl AlertSink for Pager {
    fn alert(&self, alert: &Alert) {
        panic!("no failure was recorded: {alert:?}");
    }

    fn notice(&self, notice: &Notice) {
        assert!(notice.message.starts_with("10 within 60 s") || notice.severity == Severity::Error);
        self.0.lock().push((notice.subject.clone(), notice.severity, notice.number));
        assert_ne!(notice.subject, "door:reuse", "the host's code may panic");
    }
}

#[tokio::test(start_paused = true)]
async fn bursts_are_told_once_in_a_while() {
    let pager = Arc::new(Pager::default());
    let bursts = BurstPolicy { refusals: 10, reuse: 1, ..BurstPolicy::default() };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let log = ErrorLog::new(clock, EscalationPolicy::default(), Arc::clone(&pager) as _);
    let parts = AuthParts { alerts: Some(Arc::new(log)), ..AuthParts::default() };
    let house = House::new(AuthConfig { bursts, ..development() }, parts);
    let nonsense = Credential::Token(Secret::new("nonsense".into()));
    for _ in 0..9 {
        house.refused(&nonsense, &by(Way::Bearer)).await;
    }
    tokio::time::advance(Duration::from_secs(60)).await;
    for _ in 0..9 {
        house.refused(&nonsense, &by(Way::Bearer)).await;
    }
    assert_eq!(*pager.0.lock(), []);
    for _ in 0..100 {
        house.refused(&nonsense, &by(Way::Bearer)).await;
    }
    let refusals = |number| ("door:refusals".to_owned(), Severity::Warning, number);
    assert_eq!(*pager.0.lock(), [refusals(1)]);
    tokio::time::advance(BurstPolicy::default().quiet).await;
    for _ in 0..100 {
        house.refused(&nonsense, &by(Way::Bearer)).await;
    }
    assert_eq!(*pager.0.lock(), [refusals(1), refusals(2)]);
    let login = house.log_in().await;
    house.auth.refresh(&login.refresh, &by(Way::Bearer)).await.unwrap();
    house.auth.refresh(&login.refresh, &by(Way::Bearer)).await.err().unwrap();
    let reuse = ("door:reuse".to_owned(), Severity::Error, 1);
    assert_eq!(*pager.0.lock(), [refusals(1), refusals(2), reuse]);
}
