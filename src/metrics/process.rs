//! What the system knows of the process and its disk, asked when somebody reads the metrics.
//!
//! The names are those that Prometheus has for every program, so that dashboards and alerts for all of them work.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::kinds::{Level, level, level_bytes};

/// What is known now; what is not stays as it was.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// Of all threads, since the start, in the program and in the system.
    pub cpu_seconds: Option<f64>,
    pub resident_bytes: Option<u64>,
    pub virtual_bytes: Option<u64>,
    pub open_fds: Option<u64>,
    pub max_fds: Option<u64>,
    pub threads: Option<u64>,
    /// Since 1970.
    pub start_time_seconds: Option<f64>,
    /// What files of the data directory may still grow by.
    pub disk_free_bytes: Option<u64>,
}

pub struct Process {
    cpu_seconds: Counter<f64, AtomicU64>,
    resident_bytes: Level,
    virtual_bytes: Level,
    open_fds: Level,
    max_fds: Level,
    threads: Level,
    start_time_seconds: Gauge<f64, AtomicU64>,
    disk_free_bytes: Level,
}

impl Process {
    pub fn new(add: &mut Registry, of_process: &mut Registry) -> Process {
        let (cpu_seconds, start_time_seconds) = (Counter::default(), Gauge::default());
        let about = "Processor time of all threads";
        of_process.register_with_unit("process_cpu", about, Unit::Seconds, cpu_seconds.clone());
        let about = "When the process started, since 1970";
        let started = start_time_seconds.clone();
        of_process.register_with_unit("process_start_time", about, Unit::Seconds, started);
        let add_bytes = level_bytes;
        Process {
            cpu_seconds,
            start_time_seconds,
            resident_bytes: add_bytes(of_process, "process_resident_memory", "Memory in use"),
            virtual_bytes: add_bytes(of_process, "process_virtual_memory", "Addresses in use"),
            open_fds: level(of_process, "process_open_fds", "Open files and sockets"),
            max_fds: level(of_process, "process_max_fds", "The most that may be open"),
            threads: level(of_process, "process_threads", "Threads"),
            disk_free_bytes: add_bytes(
                add,
                "disk_free",
                "What the files of the data directory may still grow by",
            ),
        }
    }

    pub fn take(&self, sample: &Sample) {
        if let Some(seconds) = sample.cpu_seconds {
            // A counter of this library goes up by steps; here the sum is what is known.
            self.cpu_seconds.inner().store(seconds.to_bits(), Ordering::Relaxed);
        }
        if let Some(seconds) = sample.start_time_seconds {
            self.start_time_seconds.set(seconds);
        }
        for (level, value) in [
            (&self.resident_bytes, sample.resident_bytes),
            (&self.virtual_bytes, sample.virtual_bytes),
            (&self.open_fds, sample.open_fds),
            (&self.max_fds, sample.max_fds),
            (&self.threads, sample.threads),
            (&self.disk_free_bytes, sample.disk_free_bytes),
        ] {
            if let Some(value) = value {
                level.set(value);
            }
        }
    }
}
