//! A document whose place on the disk is held, so that it is kept where the disk is full.
//!
//! Two files of the same length take turns. The document is written over the spare one, within the
//! blocks that this has already, filled up with spaces, which JSON does not mind; it is synced, and
//! then the two exchange their names at once. So the file under the name is whole at every moment, as
//! with any other document, and what was there before is the next spare.
//!
//! A document that has grown takes more room, and some for what is to come. Where there is none, it is
//! written in brief. Not held is the room on file systems that never write in place, such as btrfs and
//! ZFS. Where names cannot be exchanged, as on some network file systems, the room is given back and
//! taken anew at each turn.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};

/// Room for a document to grow in, beside as much as it takes itself ...
const SPARE: usize = 8 << 10;
/// ... and no more than this.
const MAX_SPARE: usize = 256 << 10;
/// Lengths are multiples of the blocks of most file systems.
const BLOCK: usize = 4 << 10;

/// How a document was kept.
#[derive(Debug)]
pub(in crate::control) struct Written {
    /// Whether in full. `Err`: in brief, and why.
    pub(in crate::control) in_full: io::Result<()>,
    /// Whether there is room for the next one, whatever becomes of the disk.
    pub(in crate::control) reserve: io::Result<()>,
}

/// Writes a document to `path`, or in brief where the disk has no room for all of it.
///
/// # Errors
/// If neither can be written; the one before is still there.
pub(super) fn write(
    path: &Path,
    full: &[u8],
    brief: impl FnOnce() -> io::Result<Vec<u8>>,
) -> io::Result<Written> {
    write_by(fill, path, full, brief)
}

/// Writes bytes over the beginning of a file.
type Fill = fn(&File, &[u8]) -> io::Result<()>;

fn fill(mut file: &File, bytes: &[u8]) -> io::Result<()> {
    file.seek(SeekFrom::Start(0))?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn write_by(
    fill: Fill,
    path: &Path,
    full: &[u8],
    brief: impl FnOnce() -> io::Result<Vec<u8>>,
) -> io::Result<Written> {
    let draft = path.with_extension("json.new");
    let mut options = OpenOptions::new();
    let spare = options.write(true).create(true).truncate(false).mode(0o600).open(&draft)?;
    let held = usize::try_from(spare.metadata()?.len()).unwrap_or(usize::MAX);
    let in_full = match write_whole(fill, &spare, held, full) {
        Err(error) if !is_full(&error) => return Err(error),
        other => other,
    };
    if in_full.is_err() {
        fill(&spare, &padded(&brief()?, held))?;
    }
    let length = spare.metadata()?.len();
    exchange(&draft, path)?;
    let directory = path.parent().unwrap_or(Path::new("."));
    // Only then do the names survive a loss of power.
    File::open(directory)?.sync_all()?;
    Ok(Written { in_full, reserve: hold(&draft, length) })
}

/// All of a document: with room to grow if it needs more than is held, or else just itself.
fn write_whole(fill: Fill, spare: &File, held: usize, full: &[u8]) -> io::Result<()> {
    let ample = full.len() + full.len().min(MAX_SPARE) + SPARE;
    let wanted = if full.len() <= held { held } else { ample };
    let mut written = fill(spare, &padded(full, wanted));
    if wanted != held && written.as_ref().is_err_and(is_full) {
        written = fill(spare, &padded(full, 0));
    }
    if written.is_err() {
        // What was taken in vain is others' again. What is held stays.
        spare.set_len(held as u64)?;
    }
    written
}

/// A document filled up to a length, if that is more than it has.
fn padded(document: &[u8], length: usize) -> Vec<u8> {
    let length = length.max(document.len() + 1).next_multiple_of(BLOCK);
    let mut bytes = document.to_vec();
    bytes.resize(length - 1, b' ');
    bytes.push(b'\n');
    bytes
}

/// Puts the draft in place, and what was there in the draft's.
fn exchange(draft: &Path, path: &Path) -> io::Result<()> {
    if renameat_with(CWD, draft, CWD, path, RenameFlags::EXCHANGE).is_ok() {
        return Ok(());
    }
    // There is none yet, or the file system cannot do it.
    fs::rename(draft, path)
}

/// Makes the spare file as long as the other.
fn hold(draft: &Path, length: u64) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut spare = options.append(true).create(true).mode(0o600).open(draft)?;
    let missing = length.saturating_sub(spare.metadata()?.len());
    if missing == 0 {
        return Ok(());
    }
    spare.write_all(&vec![b' '; usize::try_from(missing).unwrap_or_default()])?;
    spare.sync_all()
}

fn is_full(error: &io::Error) -> bool {
    let kinds = [ErrorKind::StorageFull, ErrorKind::QuotaExceeded, ErrorKind::FileTooLarge];
    kinds.contains(&error.kind())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::path::PathBuf;

    use tempfile::TempDir;

    use super::*;

    /// A disk on which files do not grow beyond what a first small document takes.
    fn full_disk(file: &File, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() as u64 > file.metadata()?.len() {
            return Err(ErrorKind::StorageFull.into());
        }
        fill(file, bytes)
    }

    fn place() -> (TempDir, PathBuf) {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("numbers.json");
        (directory, path)
    }

    /// Writes so many digits, in brief one.
    fn put(fill: Fill, path: &Path, digits: usize) -> io::Result<bool> {
        let written = write_by(fill, path, "7".repeat(digits).as_bytes(), || Ok(b"1".to_vec()))?;
        written.reserve.unwrap();
        Ok(written.in_full.is_ok())
    }

    fn read(path: &Path) -> String {
        fs::read_to_string(path).unwrap().trim_end().to_owned()
    }

    #[test]
    fn documents_take_turns_in_two_files_that_stay() {
        let (_directory, path) = place();
        let inode = |path: &Path| fs::metadata(path).unwrap().ino();
        let spare = path.with_extension("json.new");
        assert!(put(fill, &path, 3).unwrap());
        let both = [inode(&path), inode(&spare)];
        for digits in [5, 2, 4] {
            assert!(put(fill, &path, digits).unwrap());
            assert_eq!(read(&path).len(), digits);
        }
        assert_eq!([inode(&spare), inode(&path)], both);
    }

    #[test]
    fn on_a_full_disk_it_is_written_within_what_is_held() {
        let (_directory, path) = place();
        put(fill, &path, 3).unwrap();
        for digits in [5, 4_000] {
            assert!(put(full_disk, &path, digits).unwrap());
            assert_eq!(read(&path).len(), digits);
        }
    }

    #[test]
    fn on_a_full_disk_what_has_outgrown_its_place_is_written_in_brief() {
        let (_directory, path) = place();
        put(fill, &path, 3).unwrap();
        assert!(!put(full_disk, &path, 40_000).unwrap());
        assert_eq!(read(&path), "1");
        assert!(put(fill, &path, 40_000).unwrap(), "there is room again");
        assert_eq!(read(&path).len(), 40_000);
        assert!(put(full_disk, &path, 79_000).unwrap(), "and for as much again");
    }

    #[test]
    fn on_a_disk_that_was_full_from_the_first_nothing_is_kept() {
        let (_directory, path) = place();
        assert!(put(full_disk, &path, 3).is_err());
        assert!(!path.exists());
    }

    #[test]
    fn a_file_from_before_is_made_the_spare() {
        let (_directory, path) = place();
        fs::write(&path, "9").unwrap();
        put(fill, &path, 3).unwrap();
        assert_eq!(read(&path), "777");
        assert!(put(full_disk, &path, 5).unwrap());
    }
}
