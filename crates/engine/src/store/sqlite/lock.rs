//! The lock that makes sure that one process at a time works on a store: `concord.lock`, held by `flock` and holding
//! the process's number. The system gives it back with the process, however that ends; the file itself stays.

use crate::error::{Code, Error, Result};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

/// The name of the lock's file, beside the store's.
pub(super) const FILE_NAME: &str = "concord.lock";

/// The lock, given back when dropped.
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of a folder, which is made if it is not there.
    pub(super) fn take(folder: &Path) -> Result<Lock> {
        let path = folder.join(FILE_NAME);
        let at = path.display().to_string();
        let denied = |error| Error::new(Code::StoreDenied, "the store's folder cannot be used").at(at.clone()).because(error);
        make_folder(folder).map_err(denied)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&path).map_err(denied)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(in_use(&mut file).at(at)),
            Err(TryLockError::Error(error)) => return Err(denied(error)),
        }
        name_holder(&mut file).map_err(denied)?;
        Ok(Lock { _file: file })
    }
}

/// Makes a store's folder where there is none, open to its owner alone.
///
/// # Errors
/// What the file system says.
pub fn make_folder(folder: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

fn name_holder(file: &mut File) -> std::io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(format!("{}\n", std::process::id()).as_bytes())
}

fn in_use(file: &mut File) -> Error {
    let mut holder = String::new();
    // A holder that has just taken the lock may not have written its number yet.
    let read = file.take(32).read_to_string(&mut holder);
    let message = match holder.trim() {
        pid if read.is_ok() && !pid.is_empty() => format!("the store is in use by the process with the pid {pid}"),
        _ => "the store is in use by another process".to_owned(),
    };
    Error::new(Code::StoreInUse, message)
}
