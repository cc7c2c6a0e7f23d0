//! A model's words around computed figures, which has one chance to put right what was wrong with them.

use super::figure::Figure;
use super::worded;
use crate::agents::asking::{self, Terms, Turns};
use crate::context::Context;
use apex_core::error::Result;
use serde_json::{Value, json};

/// Has a model word `what` from this data and placeholders for these figures; `None` where there is no model, or none
/// that keeps to the figures.
pub(in crate::agents) async fn by_model(
    run: &Context,
    what: &str,
    instructions: &str,
    mut data: Value,
    figures: &[Figure],
) -> Result<Option<String>> {
    let placeholder = |figure: &Figure| {
        json!({
            "placeholder": figure.placeholder(),
            "means": figure.means,
            "required": figure.required,
        })
    };
    if let Some(fields) = data.as_object_mut() {
        fields.insert("placeholders".into(), figures.iter().map(placeholder).collect());
    }
    let request = asking::request(instructions, &data);
    let terms = Terms {
        accept: |text: &str| worded(text, figures),
        thought: |faults: &[String]| {
            Some(format!(
                "I do not take the model's wording: it does not keep to the computed figures. {}",
                faults.join(" ")
            ))
        },
        again: "Word it again.",
    };
    let checked = asking::checked(run, request, Turns::default(), terms).await?;
    asking::or_rules(run, checked, |times, faults| {
        let faults = faults.join(" ");
        format!("{what} was worded by rules: a model's wording was refused {times} times. {faults}")
    })
    .await
}
