//! What connectors keep in the store of this process: renewed secrets, encrypted, in whose name each connection has
//! acted, and how many calls it has made. Only the process that holds the store's lock keeps anything.

use crate::answers::description::commit;
use crate::secrets;
use concord_connectors::keeping::{Acting, BoxFuture, Calls, Keep};
use concord_engine::config::SecretText;
use concord_engine::error::{Code, Error, Result};
use concord_engine::store::{Store, Transaction};
use std::path::PathBuf;
use std::sync::Arc;

/// Settings of this prefix say of one connection each in whose name it has acted.
const ACTING: &str = "acting/";
/// Settings of this prefix say of one connection each how many calls it has made of late.
const CALLS: &str = "calls/";

/// The store and its folder.
pub struct Kept {
    /// The store.
    pub store: Arc<dyn Store>,
    /// Its folder, where the key lies.
    pub folder: PathBuf,
    /// Whether the store is locked for this process.
    pub is_ours: bool,
}

/// In whose name a connection has acted; `None` before its first login.
pub async fn acting(store: &dyn Store, system: &str) -> Result<Option<Acting>> {
    let Some(bytes) = store.setting(&format!("{ACTING}{system}")).await? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| {
        let message = format!("what the store says of the logins of `{system}` cannot be read");
        Error::new(Code::StoreDamaged, message).because(error)
    })
}

impl Keep for Kept {
    fn can_keep(&self) -> bool {
        self.is_ours
    }

    fn secret<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<SecretText>>> {
        Box::pin(secrets::one(&*self.store, &self.folder, name))
    }

    fn succeed<'a>(&'a self, name: &'a str, seen: Option<&'a SecretText>, secret: &'a SecretText) -> BoxFuture<'a, Result<bool>> {
        Box::pin(secrets::succeed(&*self.store, &self.folder, name, seen, secret))
    }

    fn given(&self) -> u64 {
        secrets::given()
    }

    fn given_other_than(&self, seen: u64) -> BoxFuture<'_, ()> {
        Box::pin(secrets::given_other_than(seen))
    }

    fn acting<'a>(&'a self, system: &'a str) -> BoxFuture<'a, Result<Option<Acting>>> {
        Box::pin(acting(&*self.store, system))
    }

    fn keep_acting<'a>(&'a self, system: &'a str, acting: &'a Acting) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let bytes = serde_json::to_vec(acting)
                .map_err(|error| Error::new(Code::Internal, "a login cannot be written down").because(error))?;
            let settings = vec![(format!("{ACTING}{system}"), Some(bytes))];
            commit(&*self.store, Transaction { settings, ..Transaction::default() }).await
        })
    }

    fn calls<'a>(&'a self, system: &'a str) -> BoxFuture<'a, Result<Option<Calls>>> {
        Box::pin(async move {
            let Some(bytes) = self.store.setting(&format!("{CALLS}{system}")).await? else { return Ok(None) };
            serde_json::from_slice(&bytes).map(Some).map_err(|error| {
                let message = format!("what the store says of the calls of `{system}` cannot be read");
                Error::new(Code::StoreDamaged, message).because(error)
            })
        })
    }

    fn keep_calls<'a>(&'a self, system: &'a str, calls: &'a Calls) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let bytes = serde_json::to_vec(calls)
                .map_err(|error| Error::new(Code::Internal, "calls cannot be written down").because(error))?;
            let settings = vec![(format!("{CALLS}{system}"), Some(bytes))];
            commit(&*self.store, Transaction { settings, ..Transaction::default() }).await
        })
    }
}
