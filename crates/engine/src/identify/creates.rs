//! Creates of which it is not known whether they took effect, with what they gave: kept in the store, for no later look at their
//! links could tell it.

use crate::error::{Code, Error, Result};
use crate::link::{LinkId, MemberIndex, SyncId};
use crate::record::Record;
use crate::store::{Store, Transaction};
use std::collections::BTreeMap;

/// A create: its link, and the member at which its record may have been made.
pub(crate) type Create = (SyncId, MemberIndex, LinkId);

/// Some of them.
pub(crate) struct Creates {
    /// Settings of this prefix hold one each.
    prefix: &'static str,
    images: BTreeMap<Create, Record>,
}

impl Creates {
    pub fn new(prefix: &'static str) -> Creates {
        Creates { prefix, images: BTreeMap::new() }
    }

    fn setting(&self, (sync, member, link): Create) -> String {
        format!("{}{}/{member}/{}", self.prefix, sync.0, link.0)
    }

    /// Remembers what one gave.
    pub fn note(&mut self, create: Create, image: &Record, transaction: &mut Transaction) -> Result<()> {
        let bytes = postcard::to_stdvec(image)
            .map_err(|error| Error::new(Code::Internal, "what a create gave cannot be kept").because(error))?;
        transaction.settings.push((self.setting(create), Some(bytes)));
        self.images.insert(create, image.clone());
        Ok(())
    }

    /// What became of it is known, or matters no more.
    pub fn forget(&mut self, create: Create, transaction: &mut Transaction) {
        if self.images.remove(&create).is_some() {
            transaction.settings.push((self.setting(create), None));
        }
    }

    /// Those that an earlier run came to.
    pub async fn restore(&mut self, store: &dyn Store) -> Result<()> {
        for (name, bytes) in store.settings(self.prefix).await? {
            let numbers = name.strip_prefix(self.prefix).unwrap_or_default().split('/').filter_map(|part| part.parse().ok());
            if let [sync, member, link] = numbers.collect::<Vec<u64>>().as_slice()
                && let (Ok(sync), Ok(member)) = (u32::try_from(*sync), usize::try_from(*member))
            {
                let image = postcard::from_bytes(&bytes)
                    .map_err(|error| Error::new(Code::StoreDamaged, format!("{name} cannot be read")).because(error))?;
                self.images.insert((SyncId(sync), member, LinkId(*link)), image);
            }
        }
        Ok(())
    }

    pub fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    /// Whether any member's create of a link is one of these.
    pub fn any_of(&self, sync: SyncId, link: LinkId) -> bool {
        self.images.keys().any(|(of, _, other)| (*of, *other) == (sync, link))
    }

    /// What one gave, if it is one of these.
    pub fn get(&self, create: Create) -> Option<&Record> {
        self.images.get(&create)
    }

    /// Those of a member, with what they gave.
    pub fn of_member(&self, sync: SyncId, member: MemberIndex) -> impl Iterator<Item = (LinkId, &Record)> {
        let range = (sync, member, LinkId(0))..=(sync, member, LinkId(u64::MAX));
        self.images.range(range).map(|((_, _, link), image)| (*link, image))
    }
}
