//! What this machine allows: programs that are installed, and the rights of root.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What is there, or in words what is not.
pub struct Tools {
    /// A mount of one's own file systems.
    pub disks: Result<(), String>,
    /// The call that makes ext4 forget what was not synced; perl makes it.
    pub shutdown: Result<(), String>,
    pub strace: Result<(), String>,
    /// The library that gives a process another wall clock.
    pub clocks: Result<PathBuf, String>,
}

impl Tools {
    pub fn look() -> Tools {
        let root = match rustix::process::geteuid().is_root() {
            true => Ok(()),
            false => Err("mounting a file system needs root".to_owned()),
        };
        let disks = root.and_then(|()| installed("mkfs.ext4", "e2fsprogs"));
        let disks = disks.and_then(|()| installed("losetup", "mount"));
        Tools {
            disks,
            shutdown: installed("perl", "perl-base"),
            strace: installed("strace", "strace").and_then(|()| may_trace()),
            clocks: libfaketime(),
        }
    }
}

fn installed(program: &str, package: &str) -> Result<(), String> {
    let places = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&places).any(|place| place.join(program).is_file());
    match found || Path::new("/usr/sbin").join(program).is_file() {
        true => Ok(()),
        false => Err(format!("{program} is not installed (Debian package {package})")),
    }
}

/// Whether processes may be traced at all: containers often forbid it.
fn may_trace() -> Result<(), String> {
    let tried = Command::new("strace").args(["-qq", "-e", "trace=none", "true"]).output();
    match tried {
        Ok(done) if done.status.success() => Ok(()),
        Ok(done) => Err(format!("strace: {}", String::from_utf8_lossy(&done.stderr).trim())),
        Err(error) => Err(format!("strace: {error}")),
    }
}

fn libfaketime() -> Result<PathBuf, String> {
    let arch = std::env::consts::ARCH;
    let candidates = [
        format!("/usr/lib/{arch}-linux-gnu/faketime/libfaketimeMT.so.1"),
        "/usr/lib/faketime/libfaketimeMT.so.1".to_owned(),
        "/usr/lib64/faketime/libfaketimeMT.so.1".to_owned(),
    ];
    let found = candidates.into_iter().map(PathBuf::from).find(|path| path.is_file());
    found.ok_or_else(|| "libfaketime is not installed (Debian package faketime)".to_owned())
}
