//! Metrics as text, in the OpenMetrics format.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeMetric,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::control::report::Metrics;

/// The whole text; `None` only where it cannot be written, which a string always can.
#[must_use]
pub fn text(metrics: Metrics) -> Option<String> {
    let mut registry = Registry::with_prefix("spad");
    registry.register_collector(Box::new(metrics));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).ok()?;
    Some(text)
}

/// Written one after the other.
struct Writer<'a>(DescriptorEncoder<'a>);

impl Writer<'_> {
    fn gauge(&mut self, name: &str, help: &str, value: impl EncodeGaugeValue) -> fmt::Result {
        let encoder = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        ConstGauge::new(value).encode(encoder)
    }

    fn counter(&mut self, name: &str, help: &str, value: impl EncodeCounterValue) -> fmt::Result {
        let encoder = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        ConstCounter::new(value).encode(encoder)
    }

    fn yes_or_no(&mut self, name: &str, help: &str, value: bool) -> fmt::Result {
        self.gauge(name, help, u64::from(value))
    }
}

fn seconds(milliseconds: i64) -> f64 {
    milliseconds as f64 / 1000.0
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut info = encoder.encode_descriptor("info", "What runs", None, MetricType::Gauge)?;
        let labels = [("version", self.version.as_str()), ("mode", self.mode.as_str())];
        ConstGauge::new(1_u64).encode(info.encode_family(&labels)?)?;
        let help = "Datagrams by what became of them";
        let mut knocks = encoder.encode_descriptor("knocks", help, None, MetricType::Counter)?;
        for (reason, count) in &self.counters {
            let counter = ConstCounter::new(*count);
            counter.encode(knocks.encode_family(&[("reason", reason.as_str())])?)?;
        }
        let help = "Memory, what is shared with others included";
        let mut memory =
            encoder.encode_descriptor("process_resident_bytes", help, None, MetricType::Gauge)?;
        for process in &self.processes {
            let Some(bytes) = process.resident_bytes else { continue };
            let labels = [("process", process.role.as_str())];
            ConstGauge::new(bytes).encode(memory.encode_family(&labels)?)?;
        }
        self.write(&mut Writer(encoder))
    }
}

impl Metrics {
    fn write(&self, to: &mut Writer<'_>) -> fmt::Result {
        to.gauge("uptime_seconds", "For how long it runs", self.uptime_ms / 1000)?;
        to.yes_or_no("capture_in_force", "Whether knocks are heard", self.capture_in_force)?;
        to.yes_or_no(
            "ruleset_in_force",
            "Whether the ruleset is, as last seen",
            self.ruleset_in_force,
        )?;
        to.counter("ruleset_repairs", "Changes of others that were put right", self.repairs)?;
        to.counter(
            "gatekeeper_restarts",
            "Unprivileged halves that had to be started again",
            self.restarts,
        )?;
        to.gauge("grants", "Grants in force", self.grants)?;
        to.gauge("sessions", "Open connections made through grants", self.sessions)?;
        to.gauge("clients", "Clients that may knock", self.clients)?;
        to.gauge("broken_records", "Records of clients that cannot be used", self.broken_records)?;
        to.gauge("faults", "What else is wrong: spad status says it", self.faults)?;
        to.gauge("bans", "Networks that are banned", self.bans)?;
        to.yes_or_no(
            "journal_durable",
            "Whether knocks are granted: what is used would not be forgotten",
            self.durable,
        )?;
        to.gauge(
            "lease_seconds",
            "How far ahead the lease on disk reaches",
            seconds(self.lease_ms),
        )?;
        if let Some(synchronised) = self.synchronised {
            to.yes_or_no(
                "clock_synchronised",
                "Whether something keeps the clock right",
                synchronised,
            )?;
        }
        if let Some(error) = self.max_error_ms.and_then(|error| i64::try_from(error).ok()) {
            to.gauge(
                "clock_max_error_seconds",
                "By how much the clock can be off",
                seconds(error),
            )?;
        }
        to.counter("audit_lost", "Events missing in the journal, or in the file", self.audit_lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::report::Process;
    use std::collections::BTreeSet;
    use std::path::Path;

    fn metrics() -> Metrics {
        let process = |role: &str| Process {
            role: role.into(),
            resident_bytes: Some(5_000_000),
            ..Process::default()
        };
        Metrics {
            version: "0.1.0".into(),
            mode: "guard".into(),
            counters: [("granted".to_owned(), 3), ("bad-tag".to_owned(), 7)].into(),
            synchronised: Some(false),
            max_error_ms: Some(1500),
            lease_ms: -2500,
            durable: true,
            processes: vec![process("warden"), process("gatekeeper")],
            ..Metrics::default()
        }
    }

    #[test]
    fn numbers_have_names_help_and_labels() {
        let text = text(metrics()).unwrap();
        for line in [
            "# TYPE spad_knocks counter",
            "# HELP spad_lease_seconds How far ahead the lease on disk reaches",
            "spad_info{version=\"0.1.0\",mode=\"guard\"} 1",
            "spad_knocks_total{reason=\"bad-tag\"} 7",
            "spad_process_resident_bytes{process=\"gatekeeper\"} 5000000",
            "spad_clock_synchronised 0",
            "spad_clock_max_error_seconds 1.5",
            "spad_lease_seconds -2.5",
            "spad_journal_durable 1",
            "spad_gatekeeper_restarts_total 0",
        ] {
            assert!(text.lines().any(|is| is == line), "{line} in {text}");
        }
        assert!(text.ends_with("# EOF\n"));
        let unknown = Metrics { synchronised: None, max_error_ms: None, ..metrics() };
        assert!(!super::text(unknown).unwrap().contains("spad_clock"));
    }

    fn names(text: &str) -> BTreeSet<String> {
        let words = text.split(|symbol: char| !symbol.is_ascii_alphanumeric() && symbol != '_');
        words.filter(|word| word.starts_with("spad_")).map(str::to_owned).collect()
    }

    #[test]
    fn dashboard_and_alerts_use_what_there_is_and_leave_nothing_out() {
        let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging");
        let read = |file: &str| std::fs::read_to_string(packaging.join(file)).unwrap();
        let dashboard = read("grafana/spad.json");
        serde_json::from_str::<serde_json::Value>(&dashboard).unwrap();
        let text = text(metrics()).unwrap();
        let samples =
            text.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n");
        let there = names(&samples);
        assert_eq!(names(&dashboard), there);
        let alerts = names(&read("prometheus/spad.rules.yml"));
        assert!(alerts.len() > 4 && alerts.is_subset(&there), "{alerts:?}");
    }
}
