//! Files that the configuration names, with failures in words.

use std::io;
use std::path::Path;

use crate::config::{Diagnostic, Located};

/// How files are read: the file system, or what stands for it in tests.
pub type ReadFile<'a> = &'a dyn Fn(&Path) -> io::Result<Vec<u8>>;

/// The bytes of a file, or what is wrong with it at the place that names it.
///
/// # Errors
/// If it cannot be read.
pub fn read(
    read: ReadFile<'_>,
    path: &Located<impl AsRef<Path>>,
    key: &str,
) -> Result<Vec<u8>, Box<Diagnostic>> {
    let name = path.value.as_ref();
    read(name).map_err(|error| {
        let message = format!("cannot read `{}`: {}", name.display(), reason(&error));
        let error = Diagnostic::error(message).help(hint(&error).map(str::to_owned));
        Box::new(error.at(path.span).key(key))
    })
}

/// What an error of the file system means to who wrote the path.
pub fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "the user that tidegate runs as has no permission".to_owned()
        }
        io::ErrorKind::IsADirectory => "it is a directory".to_owned(),
        _ => error.to_string(),
    }
}

fn hint(error: &io::Error) -> Option<&'static str> {
    match error.kind() {
        io::ErrorKind::NotFound => Some("relative paths begin at the directory of this file"),
        _ => None,
    }
}
