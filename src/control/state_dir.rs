//! The directory that survives a restart, locked against a second process.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{Access, access, statvfs};
use rustix::rand::{GetRandomFlags, getrandom};

use super::files::reason;

const KEY_BYTES: usize = 32;
/// The file that is locked.
const LOCK: &str = "lock";

/// Why the directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    /// It cannot be made or written to.
    #[error("cannot write to the state directory `{}`: {}", path.display(), reason(source))]
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
    /// Absent as long as there is none and none can be made.
    lock: Mutex<Option<File>>,
}

impl StateDir {
    /// Makes the directory if it is missing, and locks it. One that cannot be written is no reason not
    /// to serve: what was kept there is read all the same, and the log tells.
    ///
    /// # Errors
    /// If another process uses it, or that cannot be told.
    pub fn open(path: &Path) -> Result<Self, StateDirError> {
        let lock = match make(path) {
            Ok(lock) => Some(lock),
            Err(source) => {
                tracing::warn!("{}", StateDirError::Unusable { path: path.to_owned(), source });
                File::open(path.join(LOCK)).ok()
            }
        };
        if let Some(lock) = &lock {
            take(path, lock)?;
        }
        Ok(StateDir { path: path.to_owned(), lock: Mutex::new(lock) })
    }

    /// To be called before anything is written: where there was no lock yet it is made and taken.
    ///
    /// # Errors
    /// If that is still not possible, or another process came first.
    pub fn claim(&self) -> Result<(), StateDirError> {
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if lock.is_none() {
            let made = make(&self.path)
                .map_err(|source| StateDirError::Unusable { path: self.path.clone(), source })?;
            take(&self.path, &made)?;
            *lock = Some(made);
        }
        Ok(())
    }

    /// Why nothing can be written to the directory of this path, or made there, as far as can be told
    /// without an attempt.
    pub fn obstacle(path: &Path) -> Option<io::Error> {
        let there = path.ancestors().find(|it| it.exists())?;
        if !there.is_dir() {
            return Some(io::ErrorKind::NotADirectory.into());
        }
        let writable = access(there, Access::WRITE_OK | Access::EXEC_OK).map_err(io::Error::from);
        let room = || match statvfs(there) {
            Ok(disk) if disk.f_blocks > 0 && disk.f_bavail == 0 => {
                Err(io::ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        };
        writable.and_then(|()| room()).err()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The key that affinity cookies are made with: made at the first start and kept, so that
    /// clients stay with their backends across restarts. One that is torn is set aside. Where none can
    /// be kept it is one for this process alone, and the log tells.
    ///
    /// # Errors
    /// If the system has no randomness.
    pub fn affinity_key(&self) -> io::Result<[u8; KEY_BYTES]> {
        let path = self.path.join("affinity.key");
        self.read_or_make(&path).or_else(|error| {
            tracing::warn!(
                "cannot keep `{}`: {}; after the next start clients with an affinity cookie are bound \
                 to backends anew",
                path.display(),
                reason(&error)
            );
            random_key()
        })
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

/// The directory, and the lock in it. What is in there is nobody else's business.
fn make(directory: &Path) -> io::Result<File> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600).open(directory.join(LOCK))
}

fn take(directory: &Path, lock: &File) -> Result<(), StateDirError> {
    lock.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => StateDirError::Locked(directory.to_owned()),
        TryLockError::Error(source) => {
            StateDirError::Unusable { path: directory.join(LOCK), source }
        }
    })
}

/// A key for this process alone. It is the system's: the crypto library's own randomness takes tens of
/// milliseconds before its first byte, and who serves without TLS never needs it.
///
/// # Errors
/// If the system has no randomness.
pub fn random_key() -> io::Result<[u8; KEY_BYTES]> {
    let mut key = [0; KEY_BYTES];
    // So few bytes are never given in part.
    match getrandom(&mut key, GetRandomFlags::empty())? {
        KEY_BYTES => Ok(key),
        _ => Err(io::Error::other("the system has too little randomness")),
    }
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
    fn what_is_no_directory_is_served_without() {
        let parent = tempfile::tempdir().unwrap();
        let file = parent.path().join("file");
        fs::write(&file, "").unwrap();
        let state = StateDir::open(&file.join("state")).unwrap();
        assert_ne!(state.affinity_key().unwrap(), state.affinity_key().unwrap());
        let obstacle = StateDir::obstacle(&file.join("state")).unwrap();
        assert_eq!(obstacle.kind(), io::ErrorKind::NotADirectory);
        assert!(StateDir::obstacle(&parent.path().join("state")).is_none());
    }

    #[test]
    fn a_lock_that_could_not_be_made_is_taken_before_anything_is_written() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("file/state");
        fs::write(parent.path().join("file"), "").unwrap();
        let [first, second] = [StateDir::open(&path).unwrap(), StateDir::open(&path).unwrap()];
        assert!(matches!(first.claim(), Err(StateDirError::Unusable { .. })));
        fs::remove_file(parent.path().join("file")).unwrap();
        first.claim().unwrap();
        assert!(matches!(second.claim(), Err(StateDirError::Locked(_))));
        first.claim().unwrap();
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
