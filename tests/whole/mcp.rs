//! Our tools for MCP clients, tried by a client of the official Python SDK, in both lifecycles that the protocol has.

use crate::health::token;
use crate::support::{builder, text};
use netra_apex::agents::mcp::McpOfferOptions;
use netra_apex::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[derive(Deserialize, JsonSchema)]
struct Sum {
    a: i64,
    b: i64,
}

#[derive(Deserialize, JsonSchema)]
struct Nothing {}

#[derive(Deserialize, JsonSchema)]
struct Pay {
    #[allow(dead_code, reason = "nobody is paid")]
    cents: u64,
}

#[derive(Deserialize, JsonSchema)]
struct Slow {
    seconds: f64,
}

/// A call under way.
struct Asleep(Arc<Mutex<Vec<&'static str>>>, bool);

impl Drop for Asleep {
    fn drop(&mut self) {
        if self.1 {
            self.0.lock().unwrap().push("stopped");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_tools_are_called_by_clients_in_the_name_of_their_users() {
    let Some(python) = std::env::var("APEX_TEST_PYTHON").ok().filter(|path| !path.is_empty())
    else {
        return apex_test_services::skip("mcp", "APEX_TEST_PYTHON names no Python");
    };
    let notes: Arc<Mutex<Vec<&str>>> = Arc::default();
    let sum = tool_fn("sum", "Adds.", |n: Sum, _: ToolContext| async move { Ok(n.a + n.b) });
    let whoami = tool_fn("whoami", "Says who asks.", |_: Nothing, call: ToolContext| async move {
        Ok(json!({ "user": call.principal().user() }))
    });
    let (paid, slept) = (Arc::clone(&notes), Arc::clone(&notes));
    let pay = tool_fn("pay", "Pays.", move |_: Pay, _: ToolContext| {
        paid.lock().unwrap().push("paid");
        async { Ok(()) }
    })
    .needs_approval(|_| true);
    let slow = tool_fn("slow", "Takes its time.", move |slow: Slow, call: ToolContext| {
        let notes = Arc::clone(&slept);
        async move {
            // A call that is cancelled is told so, and dropped.
            let mut asleep = Asleep(notes, true);
            let ticks = (slow.seconds * 10.0) as u64;
            for tick in 0..ticks {
                call.progress(tick, Some(ticks), "ticks");
                tokio::time::sleep(Duration::from_millis(110)).await;
            }
            asleep.1 = false;
            Ok("slept")
        }
    })
    .effect(Effect::Read);
    let hidden = tool_fn("hidden", "Is not offered.", |_: Nothing, _: ToolContext| async { Ok(1) });
    let folder = tempfile::tempdir().unwrap();
    let offered = ["sum", "whoami", "pay", "slow"].map(str::to_owned).to_vec();
    let apex = builder(folder.path())
        .tool(sum.effect(Effect::Read))
        .tool(whoami.effect(Effect::Read))
        .tool(pay)
        .tool(slow)
        .tool(hidden)
        .mcp_offer(McpOfferOptions { tools: offered, per_user: 2 })
        .build()
        .await
        .unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn({
        let apex = apex.clone();
        async move { apex.serve(listener, async { drop(stopped.await) }).await }
    });
    let token = token(address, "ada").await;

    let output = tokio::task::spawn_blocking(move || {
        let mut client = Command::new(python);
        client.arg("tests/whole/mcp_client.py").arg(format!("http://{address}/mcp")).arg(token);
        client.current_dir(env!("CARGO_MANIFEST_DIR")).stderr(Stdio::piped()).output().unwrap()
    })
    .await
    .unwrap();
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    let lines = text(&output.stdout);
    let said = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        (line["name"].as_str().unwrap().to_owned(), line["what"].clone())
    };
    let said: BTreeMap<String, Value> = lines.lines().map(said).collect();
    assert_eq!(said["refused"], true);
    for mode in ["auto", "legacy"] {
        let of = |what: &str| &said[&format!("{mode} {what}")];
        let tools = of("tools").as_object().unwrap();
        let names: Vec<&str> = tools.keys().map(String::as_str).collect();
        assert_eq!(names, ["pay", "slow", "sum", "whoami"]);
        assert_eq!(tools["sum"]["inputSchema"]["required"], json!(["a", "b"]));
        assert_eq!(tools["sum"]["annotations"]["readOnlyHint"], true);
        assert_eq!(tools["pay"]["annotations"]["readOnlyHint"], false);
        assert_eq!(*of("sum"), "5");
        assert_eq!(of("whoami")["user"], said["auto whoami"]["user"]);
        let told = |what: &str| (of(what)[0] == true, of(what)[1].as_str().unwrap());
        let (failed, why) = told("bad");
        assert!(failed && why.contains("bad_arguments") && why.contains("at /a:"), "{why}");
        let (failed, why) = told("pay");
        assert!(failed && why.contains("denied"), "{why}");
        assert_eq!(*of("progress"), true);
    }
    // Two at a time; the third is told to wait.
    assert_eq!(said["at once"], json!([false, false, true]));
    for _ in 0..100 {
        if notes.lock().unwrap().len() == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(*notes.lock().unwrap(), ["stopped", "stopped"]);
    drop(stop);
    server.await.unwrap().unwrap();
}
