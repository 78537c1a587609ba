//! Counters and gauges for the admin port's `/metrics`. Opaque on purpose: nobody reads a metric
//! to decide anything, and this module knows nobody.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    pub(crate) fn increment(&self) {
        self.add(1);
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicI64);

impl Gauge {
    pub(crate) fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(crate) fn add(&self, amount: i64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }
}

macro_rules! metrics {
    ($($field:ident: $kind:ident, $name:literal, $help:literal;)*) => {
        /// Every metric of the process.
        #[derive(Debug, Default)]
        pub(crate) struct Metrics {
            $(#[doc = $help] pub(crate) $field: $kind,)*
        }

        impl Metrics {
            /// The Prometheus text exposition format, version 0.0.4.
            pub(crate) fn render(&self) -> String {
                let mut text = String::new();
                $(
                    text.push_str(concat!("# HELP ", $name, " ", $help, "\n# TYPE ", $name, " "));
                    text.push_str(stringify!($kind).to_ascii_lowercase().as_str());
                    text.push_str(&format!("\n{} {}\n", $name, self.$field.0.load(Ordering::Relaxed)));
                )*
                text
            }
        }
    };
}

metrics! {
    requests: Counter, "countersign_requests_total", "Requests that were parsed.";
    refused: Counter, "countersign_refused_total", "Requests refused before they were named: framing, signature, credential.";
    unknown: Counter, "countersign_unknown_total", "Requests that could not be named without doubt.";
    denied: Counter, "countersign_denied_total", "Requests denied by rule.";
    holds: Counter, "countersign_holds_total", "Holds opened.";
    joined: Counter, "countersign_holds_joined_total", "Retries that joined their hold.";
    held: Gauge, "countersign_holds_pending", "Holds waiting for a verdict now.";
    attached: Gauge, "countersign_holds_attached", "Client connections suspended now.";
    approved: Counter, "countersign_approved_total", "Holds that were approved.";
    declined: Counter, "countersign_declined_total", "Holds that a person denied.";
    expired: Counter, "countersign_expired_total", "Holds nobody decided in time.";
    withdrawn: Counter, "countersign_withdrawn_total", "Holds whose client went away.";
    forwarded: Counter, "countersign_forwarded_total", "Requests sent to an upstream.";
    upstream_errors: Counter, "countersign_upstream_errors_total", "Requests the upstream did not answer whole.";
    records: Counter, "countersign_audit_records_total", "Records appended to the audit log.";
    journal_failed: Gauge, "countersign_audit_failed", "1 when the audit log cannot be written and matched actions stop.";
    notices: Counter, "countersign_notices_total", "Messages about holds that a channel took.";
    notice_errors: Counter, "countersign_notice_errors_total", "Messages about holds that a channel did not take; most are tried again.";
    rules: Gauge, "countersign_rules", "Rules in force.";
    rule_reload_errors: Counter, "countersign_rule_reload_errors_total", "Rule sets refused on reload; the one before stays in force.";
    connections: Gauge, "countersign_connections", "Open agent connections.";
    turned_away: Counter, "countersign_connections_turned_away_total", "Agent connections closed at once: all places were taken, or their peer's share.";
}
