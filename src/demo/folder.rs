//! A temporary folder that disappears with its value.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::{env, io};

/// A folder that only this user can look into, as a private key lies in it.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// Makes a folder with a new name where the system keeps temporary files.
    pub(super) fn new() -> io::Result<Self> {
        let path = env::temp_dir().join(format!("tidegate-demo-{:08x}", fastrand::u32(..)));
        // Fails if the name is taken, so nobody can have prepared what we are about to trust.
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    /// Writes a file into it and gives its path.
    pub(super) fn write(&self, name: &str, content: &str) -> io::Result<PathBuf> {
        let path = self.0.join(name);
        fs::write(&path, content)?;
        Ok(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Nothing is lost if the system has to tidy up instead.
        let _ = fs::remove_dir_all(&self.0);
    }
}
