//! What happened to each record at each member, from the systems' own commit logs. Nothing here judges.

use crate::database::{Author, Database, Row};
use crate::users::tag_of;
use crate::world::World;
use concord_engine::clock::Moment;
use concord_engine::record::{Key, Record};
use std::collections::BTreeMap;

/// One step in the life of a record at one member.
#[derive(Clone, Debug)]
pub struct Step {
    /// When.
    pub at: Moment,
    /// In which commit.
    pub commit: u64,
    /// Its place in the commit.
    pub place: usize,
    /// Who.
    pub author: Author,
    /// The row before.
    pub before: Option<Row>,
    /// The row after.
    pub after: Option<Row>,
    /// What the statement asked for.
    pub asked: Record,
    /// Made by a trigger.
    pub reaction: bool,
}

/// Per member, the steps of one record in the order in which they were committed.
pub type Lives = Vec<Vec<Step>>;

impl Step {
    /// Where the step stands among those of its member.
    pub fn order(&self) -> (u64, usize) {
        (self.commit, self.place)
    }

    /// Whether the record had this key before or after the step.
    pub fn has_key(&self, key: &Key) -> bool {
        self.before.iter().chain(&self.after).any(|row| row.key == *key)
    }
}

/// The lives of all records, by their tags.
pub fn lives(world: &World, databases: &[Database]) -> BTreeMap<String, Lives> {
    let mut lives: BTreeMap<String, Lives> = BTreeMap::new();
    for (member, database) in databases.iter().enumerate() {
        for commit in database.log() {
            for (place, change) in commit.changes.iter().enumerate() {
                let row = change.after.as_ref().or(change.before.as_ref());
                let tag = row.and_then(|row| tag_of(world, member, &row.fields)).unwrap_or_else(|| "(no tag)".to_owned());
                let life = lives.entry(tag).or_insert_with(|| vec![Vec::new(); databases.len()]);
                if let Some(steps) = life.get_mut(member) {
                    steps.push(Step {
                        at: commit.at,
                        commit: commit.number,
                        place,
                        author: commit.author.clone(),
                        before: change.before.clone(),
                        after: change.after.clone(),
                        asked: change.asked.clone(),
                        reaction: change.reaction,
                    });
                }
            }
        }
    }
    lives
}
