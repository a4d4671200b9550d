//! What the system knows of this process, from `/proc`.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::metrics::{Sample, Sampler};
use crate::storage::disk::Disk;

/// Samples this process, which began now, and the room on its disk.
pub fn sampler(disk: Arc<dyn Disk>) -> Sampler {
    let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Box::new(move || Sample {
        start_time_seconds: Some(started.as_secs_f64()),
        disk_free_bytes: disk.free_bytes().ok(),
        ..of_process()
    })
}

/// What of it can be had; a system without `/proc` has none of the rest.
fn of_process() -> Sample {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let bytes = |name| number_behind(&status, name).map(|kib| kib * 1024);
    Sample {
        cpu_seconds: cpu_seconds(&stat),
        resident_bytes: bytes("VmRSS:"),
        virtual_bytes: bytes("VmSize:"),
        threads: number_behind(&status, "Threads:"),
        max_fds: number_behind(&limits, "Max open files"),
        // One of them is the directory that is read.
        open_fds: fs::read_dir("/proc/self/fd")
            .ok()
            .map(|fds| fds.count().saturating_sub(1) as u64),
        ..Sample::default()
    }
}

/// Ticks in a second, as `/proc` counts them: the same on every machine, whatever its kernel uses inside.
const TICKS_PER_SECOND: f64 = 100.0;

/// Processor time in the program and in the system: fields 14 and 15 of `/proc/self/stat`, of which the second is the
/// program's name in parentheses, with any bytes in it.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut ticks =
        behind_name.split_whitespace().skip(11).map_while(|word| word.parse::<u64>().ok());
    Some((ticks.next()? + ticks.next()?) as f64 / TICKS_PER_SECOND)
}

/// The number that follows `name` at the beginning of a line.
fn number_behind(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_found_behind_any_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 2 3 4 250 50 8 9 20 0";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(cpu_seconds("7 (a) S"), None);
    }

    #[test]
    fn this_process_is_found() {
        let sample = of_process();
        assert!(sample.resident_bytes.is_some_and(|bytes| bytes > 100_000), "{sample:?}");
        assert!(sample.virtual_bytes >= sample.resident_bytes, "{sample:?}");
        assert!(sample.threads.is_some_and(|threads| threads >= 1), "{sample:?}");
        assert!(sample.open_fds.is_some_and(|fds| fds >= 3), "{sample:?}");
        assert!(sample.max_fds >= sample.open_fds, "{sample:?}");
        assert!(sample.cpu_seconds.is_some_and(|seconds| seconds >= 0.0), "{sample:?}");
    }
}
