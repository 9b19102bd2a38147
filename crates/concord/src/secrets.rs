//! Secrets that the store keeps encrypted: XChaCha20-Poly1305, the secret's name bound in, under a key of 32 random bytes
//! that lies beside the store (`secret.key`, readable by its owner alone) or in the environment. Whoever copies the
//! store without the key learns nothing. Values are never printed.

use crate::answers::description::commit;
use chacha20poly1305::aead::{Aead, Generate, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use concord_engine::config::SecretText;
use concord_engine::error::{Code, Error, Result};
use concord_engine::store::{Store, Transaction};
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The environment variable that may hold the key, as 64 hexadecimal digits.
pub const KEY_VARIABLE: &str = "CONCORD_SECRET_KEY";
/// The file beside the store that holds it otherwise.
const KEY_FILE: &str = "secret.key";
/// Settings of this prefix hold one secret each: nonce, then ciphertext.
const PREFIX: &str = "secret/";
/// Bytes of a nonce.
const NONCE_BYTES: usize = 24;

/// Every secret that the store keeps, by name.
pub async fn load(store: &dyn Store, folder: &Path) -> Result<BTreeMap<String, SecretText>> {
    let kept = store.settings(PREFIX).await?;
    if kept.is_empty() {
        return Ok(BTreeMap::new());
    }
    let cipher = XChaCha20Poly1305::new(&key(folder, false)?);
    kept.iter()
        .map(|(setting, bytes)| {
            let name = setting.strip_prefix(PREFIX).unwrap_or(setting);
            open(&cipher, name, bytes).map(|secret| (name.to_string(), secret))
        })
        .collect()
}

/// Encrypts a secret for the store in this folder; the key is made where there is none yet.
pub fn seal_for(folder: &Path, name: &str, value: &SecretText) -> Result<Vec<u8>> {
    seal(&XChaCha20Poly1305::new(&key(folder, true)?), name, value)
}

/// Keeps an encrypted secret under its name, in place of an older one.
pub async fn keep(store: &dyn Store, name: &str, sealed: Vec<u8>) -> Result<()> {
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
        Error::new(Code::SecretUnreadable, message)
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
        Ok(text) => {
            decode(text.trim()).ok_or_else(|| Error::new(Code::SecretUnreadable, "the key file does not hold a key").at(at))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && may_make => {
            make(&path).map_err(|error| Error::new(Code::FileUnusable, "the key file cannot be written").at(at).because(error))
        }
        Err(error) => {
            Err(Error::new(Code::SecretUnreadable, "the key of the stored secrets cannot be read").at(at).because(error))
        }
    }
}

fn make(path: &Path) -> std::io::Result<Key> {
    let key = Key::generate();
    let digits = concord_engine::value::to_hex(&key);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(digits.as_bytes())?;
    file.sync_all()?;
    Ok(key)
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
        keep(&store, "crm", sealed).await.unwrap();
        assert_eq!(load(&store, folder.path()).await.unwrap()["crm"].expose(), "hunter2");
        let bytes = store.setting("secret/crm").await.unwrap().unwrap();
        assert!(!bytes.windows(7).any(|window| window == b"hunter2"));
        let mode = std::fs::metadata(folder.path().join(KEY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[tokio::test]
    async fn a_secret_moved_to_another_name_or_read_with_another_key_is_refused() {
        let cipher = XChaCha20Poly1305::new(&Key::generate());
        let sealed = seal(&cipher, "crm", &SecretText::new("hunter2")).unwrap();
        assert_eq!(open(&cipher, "erp", &sealed).unwrap_err().code, Code::SecretUnreadable);
        let other = XChaCha20Poly1305::new(&Key::generate());
        assert_eq!(open(&other, "crm", &sealed).unwrap_err().code, Code::SecretUnreadable);
        assert_eq!(open(&cipher, "crm", &sealed[..10]).unwrap_err().code, Code::SecretUnreadable);
    }
}
