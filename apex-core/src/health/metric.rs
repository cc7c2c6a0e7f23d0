//! Every metric: the operator's page is made from this list. Those of agents and models have the names of
//! OpenTelemetry's conventions for generative AI, where these have one.

use metrics::Unit;
use std::fmt::Write;

/// What a metric counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution.
    Histogram,
}

/// A metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What it counts.
    pub kind: MetricKind,
    /// In what.
    pub unit: Unit,
    /// What it is split by.
    pub labels: &'static str,
    /// What it says.
    pub meaning: &'static str,
}

macro_rules! metrics_table {
    ($($kind:ident $name:literal $unit:ident $labels:literal $meaning:literal;)*) => {
        /// Every metric.
        pub const METRICS: &[Metric] = &[$(Metric {
            name: $name,
            kind: MetricKind::$kind,
            unit: Unit::$unit,
            labels: $labels,
            meaning: $meaning,
        },)*];
    };
}

metrics_table! {
    Counter "apex_config_reload_failures_total" Count "" "Reloads of the configuration that did not pass.";
    Counter "apex_errors_total" Count "code, operation" "Requests that failed.";
    Counter "apex_errors_unclassified_total" Count "operation" "Driver errors whose code has no class. Should stay 0.";
    Counter "apex_alerts_total" Count "code" "Alerts handed to the host.";
    Counter "apex_notices_total" Count "subject" "Notices handed to the host: budgets that burn, resources that run out, certificates that end.";
    Counter "apex_retries_total" Count "dependency" "Calls that were made again.";
    Counter "apex_fallbacks_total" Count "dependency" "Answers by the next best.";
    Counter "apex_bulkhead_refused_total" Count "dependency" "Calls refused because too many waited or none ended in time.";
    Counter "apex_budget_refused_total" Count "scope" "Questions to models that did not fit what their user may use in a day or month.";
    Gauge "apex_breaker_state" Count "dependency" "0 closed or off, 1 half open, 2 open.";
    Counter "apex_breaker_transitions_total" Count "dependency" "Changes of a breaker's state.";
    Counter "apex_endpoints_put_aside_total" Count "dependency" "Endpoints that were put aside.";
    Counter "apex_redis_connections_given_up_total" Count "" "Connections to Redis that left a call without an answer, broke, or led to a replica.";
    Counter "apex_redis_logs_renewed_total" Count "" "Logs in Redis that had lost events and began a new life, of which readers were told by a reset.";
    Counter "apex_redis_subscriptions_total" Count "" "Subscriptions to the wake-ups of other nodes. One at the start; each further one says that wake-ups may have been missed.";
    Counter "apex_door_total" Count "action, way, outcome" "Logins, entries, tickets, renewals and what was refused of them.";
    Counter "apex_audit_lost_total" Count "" "Entries of the record of the door that were not kept: its store did not keep up, or nobody in particular was refused too often.";
    Counter "apex_audit_failures_total" Count "" "Writes of that record that failed and are tried again.";
    Counter "apex_jwks_failures_total" Count "" "Keys of other issuers that could not be fetched.";
    Counter "apex_usage_lost_total" Count "" "Attempts at a model's answer that could not be recorded; each is in the log. Should stay 0.";
    Histogram "gen_ai.workflow.duration" Seconds "gen_ai.workflow.name, error.type" "How long a run took, waiting included.";
    Histogram "gen_ai.invoke_agent.duration" Seconds "gen_ai.agent.name, error.type" "How long a step of an agent took.";
    Histogram "gen_ai.execute_tool.duration" Seconds "gen_ai.tool.name, error.type" "How long a call of a tool took.";
    Histogram "gen_ai.client.operation.duration" Seconds "gen_ai.operation.name, gen_ai.provider.name, gen_ai.request.model, error.type" "How long an attempt at a model's answer took.";
    Histogram "gen_ai.client.token.usage" Count "gen_ai.operation.name, gen_ai.provider.name, gen_ai.request.model, gen_ai.token.type" "Tokens of an attempt, sent (`input`) and received (`output`).";
    Histogram "apex_run_cost_usd" Count "" "What models cost in a run, in US dollars; of runs that asked any, all of which have a price.";
    Histogram "apex_step_cost_usd" Count "agent" "What models cost in a step, in US dollars; of steps that asked any, all of which have a price.";
    Histogram "apex_model_cost_usd" Count "gen_ai.operation.name, gen_ai.provider.name, gen_ai.request.model" "What an attempt at a model's answer cost, in US dollars, where it has a price.";
    Counter "apex_unpriced_steps_total" Count "agent" "Steps that used something that has no price.";
    Gauge "apex_health_status" Count "" "This node: 0 pass, 1 warn, 2 fail (not ready).";
    Gauge "apex_health_dependency" Count "dependency" "A dependency: 0 pass, 1 warn, 2 fail.";
    Histogram "apex_health_probe_seconds" Seconds "dependency" "How long a dependency took to answer a probe.";
    Gauge "apex_tls_certificate_not_after_seconds" Seconds "endpoint" "The earliest end in an endpoint's chain, as Unix time.";
    Gauge "apex_slo_burn_rate" Count "level" "How many times faster than allowed the error budget burns, over an hour.";
    Gauge "apex_resource_in_use" Count "resource" "What is in use of something that runs out.";
    Gauge "apex_resource_exhaustion_eta_seconds" Seconds "resource" "When it runs out; infinite where no trend says so.";
    Gauge "apex_database_connections" Count "state" "Connections to PostgreSQL: used and idle.";
    Gauge "apex_database_connections_limit" Count "" "The most connections of the pool.";
    Gauge "apex_database_waiting" Count "priority" "Requests that wait for a session.";
    Gauge "apex_database_longest_held_seconds" Seconds "" "For how long the session held longest has been held.";
    Histogram "apex_database_acquire_seconds" Seconds "priority" "How long a request waited for its session.";
    Histogram "apex_database_connect_seconds" Seconds "" "How long a connection took to make.";
    Counter "apex_database_connect_failures_total" Count "failure" "Tries to connect that failed.";
    Counter "apex_database_refused_total" Count "reason" "Requests that got no session: full, too_long, user_full, user_too_long, closed.";
    Counter "apex_database_retries_total" Count "reason" "Transactions that were made again.";
    Counter "apex_database_leaks_total" Count "" "Sessions that were held past the first threshold.";
    Counter "apex_database_taken_back_total" Count "reason" "Sessions that were taken back: leak, statement, transaction, preempted, silent, closed.";
    Counter "apex_database_outcomes_looked_up_total" Count "outcome" "Commits whose answer was lost: applied, not_applied, unknown.";
    Counter "apex_database_listen_reconnects_total" Count "" "Times that the connection that listens was made again.";
}

/// Tells the host's recorder what the metrics mean; call it after the recorder is installed.
pub fn describe() {
    for metric in METRICS {
        match metric.kind {
            MetricKind::Counter => {
                metrics::describe_counter!(metric.name, metric.unit, metric.meaning)
            }
            MetricKind::Gauge => metrics::describe_gauge!(metric.name, metric.unit, metric.meaning),
            MetricKind::Histogram => {
                metrics::describe_histogram!(metric.name, metric.unit, metric.meaning)
            }
        }
    }
}

/// The metrics as a table in Markdown.
#[must_use]
pub fn page() -> String {
    let mut page =
        String::from("| metric | kind | unit | labels | meaning |\n|---|---|---|---|---|\n");
    for metric in METRICS {
        let kind = format!("{:?}", metric.kind).to_lowercase();
        let unit = metric.unit.as_str();
        // Writing to a String cannot fail.
        let _ = writeln!(
            page,
            "| `{}` | {kind} | {unit} | {} | {} |",
            metric.name, metric.labels, metric.meaning
        );
    }
    page
}
