//! The directory that survives a restart, locked against a second process.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::files::reason;

const KEY_BYTES: usize = 32;

/// Why the directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    /// It cannot be made or written to.
    #[error("cannot use the state directory `{}`: {}", path.display(), reason(source))]
    Unusable {
        /// The directory, or the file in it.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// Another process has it.
    #[error(
        "the state directory `{}` is in use by another tidegate; give each its own \
         `server.state_dir`",
        .0.display()
    )]
    Locked(PathBuf),
}

/// The directory, held for as long as this value lives.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: File,
}

impl StateDir {
    /// Makes the directory if it is missing, and locks it.
    ///
    /// # Errors
    /// If it cannot be used, or another process uses it.
    pub fn open(path: &Path) -> Result<Self, StateDirError> {
        let unusable = |path: &Path| {
            let path = path.to_owned();
            |source| StateDirError::Unusable { path, source }
        };
        // What is in there is nobody else's business.
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(path).map_err(unusable(path))?;
        let lock_path = path.join("lock");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let lock = options.open(&lock_path).map_err(unusable(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => Ok(StateDir { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(StateDirError::Locked(path.to_owned())),
            Err(TryLockError::Error(source)) => Err(unusable(&lock_path)(source)),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The key that affinity cookies are made with: made at the first start and kept, so that
    /// clients stay with their backends across restarts. One that is torn is set aside.
    ///
    /// # Errors
    /// If it can be neither read nor made.
    pub fn affinity_key(&self) -> Result<[u8; KEY_BYTES], StateDirError> {
        let path = self.path.join("affinity.key");
        self.read_or_make(&path).map_err(|source| StateDirError::Unusable { path, source })
    }

    fn read_or_make(&self, path: &Path) -> io::Result<[u8; KEY_BYTES]> {
        match File::open(path) {
            Ok(file) => {
                let mut bytes = Vec::with_capacity(KEY_BYTES + 1);
                file.take(KEY_BYTES as u64 + 1).read_to_end(&mut bytes)?;
                if let Ok(key) = bytes.try_into() {
                    return Ok(key);
                }
                let aside = path.with_extension("key.damaged");
                fs::rename(path, &aside)?;
                tracing::warn!(
                    "`{}` is torn or not ours; set aside as `{}`: clients with an affinity cookie \
                     are bound to backends anew",
                    path.display(),
                    aside.display()
                );
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let key = random_key()?;
        // Under another name first: a file that is there is whole.
        let draft = path.with_extension("new");
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(&key)?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        Ok(key)
    }
}

/// A key for this process alone.
///
/// # Errors
/// If the system has no randomness.
pub fn random_key() -> io::Result<[u8; KEY_BYTES]> {
    let mut key = [0; KEY_BYTES];
    aws_lc_rs::rand::fill(&mut key).map_err(|_| io::Error::other("no randomness"))?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_second_process_is_kept_out() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("deep/state");
        let first = StateDir::open(&path).unwrap();
        assert!(matches!(StateDir::open(&path), Err(StateDirError::Locked(_))));
        drop(first);
        StateDir::open(&path).unwrap();
    }

    #[test]
    fn the_key_is_kept_and_private() {
        let directory = tempfile::tempdir().unwrap();
        let first = StateDir::open(directory.path()).unwrap().affinity_key().unwrap();
        let again = StateDir::open(directory.path()).unwrap().affinity_key().unwrap();
        assert_eq!(first, again);
        let mode = fs::metadata(directory.path().join("affinity.key")).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_key_is_set_aside() {
        for damaged in [&b"short"[..], &[7; KEY_BYTES + 1]] {
            let directory = tempfile::tempdir().unwrap();
            fs::write(directory.path().join("affinity.key"), damaged).unwrap();
            let state = StateDir::open(directory.path()).unwrap();
            let made = state.affinity_key().unwrap();
            assert_eq!(state.affinity_key().unwrap(), made);
            let aside = fs::read(directory.path().join("affinity.key.damaged")).unwrap();
            assert_eq!(aside, damaged);
        }
    }
}
