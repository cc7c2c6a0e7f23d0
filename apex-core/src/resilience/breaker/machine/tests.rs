use super::*;
use proptest::prelude::*;

/// The same rules, said naively: every call is remembered with its part, and every question counts them all.
struct Model {
    options: BreakerOptions,
    phase: Naive,
    calls: Vec<(u64, bool)>,
    anchor: Instant,
    openings: u32,
    closed_at: Option<Instant>,
    entered: u64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Naive {
    Closed,
    Open(Instant),
    HalfOpen { under_way: u32, good: u32 },
}

impl Model {
    fn new(options: BreakerOptions, now: Instant) -> Self {
        Self {
            options,
            phase: Naive::Closed,
            calls: Vec::new(),
            anchor: now,
            openings: 0,
            closed_at: None,
            entered: 0,
        }
    }

    fn part(&self, now: Instant) -> u64 {
        let part = self.options.window / 10;
        ((now - self.anchor).as_nanos() / part.as_nanos()) as u64
    }

    fn admit(&mut self, now: Instant) -> Option<u64> {
        if let Naive::Open(until) = self.phase
            && now >= until
        {
            self.enter(Naive::HalfOpen { under_way: 0, good: 0 });
        }
        match &mut self.phase {
            Naive::Closed => Some(self.entered),
            Naive::Open(_) => None,
            Naive::HalfOpen { under_way, good } if *under_way + *good < self.options.probes => {
                *under_way += 1;
                Some(self.entered)
            }
            Naive::HalfOpen { .. } => None,
        }
    }

    fn record(&mut self, entered: u64, verdict: Verdict, now: Instant) {
        if entered != self.entered {
            return;
        }
        match (self.phase, verdict) {
            (Naive::Closed, Verdict::Good | Verdict::Bad) => {
                let part = self.part(now);
                self.calls.push((part, verdict == Verdict::Bad));
                self.calls.retain(|(then, _)| part - then < 10);
                let bad = self.calls.iter().filter(|(_, bad)| *bad).count();
                let enough = self.calls.len() >= self.options.least_calls as usize;
                if enough
                    && bad > 0
                    && bad as f64 >= self.calls.len() as f64 * self.options.bad_share
                {
                    self.open(now);
                }
            }
            (Naive::HalfOpen { .. }, Verdict::Bad) => self.open(now),
            (Naive::HalfOpen { good, .. }, Verdict::Good) if good + 1 == self.options.probes => {
                self.calls.clear();
                self.anchor = now;
                self.closed_at = Some(now);
                self.enter(Naive::Closed);
            }
            (Naive::HalfOpen { under_way, good }, Verdict::Good) => {
                self.phase = Naive::HalfOpen { under_way: under_way - 1, good: good + 1 };
            }
            (Naive::HalfOpen { under_way, good }, Verdict::None) => {
                self.phase = Naive::HalfOpen { under_way: under_way - 1, good };
            }
            _ => {}
        }
    }

    fn open(&mut self, now: Instant) {
        if self.closed_at.is_some_and(|at| now - at >= self.options.window) {
            self.openings = 0;
        }
        let wait =
            (self.options.open * 2_u32.pow(self.openings.min(20))).min(self.options.open_most);
        self.openings += 1;
        self.closed_at = None;
        self.enter(Naive::Open(now + wait));
    }

    fn enter(&mut self, phase: Naive) {
        self.phase = phase;
        self.entered += 1;
    }

    fn state(&self) -> BreakerState {
        match self.phase {
            Naive::Closed => BreakerState::Closed,
            Naive::Open(_) => BreakerState::Open,
            Naive::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Begin,
    /// Ends the call at this place of those under way.
    End(usize, u8),
    /// Lets so many tenths of a part pass.
    Wait(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Begin),
        4 => (0_usize..8, 0_u8..8).prop_map(|(place, verdict)| Step::End(place, verdict)),
        1 => (0_u32..60).prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn the_breaker_does_what_its_model_does(
        least_calls in 1_u32..6,
        bad_share in 0.1_f64..1.0,
        probes in 1_u32..4,
        steps in proptest::collection::vec(step(), 1..200),
    ) {
        let options = BreakerOptions {
            least_calls,
            bad_share,
            probes,
            open: Duration::from_secs(3),
            open_most: Duration::from_secs(20),
            ..BreakerOptions::default()
        };
        let mut now = Instant::now();
        let mut machine = Machine::new(options.clone(), now);
        let mut model = Model::new(options, now);
        let mut under_way = Vec::new();
        for step in steps {
            match step {
                Step::Begin => {
                    let (real, naive) = (machine.admit(now), model.admit(now));
                    prop_assert_eq!(real.is_ok(), naive.is_some());
                    if let (Ok(ticket), Some(entered)) = (real, naive) {
                        under_way.push((ticket, entered));
                    }
                }
                Step::End(place, verdict) if !under_way.is_empty() => {
                    let (ticket, entered) = under_way.remove(place % under_way.len());
                    let verdict = match verdict { 0 => Verdict::None, 1..5 => Verdict::Bad, _ => Verdict::Good };
                    machine.record(ticket, verdict, least_calls, 0.0, now);
                    model.record(entered, verdict, now);
                }
                Step::End(..) => {}
                Step::Wait(tenths) => now += Duration::from_millis(300) * tenths,
            }
            prop_assert_eq!(machine.state(), model.state());
        }
    }
}

fn options() -> BreakerOptions {
    BreakerOptions { least_calls: 4, probes: 1, ..BreakerOptions::default() }
}

fn call(machine: &mut Machine, verdict: Verdict, now: Instant) -> bool {
    match machine.admit(now) {
        Ok(ticket) => {
            machine.record(ticket, verdict, 4, 0.0, now);
            true
        }
        Err(_) => false,
    }
}

/// Half of the calls fail, for an hour: a dependency at the very threshold.
#[test]
fn flapping_at_the_threshold_makes_it_stay_open_longer_and_longer() {
    let began = Instant::now();
    let mut machine = Machine::new(options(), began);
    let (mut openings, mut through, mut before) = (0, 0, BreakerState::Closed);
    for second in 0..3_600 {
        let now = began + Duration::from_secs(second);
        for verdict in [Verdict::Good, Verdict::Bad] {
            through += u32::from(call(&mut machine, verdict, now));
            openings +=
                u32::from(machine.state() == BreakerState::Open && before != BreakerState::Open);
            before = machine.state();
        }
    }
    assert!((50..=70).contains(&openings), "{openings} openings in an hour");
    assert!(through < 7_200 / 10, "{through} calls reached it");
}

#[test]
fn a_probe_that_never_reports_back_blocks_no_other_generation() {
    let now = Instant::now();
    let mut machine = Machine::new(options(), now);
    let late = machine.admit(now).unwrap();
    for _ in 0..4 {
        call(&mut machine, Verdict::Bad, now);
    }
    assert_eq!(machine.state(), BreakerState::Open);
    machine.record(late, Verdict::Good, 4, 0.0, now);
    assert_eq!(machine.state(), BreakerState::Open, "a late answer closes nothing");
    let later = now + Duration::from_secs(5);
    assert!(call(&mut machine, Verdict::Good, later));
    assert_eq!(machine.state(), BreakerState::Closed);
}

#[test]
fn jitter_only_lengthens_and_a_forced_state_stays() {
    let now = Instant::now();
    let mut machine = Machine::new(options(), now);
    for _ in 0..4 {
        let ticket = machine.admit(now).unwrap();
        machine.record(ticket, Verdict::Bad, 4, 1.0, now);
    }
    assert_eq!(machine.refuses(now), Some(Duration::from_secs(6)));
    machine.force(BreakerState::Disabled, now);
    for _ in 0..100 {
        assert!(call(&mut machine, Verdict::Bad, now));
    }
    machine.force(BreakerState::ForcedOpen, now);
    assert!(!call(&mut machine, Verdict::Good, now + Duration::from_secs(86_400)));
    machine.force(BreakerState::Closed, now);
    assert!(call(&mut machine, Verdict::Good, now));
}
