//! Which files the store was last run with: a command that is given none finds its systems by them.

use crate::answers::description::commit;
use concord_engine::error::Result;
use concord_engine::store::{Store, Transaction};
use std::path::{Path, PathBuf};

/// The setting that holds them.
const SETTING: &str = "run/files";

/// Has the store remember files, wherever it is asked from.
pub async fn remember(store: &dyn Store, files: &[PathBuf]) -> Result<()> {
    let absolute = |file: &PathBuf| std::path::absolute(file).unwrap_or_else(|_| file.clone());
    let files: Vec<PathBuf> = files.iter().map(absolute).collect();
    let texts: Vec<&str> = files.iter().filter_map(|file| file.to_str()).collect();
    // A name that no text can hold is not remembered, and nothing of a part of the files.
    let Some(bytes) = serde_json::to_vec(&texts).ok().filter(|_| texts.len() == files.len()) else { return Ok(()) };
    if store.setting(SETTING).await?.as_ref() == Some(&bytes) {
        return Ok(());
    }
    commit(store, Transaction { settings: vec![(SETTING.to_owned(), Some(bytes))], ..Transaction::default() }).await
}

/// Those that it remembers; none before the first run.
pub async fn remembered(store: &dyn Store) -> Result<Vec<PathBuf>> {
    let bytes = store.setting(SETTING).await?;
    let texts: Vec<String> = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    Ok(texts.iter().map(|text| Path::new(text).to_path_buf()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use concord_engine::store::sqlite::{SqliteStore, StoreOptions};

    #[tokio::test]
    async fn the_files_of_the_last_run_are_found_from_anywhere() {
        let store = SqliteStore::in_memory(&StoreOptions::default()).unwrap();
        assert!(remembered(&store).await.unwrap().is_empty());
        for file in ["first.json", "second.json"] {
            remember(&store, &[PathBuf::from(file)]).await.unwrap();
            let known = remembered(&store).await.unwrap();
            assert!(known.len() == 1 && known[0].is_absolute() && known[0].ends_with(file), "{known:?}");
        }
    }
}
