//! Memory of this process, as the system counts it.

use std::fs;
use std::io;
use std::path::Path;

use crate::error::BenchError;

/// What is resident now.
pub fn resident_bytes() -> Result<u64, BenchError> {
    status_bytes("VmRSS:")
}

/// The most that was resident, since [`forget_peak`].
pub fn peak_bytes() -> Result<u64, BenchError> {
    status_bytes("VmHWM:")
}

/// Lets the peak begin anew at what is resident now.
pub fn forget_peak() -> Result<(), BenchError> {
    let path = Path::new("/proc/self/clear_refs");
    fs::write(path, "5").map_err(BenchError::io("write to", path))
}

fn status_bytes(name: &str) -> Result<u64, BenchError> {
    let path = Path::new("/proc/self/status");
    let text = fs::read_to_string(path).map_err(BenchError::io("read", path))?;
    parse(&text, name)
        .ok_or_else(|| io::Error::other(format!("it has no line `{name}` in kB")))
        .map_err(BenchError::io("understand", path))
}

/// A line of a process's `status`, in bytes.
pub fn parse(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_of_what_came_after_it_was_forgotten() {
        assert_eq!(parse("VmHWM:\t  12 kB\nVmRSS:\t   7 kB\n", "VmRSS:"), Some(7 * 1024));
        assert_eq!(parse("VmHWM:\t  12 kB\n", "VmRSS:"), None);

        let large = 64 << 20;
        drop(vec![1_u8; large]);
        let before = peak_bytes().unwrap();
        forget_peak().unwrap();
        let after = peak_bytes().unwrap();
        assert!(before >= after + large as u64 / 2, "{before} and then {after}");
        drop(vec![1_u8; large]);
        assert!(peak_bytes().unwrap() >= after + large as u64 / 2);
    }
}
