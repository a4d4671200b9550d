//! A file system of its own for a node: ext4 in a file, which can be full, and can lose its power.

use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use tempfile::TempDir;

use crate::Failure;

/// Log segments, the reserve for a full disk, and some checkpoints of what clients write in a round.
const DISK_BYTES: u64 = 384 * 1024 * 1024;

/// `EXT4_IOC_SHUTDOWN` with `EXT4_GOING_FLAGS_NOLOGFLUSH`, which the kernel's headers have as
/// `_IOR('X', 125, __u32)` and 2: no call on the file system works any more, and what its journal did not hold is gone.
/// A system call with a pointer is not for safe Rust; perl is on every Debian.
const SHUT_DOWN: &str = r#"open(my $dir, "<", $ARGV[0]) or die "$!"; my $flags = pack("L", 2);
    ioctl($dir, 0x8004587d, $flags) or die "$!""#;

pub struct Disk {
    place: TempDir,
    is_mounted: bool,
}

impl Disk {
    pub fn make() -> Result<Disk, Failure> {
        let place = tempfile::tempdir()?;
        let mut disk = Disk { place, is_mounted: false };
        let image = disk.image();
        std::fs::File::create(&image)?.set_len(DISK_BYTES)?;
        call(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image))?;
        std::fs::create_dir(disk.root())?;
        disk.mount()?;
        Ok(disk)
    }

    fn image(&self) -> PathBuf {
        self.place.path().join("image")
    }

    /// Where it is mounted.
    pub fn root(&self) -> PathBuf {
        self.place.path().join("root")
    }

    fn ballast(&self) -> PathBuf {
        self.root().join("ballast")
    }

    pub fn mount(&mut self) -> Result<(), Failure> {
        call(Command::new("mount").args(["-o", "loop"]).arg(self.image()).arg(self.root()))?;
        self.is_mounted = true;
        Ok(())
    }

    /// Nobody may have files open on it.
    pub fn unmount(&mut self) -> Result<(), Failure> {
        call(Command::new("umount").arg(self.root()))?;
        self.is_mounted = false;
        Ok(())
    }

    /// Leaves the image for somebody to look at.
    pub fn keep(&mut self) -> PathBuf {
        self.place.disable_cleanup(true);
        self.image()
    }

    /// Cuts the power: whoever uses it gets errors, and what was not synced is gone when it is mounted again.
    pub fn cut_power(&self) -> Result<(), Failure> {
        call(Command::new("perl").args(["-e", SHUT_DOWN]).arg(self.root()))
    }

    /// Takes all room.
    pub fn fill(&self) -> Result<(), Failure> {
        let file = std::fs::File::create(self.ballast())?;
        // Others write meanwhile, so what is free has to be asked for in smaller and smaller pieces.
        let mut taken = 0;
        let mut piece = statvfs(self.root())?.f_bavail * statvfs(self.root())?.f_frsize;
        while piece >= 4096 {
            match fallocate(&file, FallocateFlags::empty(), taken, piece) {
                Ok(()) => taken += piece,
                Err(_) => piece /= 2,
            }
        }
        Ok(())
    }

    /// Gives it back for good: a power cut would bring a file back whose removal is not durable.
    pub fn give_room(&self) -> Result<(), Failure> {
        std::fs::remove_file(self.ballast())?;
        Ok(std::fs::File::open(self.root())?.sync_all()?)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.is_mounted {
            // Lazily: its node may be on its way out.
            let _ = Command::new("umount").arg("-l").arg(self.root()).status();
        }
    }
}

/// Runs a command that ends soon; what it complains of is the error.
pub fn call(command: &mut Command) -> Result<(), Failure> {
    let done = command.output()?;
    match done.status.success() {
        true => Ok(()),
        false => {
            let said = String::from_utf8_lossy(&done.stderr).trim().to_owned();
            Err(format!("{command:?}: {}: {said}", done.status).into())
        }
    }
}

/// Copies a directory, with whatever it holds.
pub fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    call(Command::new("cp").args(["-a", "--sparse=always", "-T"]).arg(from).arg(to))
}
