//! The user's own requests at other prices, and those to models that end.

use super::list::no_price;
use super::{PriceQuestion, Prices};
use crate::cost::query::{Answer, Dimension, Measure, Query};
use crate::cost::report::words::{count, dollars, markdown};
use std::fmt::Write as _;

impl PriceQuestion {
    /// The query over the user's requests that answers it.
    #[must_use]
    pub fn query(&self) -> Query {
        match self.asked {
            super::PriceTopic::Ending => Query {
                measure: Measure::Requests,
                by: vec![Dimension::Model, Dimension::Provider],
                filter: self.filter.clone(),
                top: Some(crate::cost::query::MOST_LISTED),
                ..Query::default()
            },
            _ => Query {
                filter: self.filter.clone(),
                on_models: self.models.clone(),
                ..Query::default()
            },
        }
    }
}

/// What requests would have cost on other models, from the answer to [`PriceQuestion::query`].
#[must_use]
pub fn moved(prices: &Prices<'_>, question: &PriceQuestion, answer: &Answer) -> String {
    let (_, unknown) = prices.split(question);
    let mut text = String::new();
    let rows: Vec<_> = question
        .models
        .iter()
        .zip(&answer.total.on_models)
        .filter(|(model, _)| !unknown.contains(model))
        .collect();
    let _ = writeln!(text, "{}.\n", answer.asked());
    if answer.evidence.counted == 0 {
        text.push_str("No request is of this kind, so there is nothing to price.\n\n");
    } else if !rows.is_empty() {
        text.push_str(
            "| On | Would have cost | Did cost | Difference | Requests |\n|---|--:|--:|--:|--:|\n",
        );
        for (model, on) in &rows {
            let difference = on.would_be_usd - on.was_usd;
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} |",
                markdown(model),
                dollars(on.would_be_usd),
                dollars(on.was_usd),
                dollars(difference),
                count(on.requests)
            );
        }
        text.push('\n');
        for (model, on) in &rows {
            let without = answer.evidence.counted.saturating_sub(on.requests);
            if without > 0 {
                let _ = writeln!(
                    text,
                    "- {} requests are not in the row of {}: they have no price as they were, or none there.",
                    count(without),
                    markdown(model)
                );
            }
        }
        text.push_str(
            "\nThe numbers of tokens are those of the records, at the prices of their days; another model counts and \
             writes others, and reads from a cache only where it has one. Of quality prices say nothing.\n\n",
        );
    }
    no_price(&unknown, None, &mut text);
    for model in question.models.iter().filter(|model| !unknown.contains(model)) {
        if let Some(listed) = prices.find(model, None)
            && let Some(end) = prices.retirements.of(&listed.provider, model)
        {
            let _ = writeln!(
                text,
                "{} itself ends on {}.\n",
                markdown(model),
                prices.told_day(&end.day)
            );
        }
    }
    counted(answer, &mut text);
    prices.sources(&mut text);
    text
}

/// Which of the models in use end, from the answer to [`PriceQuestion::query`].
#[must_use]
pub fn ending(prices: &Prices<'_>, answer: &Answer) -> String {
    let mut found = Vec::new();
    for row in &answer.rows {
        let [model, provider] = row.group.as_slice() else { continue };
        let named = (provider != "(none)").then_some(provider.as_str());
        let Some(listed) = prices.catalogue.listed(named, model) else { continue };
        let names = [model.as_str(), listed.model.as_str()];
        let end = names.iter().find_map(|name| prices.retirements.of(&listed.provider, name));
        if let Some(end) = end {
            found.push((end, model, row.sums.requests));
        }
    }
    found.sort_by(|a, b| a.0.day.cmp(&b.0.day).then_with(|| a.1.cmp(b.1)));
    let mut text = String::new();
    if found.is_empty() {
        let _ = writeln!(
            text,
            "For none of the {} models in these records a day is known on which it ends.\n",
            count(answer.groups)
        );
    } else {
        text.push_str("| Model | Provider | Ends | Use | Source |\n|---|---|---|---|---|\n");
    }
    for (end, model, requests) in &found {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} |",
            markdown(model),
            markdown(&end.provider),
            prices.told_day(&end.day),
            crate::cost::query::requests(*requests),
            end.source.as_deref().unwrap_or("not named")
        );
    }
    if answer.groups > answer.rows.len() as u64 {
        let _ =
            writeln!(text, "\nOnly the {} models in most use were looked at.", answer.rows.len());
    }
    text.push('\n');
    counted(answer, &mut text);
    prices.sources(&mut text);
    text
}

fn counted(answer: &Answer, text: &mut String) {
    let evidence = &answer.evidence;
    let _ = write!(
        text,
        "Counted: {} of {} rows of {}; {} left out by the filter. ",
        count(evidence.counted),
        count(evidence.rows),
        markdown(&evidence.sources.join(", ")),
        count(evidence.left_out + evidence.undated)
    );
}
