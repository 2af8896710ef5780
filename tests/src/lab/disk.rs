//! A file system on a disk of its own, whose power can be cut.

use std::path::{Path, PathBuf};

use super::error::Result;
use super::host::Host;

/// A small ext4 file system, mounted on one host only.
pub struct Disk<'host> {
    host: &'host Host,
    place: PathBuf,
    image: PathBuf,
}

impl Host {
    /// Puts a directory with all that is in it on a disk; `None` where this user may not.
    pub fn disk(&self, place: &Path) -> Result<Option<Disk<'_>>> {
        let image = place.with_extension("disk");
        let disk = Disk { host: self, place: place.to_owned(), image };
        let (image, at) = (disk.image.display(), place.display());
        self.sh(&format!("truncate -s 16M {image} && mkfs.ext4 -q -d {at} {image}"))?.ok()?;
        Ok(disk.mount()?.then_some(disk))
    }
}

/// A disk that takes nothing until this is dropped: who writes to it waits.
pub struct Frozen<'disk>(&'disk Disk<'disk>);

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        // Where that fails, the test sees that nothing goes on.
        let _ = self.0.host.sh(&format!("fsfreeze --unfreeze {}", self.0.place.display()));
    }
}

impl Disk<'_> {
    /// Lets it hang: what is on it can be read, and nothing be written.
    pub fn freeze(&self) -> Result<Frozen<'_>> {
        self.host.sh(&format!("fsfreeze --freeze {}", self.place.display()))?.ok()?;
        Ok(Frozen(self))
    }

    fn mount(&self) -> Result<bool> {
        // Nothing that was only written is on its way to the disk by itself before a test is over.
        let options = "loop,commit=300";
        let (image, at) = (self.image.display(), self.place.display());
        Ok(self.host.sh(&format!("mount -o {options} {image} {at}"))?.success())
    }

    /// Cuts the power, with nothing on it open any more: what was written and not flushed is lost.
    pub fn cut(&self) -> Result {
        let (image, at) = (self.image.display(), self.place.display());
        // Unmounting would flush: the copy is made before.
        let script = format!(
            "cp --sparse=always {image} {image}.cut && umount {at} && mv {image}.cut {image}"
        );
        self.host.sh(&script)?.ok()?;
        if self.mount()? { Ok(()) } else { super::fail("the disk cannot be mounted again") }
    }
}
