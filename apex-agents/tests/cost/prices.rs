//! Our catalogue against the package that it is made from.

use super::CATALOGUE;
use apex_agents::cost::price::{Route, Tokens};
use apex_core::clock::Timestamp;
use apex_core::money::Usd;

#[derive(serde::Deserialize)]
struct Case {
    provider: String,
    model: String,
    at: Timestamp,
    input_tokens: u64,
    cache_read_tokens: u64,
    output_tokens: u64,
    price: Usd,
}

#[test]
fn prices_are_those_of_the_package_they_come_from() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("price_cases.json")).unwrap();
    assert!(cases.len() > 200);
    for case in cases {
        let route =
            Route { provider: Some(&case.provider), model: &case.model, ..Route::default() };
        let schedule = CATALOGUE.schedule(&route);
        let tokens = Tokens {
            input: case.input_tokens,
            cached: case.cache_read_tokens,
            output: case.output_tokens,
            ..Tokens::default()
        };
        let price =
            schedule.quote(Some(case.at)).rates.as_ref().map(|rates| rates.cost(&tokens).unwrap());
        assert_eq!(price, Ok(case.price), "{} {} at {}", case.provider, case.model, case.at);
    }
}
