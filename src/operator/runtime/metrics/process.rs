//! What is read at the moment it is asked: the memory of the process, and whether it leads.
//!
//! Must not fail a scrape: what cannot be read is left out.

use super::super::lease::Leader;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::gauge::ConstGauge,
};
use std::{
    fmt, fs,
    sync::{Arc, OnceLock},
};

#[derive(Debug)]
pub(super) struct Process {
    leader: Arc<OnceLock<Leader>>,
}

impl Process {
    pub(super) fn new(leader: Arc<OnceLock<Leader>>) -> Self {
        Self { leader }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let mut gauge = |name, help, value: i64| {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
        };
        if let Some(bytes) = fs::read_to_string("/proc/self/status")
            .ok()
            .as_deref()
            .and_then(resident)
        {
            gauge("process_resident_memory_bytes", "Resident memory size in bytes", bytes)?;
        }
        let leads = self.leader.get().is_some_and(Leader::is_leader);
        gauge(
            "repave_leader",
            "1 while this replica holds the leader lease",
            leads.into(),
        )
    }
}

/// The line `VmRSS:     1234 kB` of /proc/self/status, which does not depend on the size of a page.
fn resident(status: &str) -> Option<i64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::resident;

    #[test]
    fn the_resident_size_is_read_in_bytes() {
        assert_eq!(
            resident("Name:\trepave\nVmRSS:\t    2048 kB\nVmData:\t 1 kB\n"),
            Some(2_097_152)
        );
        assert_eq!(resident("Name:\trepave\n"), None);
    }
}
