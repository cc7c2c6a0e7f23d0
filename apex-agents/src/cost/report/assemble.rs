//! From figures to a report: orders, sentences, the waterfall and the plan.

use super::facts::Facts;
use super::{
    Action, Advice, Effort, Headline, Recommendation, Report, SCHEMA, Saving, Severity, Step,
    Totals, Waterfall, findings,
};
use crate::cost::lever;
use apex_core::money::Usd;

impl Report {
    /// Puts figures into words.
    pub(in crate::cost) fn assemble(facts: Facts) -> Self {
        let findings = findings::all(&facts);
        let recommendations: Vec<Recommendation> = lever::ALL
            .iter()
            .zip(&facts.effects)
            .map(|(lever, effect)| (lever.recommend)(effect))
            .collect();
        let waterfall = waterfall(&facts, &recommendations);
        let actions = plan(
            &facts,
            &recommendations,
            findings.iter().any(|f| f.severity == Severity::Critical),
        );
        let counted =
            || waterfall.steps.iter().filter(|step| step.in_headline).map(|step| step.saving_usd);
        let headline = Headline {
            saving_usd: Saving {
                low: counted().map(|s| s.low).sum(),
                expected: counted().map(|s| s.expected).sum(),
                high: counted().map(|s| s.high).sum(),
            },
            of_priced_cost_usd: facts.totals.priced_cost_usd,
        };
        let mut report = Self {
            schema: SCHEMA.to_owned(),
            sources: facts.sources,
            period: facts.period,
            totals: facts.totals,
            headline,
            by_model: facts.by_model,
            by_user: facts.by_user,
            by_day: facts.by_day,
            findings,
            recommendations,
            waterfall,
            actions,
            catalogue: facts.catalogue,
        };
        report.by_model.sort_by(|a, b| {
            weight(&b.totals).cmp(&weight(&a.totals)).then_with(|| a.model.cmp(&b.model))
        });
        report.by_user.sort_by(|a, b| {
            weight(&b.totals).cmp(&weight(&a.totals)).then_with(|| a.user.cmp(&b.user))
        });
        report.by_day.sort_by(|a, b| a.day.cmp(&b.day));
        report
    }
}

/// What orders a list: the price, or what was recorded where nothing is priced.
fn weight(totals: &Totals) -> Usd {
    totals.priced_cost_usd.or(totals.recorded_cost_usd).unwrap_or(Usd::ZERO)
}

fn waterfall(facts: &Facts, recommendations: &[Recommendation]) -> Waterfall {
    let start = facts.totals.priced_cost_usd.unwrap_or(Usd::ZERO);
    let mut left = start;
    let steps = lever::ALL
        .iter()
        .zip(recommendations)
        .map(|(lever, recommendation)| {
            let in_headline = lever.in_headline && recommendation.advice != Advice::DoNot;
            if in_headline {
                left = left - recommendation.saving_usd.expected;
            }
            Step {
                lever: lever.name.to_owned(),
                in_headline,
                saving_usd: recommendation.saving_usd,
                left_usd: left,
            }
        })
        .collect();
    Waterfall { start_usd: start, steps, end_usd: left }
}

/// First what makes the figures sure, then what saves, the largest sure saving first, then what has to be tested.
fn plan(facts: &Facts, recommendations: &[Recommendation], data_first: bool) -> Vec<Action> {
    let mut actions = Vec::new();
    if data_first {
        actions.push(Action {
            order: 0,
            what: "Correct or explain the records named in the critical findings, then run the analysis again".to_owned(),
            place: "The export, or the code that records the cost".to_owned(),
            effort: Effort::Small,
            risk: "None".to_owned(),
            roll_back: "Keep the first export".to_owned(),
            verify: "The new report has no critical finding".to_owned(),
            saving_usd: None,
        });
    }
    if facts.totals.unpriced_requests > 0 {
        actions.push(Action {
            order: 0,
            what: "Give the unpriced models a price in a contract file, so that the report covers all requests".to_owned(),
            place: "A contract file beside the configuration (see docs/guide/prices.md)".to_owned(),
            effort: Effort::Small,
            risk: "None".to_owned(),
            roll_back: "Take the line out again".to_owned(),
            verify: "The report names no unpriced requests".to_owned(),
            saving_usd: None,
        });
    }
    let mut levers: Vec<_> = lever::ALL
        .iter()
        .zip(&facts.effects)
        .zip(recommendations)
        .filter(|(_, recommendation)| recommendation.advice != Advice::DoNot)
        .collect();
    levers
        .sort_by_key(|(_, r)| (r.advice == Advice::Try, std::cmp::Reverse(r.saving_usd.expected)));
    actions.extend(levers.into_iter().map(|((lever, effect), _)| (lever.act)(effect)));
    for (order, action) in (1..).zip(&mut actions) {
        action.order = order;
    }
    actions
}
