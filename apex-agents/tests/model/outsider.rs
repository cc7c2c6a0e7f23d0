//! The same providers against a mock that others wrote: npm `@copilotkit/aimock`, which `scripts/test` starts from
//! `tests/aimock` and names by `APEX_TEST_AIMOCK`.

use crate::server::{KEY, quick};
use apex_agents::model::{
    Finish, HttpOptions, HttpProvider, ModelProvider, ModelRequest, ToolSpec,
};
use apex_core::clock::SystemClock;
use apex_core::config::Secret;
use std::sync::Arc;

fn providers(url: &str) -> Vec<(HttpProvider, &'static str)> {
    let options = |path: &str| HttpOptions { base_url: Some(format!("{url}{path}")), ..quick() };
    let (key, clock) = (|| Secret::new(KEY.to_owned()), || Arc::new(SystemClock));
    vec![
        (HttpProvider::openai(key(), options("/v1"), clock()).unwrap(), "gpt-5"),
        (HttpProvider::openai_chat(key(), options("/v1"), clock()).unwrap(), "gpt-4o"),
        (HttpProvider::anthropic(key(), options("/v1"), clock()).unwrap(), "claude-sonnet-4-5"),
        (HttpProvider::gemini(key(), options("/v1beta"), clock()).unwrap(), "gemini-2.5-pro"),
    ]
}

#[tokio::test]
async fn all_providers_plain_streamed_and_with_tools() {
    let Ok(url) = std::env::var("APEX_TEST_AIMOCK") else {
        println!("skipped: the mock of others is not there (set APEX_TEST_AIMOCK)");
        return;
    };
    for (provider, model) in providers(&url) {
        let hello = ModelRequest::user("hello");
        let plain = provider.complete(model, &hello).await.unwrap();
        let streamed = provider.stream(model, &hello).await.unwrap().whole().await.unwrap();
        for answer in [plain, streamed] {
            assert_eq!(answer.text(), "Hello from aimock!", "{provider:?}");
            assert_eq!(answer.finish, Finish::Stop, "{provider:?}");
        }
        let weather = ModelRequest {
            tools: vec![ToolSpec {
                name: "weather".to_owned(),
                description: "The weather.".to_owned(),
                arguments: serde_json::json!({"type": "object", "properties": {}}),
            }],
            ..ModelRequest::user("weather")
        };
        let plain = provider.complete(model, &weather).await.unwrap();
        let streamed = provider.stream(model, &weather).await.unwrap().whole().await.unwrap();
        for answer in [plain, streamed] {
            let calls: Vec<_> = answer.tool_calls().collect();
            assert_eq!(calls.len(), 1, "{provider:?}");
            assert_eq!(calls[0].name, "weather");
            assert_eq!(calls[0].arguments().unwrap()["city"], "Oslo");
            assert_eq!(answer.finish, Finish::ToolCalls, "{provider:?}");
        }
    }
}
