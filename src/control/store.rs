//! Documents that survive a restart: JSON files in the state directory.
//!
//! A document is written as a whole under another name, synced and renamed, and the directory is
//! synced too: whatever happens, the file holds the document before or the one after. What cannot be
//! read all the same is set aside with a message, since no file in there is worth not starting for.
//!
//! A document has one owner, who waits for each save before the next. Without a state directory
//! nothing is kept, and nothing else is different.

mod reserve;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::files::reason;
use super::state_dir::{StateDir, StateDirError};
pub(super) use reserve::Written;

/// The governor does not wait longer than this for something to be on the disk: a disk that hangs must
/// not keep a bad version in service.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// After so long what could not be kept is tried again: the disk may have been full for a moment.
pub(super) const AGAIN: Duration = Duration::from_secs(5);

/// Of the envelope; a document of another one is not understood.
const FORMAT: u32 = 1;

/// Where documents are kept; clones speak of the same place.
#[derive(Clone, Debug, Default)]
pub struct Store(Option<Arc<StateDir>>);

/// A document that was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept<T> {
    /// What it says.
    pub document: T,
    /// When it was saved, by the clock of the system.
    pub saved_at: SystemTime,
}

impl<T> Kept<T> {
    /// How old it is at `now`; zero if it comes from the future.
    pub fn age(&self, now: SystemTime) -> Duration {
        now.duration_since(self.saved_at).unwrap_or_default()
    }
}

/// What stands in a file. The name is in it too, so that a file put under another name is noticed.
#[derive(Debug, Serialize, Deserialize)]
struct Envelope<T> {
    format: u32,
    name: String,
    /// Milliseconds since the Unix epoch.
    saved_at: u64,
    document: T,
}

/// Why a file is no use.
#[derive(Debug, thiserror::Error)]
enum Useless {
    #[error("{}", reason(.0))]
    Unreadable(#[from] io::Error),
    #[error("it is torn or not ours ({0})")]
    Torn(#[from] serde_json::Error),
    #[error("it is a document of another name or format")]
    Foreign,
}

impl Store {
    /// The documents of a state directory, or of none: then nothing is kept.
    pub fn new(directory: Option<Arc<StateDir>>) -> Self {
        Store(directory)
    }

    /// Whether what is saved survives a restart.
    pub fn keeps(&self) -> bool {
        self.0.is_some()
    }

    /// Whether there is a file for the document of this name, of use or not.
    pub fn has(&self, name: &str) -> bool {
        let file = format!("{name}.json");
        self.0.as_ref().is_some_and(|directory| directory.path().join(file).exists())
    }

    /// The document of this name, if one was kept. One that cannot be read is set aside as
    /// `NAME.json.damaged`, which the log tells.
    pub fn load<T: DeserializeOwned>(&self, name: &str) -> Option<Kept<T>> {
        let path = self.0.as_ref()?.path().join(format!("{name}.json"));
        match read(&path, name) {
            Ok(kept) => kept,
            Err(problem) => {
                set_aside(&path, &problem);
                None
            }
        }
    }

    /// Keeps a document in place of the one of this name. Blocks until it is on the disk.
    ///
    /// # Errors
    /// If it cannot be written; the one before is still there.
    pub fn save<T: Serialize>(&self, name: &str, document: &T) -> Result<(), StateDirError> {
        let Some(directory) = &self.0 else { return Ok(()) };
        directory.claim()?;
        let path = directory.path().join(format!("{name}.json"));
        write(directory.path(), &path, name, document)
            .map_err(|source| StateDirError::Unusable { path, source })
    }

    /// As [`save`](Self::save), for one that must be kept where the disk is full too: its place is
    /// held from the first time on ([`reserve`]), and what does not fit there is kept in brief.
    /// `None`: nothing is kept here.
    ///
    /// # Errors
    /// If it cannot be written; the one before is still there.
    pub(super) fn save_in_reserve<T: Serialize>(
        &self,
        name: &str,
        document: &T,
        brief: impl FnOnce() -> T,
    ) -> Result<Option<Written>, StateDirError> {
        let Some(directory) = &self.0 else { return Ok(None) };
        directory.claim()?;
        let path = directory.path().join(format!("{name}.json"));
        let brief = || enveloped(name, &brief());
        let written =
            enveloped(name, document).and_then(|full| reserve::write(&path, &full, brief));
        written.map(Some).map_err(|source| StateDirError::Unusable { path, source })
    }

    /// As [`save`](Self::save), on a thread that may block.
    ///
    /// # Errors
    /// If it cannot be written; what is in force does not depend on it.
    pub async fn save_beside<T>(&self, name: &'static str, document: T) -> Result<(), StateDirError>
    where
        T: Serialize + Send + 'static,
    {
        if !self.keeps() {
            return Ok(());
        }
        let store = self.clone();
        let saving = tokio::task::spawn_blocking(move || store.save(name, &document));
        // It is cancelled only at the end of the process.
        saving.await.unwrap_or(Ok(()))
    }
}

/// Whether a document could not be kept lately; the log tells when that begins and when it ends.
#[derive(Debug, Default)]
pub(super) struct Trouble(bool);

impl Trouble {
    /// Takes note of how it went. `true` if that is where the trouble begins.
    pub(super) fn note(&mut self, name: &str, saved: &Result<(), StateDirError>) -> bool {
        let before = std::mem::replace(&mut self.0, saved.is_err());
        match saved {
            Err(error) if !before => tracing::error!(
                "{error}; it is tried again and again, and until then a restart does not know of \
                 the latest change of `{name}`"
            ),
            Ok(()) if before => tracing::info!("`{name}` is kept again"),
            _ => {}
        }
        self.0 && !before
    }
}

fn read<T: DeserializeOwned>(path: &Path, name: &str) -> Result<Option<Kept<T>>, Useless> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    // What it is comes first: a document of another format need not even parse.
    let known: Envelope<serde::de::IgnoredAny> = serde_json::from_slice(&bytes)?;
    if known.format != FORMAT || known.name != name {
        return Err(Useless::Foreign);
    }
    let Envelope { document, saved_at, .. } = serde_json::from_slice(&bytes)?;
    let saved_at = UNIX_EPOCH.checked_add(Duration::from_millis(saved_at));
    Ok(Some(Kept { document, saved_at: saved_at.ok_or(Useless::Foreign)? }))
}

fn set_aside(path: &Path, problem: &Useless) {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".damaged");
    let shown = path.display();
    match fs::rename(path, &aside) {
        Ok(()) => tracing::warn!(
            "cannot use `{shown}`: {problem}; set aside as `{}`, going on without it",
            Path::new(&aside).display()
        ),
        Err(error) => tracing::warn!(
            "cannot use `{shown}`: {problem}; going on without it (it cannot be set aside either: \
             {})",
            reason(&error)
        ),
    }
}

fn enveloped<T: Serialize>(name: &str, document: &T) -> io::Result<Vec<u8>> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let envelope = Envelope {
        format: FORMAT,
        name: name.to_owned(),
        saved_at: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
        document,
    };
    let mut bytes = serde_json::to_vec_pretty(&envelope)?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn write<T: Serialize>(directory: &Path, path: &Path, name: &str, document: &T) -> io::Result<()> {
    let bytes = enveloped(name, document)?;
    let draft = path.with_extension("json.new");
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    if let Err(error) = file.write_all(&bytes).and_then(|()| file.sync_all()) {
        // On a full disk it would only be in the way.
        let _ = fs::remove_file(&draft);
        return Err(error);
    }
    fs::rename(&draft, path)?;
    // Only then does the new name survive a loss of power.
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;

    use super::*;

    fn store() -> (TempDir, Store) {
        let directory = TempDir::new().unwrap();
        let state = StateDir::open(directory.path()).unwrap();
        (directory, Store::new(Some(Arc::new(state))))
    }

    fn loaded(store: &Store, name: &str) -> Option<Vec<u32>> {
        store.load(name).map(|kept: Kept<Vec<u32>>| kept.document)
    }

    #[test]
    fn the_latest_document_is_kept_and_private() {
        let (directory, store) = store();
        let before = SystemTime::now() - Duration::from_millis(1);
        store.save("numbers", &[1, 2]).unwrap();
        store.save("numbers", &[3]).unwrap();
        let kept: Kept<Vec<u32>> = store.load("numbers").unwrap();
        assert_eq!(kept.document, [3]);
        assert!(kept.saved_at >= before && kept.age(SystemTime::now()) < Duration::from_secs(60));
        let path = directory.path().join("numbers.json");
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_draft_that_was_never_finished_changes_nothing() {
        let (directory, store) = store();
        store.save("numbers", &[1]).unwrap();
        fs::write(directory.path().join("numbers.json.new"), "{\"form").unwrap();
        assert_eq!(loaded(&store, "numbers"), Some(vec![1]));
        store.save("numbers", &[2]).unwrap();
        assert_eq!(loaded(&store, "numbers"), Some(vec![2]));
    }

    #[test]
    fn what_cannot_be_read_is_set_aside() {
        let other_name = "{\"format\":1,\"name\":\"others\",\"saved_at\":1,\"document\":[1]}";
        let other_format = other_name.replace("others", "numbers").replace(":1,\"n", ":9,\"n");
        let other_shape = other_name.replace("others", "numbers").replace("[1]", "{\"a\":1}");
        let no_time = other_name.replace("others", "numbers").replace("\"saved_at\":1,", "");
        for text in ["", "{\"format\":1,\"na", "GIF89a", "\u{0}\u{0}", other_name, &other_format]
            .into_iter()
            .chain([&*other_shape, &*no_time])
        {
            let (directory, store) = store();
            fs::write(directory.path().join("numbers.json"), text).unwrap();
            assert_eq!(loaded(&store, "numbers"), None, "{text}");
            let aside = fs::read_to_string(directory.path().join("numbers.json.damaged"));
            assert_eq!(aside.unwrap(), text);
            store.save("numbers", &[1]).unwrap();
            assert_eq!(loaded(&store, "numbers"), Some(vec![1]));
        }
    }

    #[test]
    fn a_directory_in_its_place_is_no_reason_to_stop() {
        let (directory, store) = store();
        fs::create_dir(directory.path().join("numbers.json")).unwrap();
        assert_eq!(loaded(&store, "numbers"), None);
        assert!(directory.path().join("numbers.json.damaged").is_dir());
    }

    #[test]
    fn without_a_directory_nothing_is_kept() {
        let store = Store::default();
        store.save("numbers", &[1]).unwrap();
        assert!(!store.keeps());
        assert_eq!(loaded(&store, "numbers"), None);
    }
}
