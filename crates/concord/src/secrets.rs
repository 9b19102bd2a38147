//! Secrets that the store keeps encrypted: XChaCha20-Poly1305, the secret's name bound in, under a key of 32 random bytes
//! that lies beside the store (`secret.key`, readable by its owner alone) or in the environment. Whoever copies the
//! store without the key learns nothing. Nothing is kept that this process could not read again. Values are never printed.

use crate::answers::description::commit;
use chacha20poly1305::aead::{Aead, Generate, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use concord_engine::config::SecretText;
use concord_engine::error::{Code, Error, Result};
use concord_engine::store::{Store, Transaction};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::LazyLock;
use tokio::sync::{Mutex, watch};

/// The environment variable that may hold the key, as 64 hexadecimal digits.
pub const KEY_VARIABLE: &str = "CONCORD_SECRET_KEY";
/// The file beside the store that holds it otherwise.
const KEY_FILE: &str = "secret.key";
/// Settings of this prefix hold one secret each: nonce, then ciphertext.
const PREFIX: &str = "secret/";
/// Settings of this prefix hold, for one secret each, the nonces of those that were given last.
const GIVEN_PREFIX: &str = "given/";
/// Of so many it is known that they were given already.
const GIVEN_MAX: usize = 16;
/// Bytes of a nonce.
const NONCE_BYTES: usize = 24;

/// Held while a secret is kept: this process alone writes to its store, and one secret takes another's place at a time.
static KEEPING: Mutex<()> = Mutex::const_new(());
/// How many secrets were given in this process, by a person or by a command.
static GIVEN: LazyLock<watch::Sender<u64>> = LazyLock::new(|| watch::Sender::new(0));

/// Which secrets have to be readable when one is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    /// All of them: the store has one key.
    Readable,
    /// This one alone: the key of the others is lost.
    Lost,
}

/// How many secrets were given in this process: a number that has grown says that there may be another one to use.
pub fn given() -> u64 {
    *GIVEN.borrow()
}

/// Ends when another number of secrets were given than these.
pub async fn given_other_than(seen: u64) {
    // The sender is there as long as the process.
    let _ = GIVEN.subscribe().wait_for(|given| *given != seen).await;
}

/// Every secret that the store keeps, by name. One that cannot be read, be it that there is no key any more, stops only
/// whoever needs it.
pub async fn load(store: &dyn Store, folder: &Path) -> Result<BTreeMap<String, Result<SecretText>>> {
    let kept = store.settings(PREFIX).await?;
    if kept.is_empty() {
        return Ok(BTreeMap::new());
    }
    let cipher = key(folder, false).map(|key| XChaCha20Poly1305::new(&key));
    let read = |name: &str, bytes: &[u8]| match &cipher {
        Ok(cipher) => open(cipher, name, bytes),
        Err(error) => Err(error.clone()),
    };
    let named = kept.iter().map(|(setting, bytes)| (setting.strip_prefix(PREFIX).unwrap_or(setting), bytes));
    Ok(named.map(|(name, bytes)| (name.to_string(), read(name, bytes))).collect())
}

/// The secret of a name among those that were loaded.
pub fn loaded(kept: &BTreeMap<String, Result<SecretText>>, name: &str) -> Result<Option<SecretText>> {
    kept.get(name).cloned().transpose()
}

/// Encrypts a secret for the store in this folder; the key is made where there is none yet.
pub fn seal_for(folder: &Path, name: &str, value: &SecretText) -> Result<Vec<u8>> {
    seal(&XChaCha20Poly1305::new(&key(folder, true)?), name, value)
}

/// Keeps an encrypted secret that somebody has given under its name, in place of an older one. Once: what was given already
/// is not given again when it is repeated, for its successor may be kept by now.
pub async fn keep(store: &dyn Store, folder: &Path, name: &str, sealed: Vec<u8>, others: Others) -> Result<()> {
    let _keeping = KEEPING.lock().await;
    can_be_kept(store, folder, name, &sealed, others).await?;
    let nonce: Vec<u8> = sealed.iter().copied().take(NONCE_BYTES).collect();
    let setting = format!("{GIVEN_PREFIX}{name}");
    let mut given = store.setting(&setting).await?.unwrap_or_default();
    if given.chunks_exact(NONCE_BYTES).any(|before| before == nonce) {
        return Ok(());
    }
    given.drain(..given.len().saturating_sub((GIVEN_MAX - 1) * NONCE_BYTES));
    given.extend(nonce);
    let settings = vec![(format!("{PREFIX}{name}"), Some(sealed)), (setting, Some(given))];
    commit(store, Transaction { settings, ..Transaction::default() }).await?;
    GIVEN.send_modify(|given| *given = given.wrapping_add(1));
    Ok(())
}

/// Whether this process could read an encrypted secret again, and reads those that are kept under other names.
pub async fn can_be_kept(store: &dyn Store, folder: &Path, name: &str, sealed: &[u8], others: Others) -> Result<()> {
    let nothing_kept = |message: String| Error::new(Code::SecretKeyDiffers, format!("{message}: nothing was kept"));
    let cipher = key(folder, false).map(|key| XChaCha20Poly1305::new(&key));
    let given = cipher.and_then(|cipher| open(&cipher, name, sealed).map(|_| cipher));
    let cipher = given.map_err(|error| {
        nothing_kept(format!("`{name}` was encrypted with another key than the store's secrets")).because(error)
    })?;
    if others == Others::Lost {
        return Ok(());
    }
    for (setting, bytes) in store.settings(PREFIX).await? {
        let other = setting.strip_prefix(PREFIX).unwrap_or(&setting);
        if other != name && open(&cipher, other, &bytes).is_err() {
            return Err(nothing_kept(format!("`{other}` was kept with another key than the one for `{name}`")));
        }
    }
    Ok(())
}

/// Keeps a secret in place of the one that was seen under its name. `false` where another one is kept by now: that one stays.
pub async fn succeed(
    store: &dyn Store,
    folder: &Path,
    name: &str,
    seen: Option<&SecretText>,
    secret: &SecretText,
) -> Result<bool> {
    let _keeping = KEEPING.lock().await;
    if one(store, folder, name).await?.as_ref() != seen {
        return Ok(false);
    }
    put(store, name, seal_for(folder, name, secret)?).await.map(|()| true)
}

/// The secret of a name.
pub async fn one(store: &dyn Store, folder: &Path, name: &str) -> Result<Option<SecretText>> {
    let Some(bytes) = store.setting(&format!("{PREFIX}{name}")).await? else { return Ok(None) };
    open(&XChaCha20Poly1305::new(&key(folder, false)?), name, &bytes).map(Some)
}

async fn put(store: &dyn Store, name: &str, sealed: Vec<u8>) -> Result<()> {
    commit(store, Transaction { settings: vec![(format!("{PREFIX}{name}"), Some(sealed))], ..Transaction::default() }).await
}

fn seal(cipher: &XChaCha20Poly1305, name: &str, value: &SecretText) -> Result<Vec<u8>> {
    let nonce = XNonce::generate();
    let payload = Payload { msg: value.expose().as_bytes(), aad: name.as_bytes() };
    let sealed = cipher.encrypt(&nonce, payload).map_err(|_| Error::new(Code::Internal, "the secret could not be encrypted"))?;
    Ok([nonce.as_slice(), &sealed].concat())
}

fn open(cipher: &XChaCha20Poly1305, name: &str, bytes: &[u8]) -> Result<SecretText> {
    let unreadable = || {
        let message = format!("the stored secret `{name}` cannot be decrypted: the key is not the one it was kept with");
        Error::new(Code::SecretKeyDiffers, message)
    };
    let (nonce, sealed) = bytes.split_at_checked(NONCE_BYTES).ok_or_else(unreadable)?;
    let nonce = XNonce::try_from(nonce).map_err(|_| unreadable())?;
    let plain = cipher.decrypt(&nonce, Payload { msg: sealed, aad: name.as_bytes() }).map_err(|_| unreadable())?;
    String::from_utf8(plain).map(SecretText::new).map_err(|_| unreadable())
}

/// The key: from the environment, else from its file, which is made where it may be.
fn key(folder: &Path, may_make: bool) -> Result<Key> {
    if let Ok(text) = std::env::var(KEY_VARIABLE) {
        return decode(&text).ok_or_else(|| {
            Error::new(
                Code::SecretUnreadable,
                format!("the environment variable `{KEY_VARIABLE}` does not hold 64 hexadecimal digits"),
            )
        });
    }
    let path = folder.join(KEY_FILE);
    let at = path.display().to_string();
    match std::fs::read_to_string(&path) {
        Ok(text) => read(&text, at),
        Err(error) if error.kind() == ErrorKind::NotFound && may_make => {
            let unusable = |error| Error::new(Code::FileUnusable, "the key file cannot be written").at(&at).because(error);
            make(&path).map_err(unusable)?;
            read(&std::fs::read_to_string(&path).map_err(unusable)?, at)
        }
        Err(error) => {
            Err(Error::new(Code::SecretUnreadable, "the key of the stored secrets cannot be read").at(at).because(error))
        }
    }
}

/// Makes a key, which is in its file as a whole or not at all. Where somebody else makes one at the same time, theirs stays.
fn make(path: &Path) -> std::io::Result<()> {
    let digits = concord_engine::value::to_hex(&Key::generate());
    // The name is nobody else's, nor that of what a process has left behind that was ended in the middle.
    let name = concord_engine::value::to_hex(XNonce::generate().as_slice());
    let unfinished = path.with_extension(format!("{name}.new"));
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
    let made = file.write_all(digits.as_bytes()).and_then(|()| file.sync_all()).and_then(|()| place(&unfinished, path));
    // Where it was renamed it is gone already.
    let _ = std::fs::remove_file(&unfinished);
    made?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// Gives a finished file its name, unless there is one of that name.
fn place(unfinished: &Path, path: &Path) -> std::io::Result<()> {
    match std::fs::hard_link(unfinished, path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        // A file system without second names.
        Err(_) => std::fs::rename(unfinished, path),
        Ok(()) => Ok(()),
    }
}

fn read(text: &str, at: String) -> Result<Key> {
    decode(text.trim()).ok_or_else(|| Error::new(Code::SecretUnreadable, "the key file does not hold a key").at(at))
}

fn decode(text: &str) -> Option<Key> {
    Key::try_from(concord_engine::value::from_hex(text)?.as_slice()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use concord_engine::store::sqlite::{SqliteStore, StoreOptions};
    use std::os::unix::fs::PermissionsExt;

    #[tokio::test]
    async fn a_kept_secret_comes_back_and_its_key_is_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::in_memory(&StoreOptions::default()).unwrap();
        let sealed = seal_for(folder.path(), "crm", &SecretText::new("hunter2")).unwrap();
        keep(&store, folder.path(), "crm", sealed, Others::Readable).await.unwrap();
        let kept = load(&store, folder.path()).await.unwrap();
        assert_eq!(loaded(&kept, "crm").unwrap().unwrap().expose(), "hunter2");
        let bytes = store.setting("secret/crm").await.unwrap().unwrap();
        let keyless = tempfile::tempdir().unwrap();
        let unreadable = load(&store, keyless.path()).await.unwrap();
        assert_eq!(loaded(&unreadable, "crm").unwrap_err().code, Code::SecretUnreadable, "it stops whoever needs it");
        assert_eq!(loaded(&unreadable, "none").unwrap(), None, "and nobody else");
        assert!(!bytes.windows(7).any(|window| window == b"hunter2"));
        let mode = std::fs::metadata(folder.path().join(KEY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn of_two_keys_that_are_made_at_once_one_stays_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(KEY_FILE);
        let begin = std::sync::Barrier::new(8);
        let keys: Vec<String> = std::thread::scope(|scope| {
            let make = || {
                begin.wait();
                make(&path).unwrap();
                std::fs::read_to_string(&path).unwrap()
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(make)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(decode(&keys[0]).is_some() && keys.iter().all(|key| *key == keys[0]), "{keys:?}");
        make(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), keys[0], "what was sealed with it stays readable");
        let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, [KEY_FILE]);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[tokio::test]
    async fn a_successor_takes_the_place_of_its_own_predecessor_alone() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::in_memory(&StoreOptions::default()).unwrap();
        let [first, second, third] = ["first", "second", "third"].map(SecretText::new);
        assert!(succeed(&store, folder.path(), "crm", None, &first).await.unwrap(), "there was none");
        assert!(!succeed(&store, folder.path(), "crm", None, &second).await.unwrap());
        let before = given();
        let sealed = seal_for(folder.path(), "crm", &third).unwrap();
        keep(&store, folder.path(), "crm", sealed, Others::Readable).await.unwrap();
        assert!(given() > before);
        assert!(!succeed(&store, folder.path(), "crm", Some(&first), &second).await.unwrap(), "a person has given another one");
        assert_eq!(one(&store, folder.path(), "crm").await.unwrap(), Some(third.clone()));
        assert!(succeed(&store, folder.path(), "crm", Some(&third), &second).await.unwrap());
        assert_eq!(one(&store, folder.path(), "crm").await.unwrap(), Some(second));
    }

    #[tokio::test]
    async fn a_secret_moved_to_another_name_or_read_with_another_key_is_refused() {
        let cipher = XChaCha20Poly1305::new(&Key::generate());
        let sealed = seal(&cipher, "crm", &SecretText::new("hunter2")).unwrap();
        assert_eq!(open(&cipher, "erp", &sealed).unwrap_err().code, Code::SecretKeyDiffers);
        let other = XChaCha20Poly1305::new(&Key::generate());
        assert_eq!(open(&other, "crm", &sealed).unwrap_err().code, Code::SecretKeyDiffers);
        assert_eq!(open(&cipher, "crm", &sealed[..10]).unwrap_err().code, Code::SecretKeyDiffers);
    }

    #[tokio::test]
    async fn what_was_given_and_is_told_again_is_not_put_over_its_successor() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::in_memory(&StoreOptions::default()).unwrap();
        let seal = |secret: &str| seal_for(folder.path(), "crm", &SecretText::new(secret)).unwrap();
        let keep = |sealed: &Vec<u8>| {
            let (store, folder, sealed) = (&store, folder.path(), sealed.clone());
            async move { keep(store, folder, "crm", sealed, Others::Readable).await.unwrap() }
        };
        let kept = async || one(&store, folder.path(), "crm").await.unwrap().unwrap().expose().to_owned();
        let (first, second) = (seal("first"), seal("second"));
        keep(&first).await;
        let successor = SecretText::new("successor");
        assert!(succeed(&store, folder.path(), "crm", Some(&SecretText::new("first")), &successor).await.unwrap());
        keep(&first).await;
        assert_eq!(kept().await, "successor", "the first one is used up");
        keep(&second).await;
        keep(&first).await;
        assert_eq!(kept().await, "second", "a late repetition of the first one changes nothing");
        for number in 0..GIVEN_MAX * 2 {
            keep(&seal(&format!("more {number}"))).await;
        }
        let given = store.setting("given/crm").await.unwrap().unwrap();
        assert_eq!(given.len(), GIVEN_MAX * NONCE_BYTES, "what is remembered has a bound");
    }

    #[tokio::test]
    async fn nothing_is_kept_with_another_key_than_the_stores() {
        let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let store = SqliteStore::in_memory(&StoreOptions::default()).unwrap();
        let hunter = SecretText::new("hunter2");
        let foreign = seal_for(elsewhere.path(), "crm", &hunter).unwrap();
        let keep = |folder: &Path, name: &'static str, sealed: Vec<u8>, others| {
            let (store, folder) = (&store, folder.to_path_buf());
            async move { keep(store, &folder, name, sealed, others).await.map_err(|error| error.code) }
        };
        let refused = Err(Code::SecretKeyDiffers);
        assert_eq!(keep(folder.path(), "crm", foreign.clone(), Others::Readable).await, refused, "there is no key at all");
        let own = seal_for(folder.path(), "crm", &hunter).unwrap();
        assert_eq!(keep(folder.path(), "crm", own, Others::Readable).await, Ok(()));
        for others in [Others::Readable, Others::Lost] {
            assert_eq!(keep(folder.path(), "crm", foreign.clone(), others).await, refused);
        }
        assert_eq!(one(&store, folder.path(), "crm").await.unwrap(), Some(hunter.clone()), "it is as it was");
        // With another key, which opens what is given but not what is kept: unless that is lost, and somebody says so.
        let erp = seal_for(elsewhere.path(), "erp", &hunter).unwrap();
        assert_eq!(keep(elsewhere.path(), "erp", erp.clone(), Others::Readable).await, refused);
        assert_eq!(keep(elsewhere.path(), "erp", erp, Others::Lost).await, Ok(()));
        let kept = load(&store, elsewhere.path()).await.unwrap();
        assert_eq!(loaded(&kept, "erp").unwrap(), Some(hunter));
        assert_eq!(loaded(&kept, "crm").unwrap_err().code, Code::SecretKeyDiffers, "it stops whoever needs it");
        assert_eq!(loaded(&kept, "none").unwrap(), None);
    }
}
