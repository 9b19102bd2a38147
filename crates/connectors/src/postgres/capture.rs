//! The open feed: steps of the log become events, in the order of commits.
//! It hands out, and nothing else: the server's position moves only by `acknowledge`. A position is given only when a
//! transaction's commit has been passed, or when nothing is in flight and the server says that there is nothing for us.

use super::names::TableName;
use super::pgoutput::{self, Message, Relation, Tuple};
use super::position::{self, ServerIdentity, SlotPosition};
use super::read::placed;
use super::relation::{Decoder, Row};
use super::session::Session;
use super::stream::{self, Replication, Step};
use super::version::{RowVersion, lsn_text, widen};
use super::{MARK_PREFIX, MARKER_PREFIX, Shared, carried, errors, schema, slot};
use async_trait::async_trait;
use concord_engine::change::{EditTime, Image, Mark, Observation, Position, Version};
use concord_engine::clock::Moment;
use concord_engine::connector::{Batch, Changes, Event, Feed, Limits};
use concord_engine::error::{Code, Error, Result};
use concord_engine::record::{Key, ObjectName};
use concord_engine::schema::Schema;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Microseconds from 1970-01-01 to 2000-01-01, where PostgreSQL begins to count.
const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;
/// How long rows wait for the commit that follows them: the server sends whole transactions, and a batch that ends with
/// one costs a durable step less than two that break it.
const COMMIT_WAIT_MAX: Duration = Duration::from_millis(5);

/// Opens the feed behind a position, after verifying that it can be resumed there.
pub async fn open(shared: &Arc<Shared>, feed: &Feed, from: &Position) -> Result<Box<dyn Changes>> {
    shared.require_feed(&feed.name)?;
    let mut from = SlotPosition::decode(from)?;
    let mut session = Session::connect(&shared.config, &shared.names.sessions).await?;
    let server = stream::identity(&mut session).await?;
    let state = slot::state(shared).await?;
    from.verify(&server, state.as_ref())?;
    follow_promotion(&mut from, &server);
    let (mut known, mut objects, mut batch, mut gone) = (HashMap::new(), HashMap::new(), Batch::default(), Vec::new());
    for object in &feed.objects {
        let table = match shared.table_now(object).await {
            Ok(table) => table,
            // Its own syncs stop, and the others' objects are carried.
            Err(error) if error.code == Code::ObjectMissing => {
                gone.push(object.clone());
                continue;
            }
            Err(error) => return Err(error),
        };
        // What became of it while the feed was closed; what is told before that place in the log is told as it was there.
        if shared.carried.is_news(&table.schema) {
            batch.events.push(Event::SchemaChanged(Schema::clone(&table.schema)));
        }
        known.insert(object.clone(), Schema::clone(&table.schema));
        objects.insert(table.oid, object.clone());
    }
    let near_xid = slot::next_transaction(shared).await?;
    gone.extend(shared.carried.open(objects.iter().map(|(oid, object)| (*oid, object.clone())).collect()));
    let acknowledged = shared.acknowledged.subscribe();
    let source = stream::start(session, &shared.names.slot, from.lsn, acknowledged, &shared.tasks).await?;
    Ok(Box::new(SlotChanges {
        shared: Arc::clone(shared),
        source,
        objects,
        known,
        gone,
        near_xid,
        relations: HashMap::new(),
        shows_parts: false,
        tells_when_idle: false,
        transaction: None,
        handed_out: from,
        step: None,
        batch,
        batch_bytes: 0,
        failed: None,
    }))
}

/// From here on we read from the server's present timeline.
fn follow_promotion(position: &mut SlotPosition, server: &ServerIdentity) {
    position.timeline = server.timeline;
}

/// The open feed.
struct SlotChanges {
    shared: Arc<Shared>,
    source: Box<dyn Replication>,
    /// The objects that the feed carries, by their tables' OIDs: the same through renames.
    objects: HashMap<u32, ObjectName>,
    /// The schema that each object was last known to have.
    known: HashMap<ObjectName, Schema>,
    /// Objects whose tables were not there when the feed was opened, or have gone since.
    gone: Vec<ObjectName>,
    /// The highest transaction known, with its epoch.
    near_xid: u64,
    /// Tables as of the present place in the log; `None`: one that does not matter.
    relations: HashMap<u32, Option<(Relation, Decoder)>>,
    /// Whether an edit may show what it has changed alone.
    shows_parts: bool,
    /// Whether a position that nothing of ours has moved is handed out at once.
    tells_when_idle: bool,
    transaction: Option<Transaction>,
    /// Everything before here has been handed out or waits in `batch`.
    handed_out: SlotPosition,
    /// A step that was taken from the source and is not in `batch` yet: a cancelled call leaves it here.
    step: Option<Step>,
    batch: Batch,
    batch_bytes: usize,
    /// An error that waits behind what was read before it.
    failed: Option<Error>,
}

/// The transaction whose changes are being handed out.
struct Transaction {
    commit_lsn: u64,
    xid: u64,
    ordinal: u64,
    time: EditTime,
    mark: Option<Mark>,
}

/// Whether a batch should be handed out at once.
#[derive(PartialEq, Eq)]
enum Flow {
    GoOn,
    HandOut,
}

#[async_trait]
impl Changes for SlotChanges {
    fn may_show_parts(&mut self) {
        self.shows_parts = true;
    }

    fn tell_when_idle(&mut self) {
        self.tells_when_idle = true;
    }

    async fn next(&mut self, limits: Limits) -> Result<Batch> {
        let deadline = Instant::now() + limits.max_wait;
        self.look_at_carried()?;
        loop {
            if self.is_full(&limits) {
                break;
            }
            if self.step.is_none() && !self.take_step(deadline).await {
                break;
            }
            if self.failed.is_some() {
                break;
            }
            if self.process().await? == Flow::HandOut {
                break;
            }
        }
        if self.batch.events.is_empty()
            && self.batch.position.is_none()
            && let Some(error) = self.failed.take()
        {
            return Err(error);
        }
        self.batch_bytes = 0;
        if self.transaction.is_some() {
            // In the middle of a transaction nothing moves; its commit brings a later position.
            self.batch.position = None;
        }
        for event in &self.batch.events {
            if let Event::SchemaChanged(schema) = event {
                self.shared.carried.tell(schema);
            }
        }
        Ok(std::mem::take(&mut self.batch))
    }
}

impl SlotChanges {
    /// Tells of tables that are gone or are others now, which the log does not say.
    fn look_at_carried(&mut self) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        if let Some(torn) = shared.carried.torn() {
            return Err(position::gap(torn));
        }
        for object in shared.carried.take_back() {
            self.known.remove(&object);
        }
        self.gone.extend(shared.carried.take_gone());
        for object in std::mem::take(&mut self.gone) {
            self.learn(nothing(object));
        }
        Ok(())
    }

    fn is_full(&self, limits: &Limits) -> bool {
        let events = self.batch.events.len();
        events > 0 && (events >= limits.max_events || self.batch_bytes >= limits.max_bytes)
    }

    /// Takes the next step: waits for it while there is nothing to hand out, or only part of a transaction, whose rest is
    /// on its way. `false`: none came.
    async fn take_step(&mut self, deadline: Instant) -> bool {
        let deadline = match (self.failed.is_none(), self.batch.events.is_empty(), self.transaction.is_some()) {
            (true, true, _) => Some(deadline),
            (true, false, true) => Some(deadline.min(Instant::now() + COMMIT_WAIT_MAX)),
            _ => None,
        };
        let step = if let Some(deadline) = deadline {
            match timeout_at(deadline, self.source.next()).await {
                Ok(step) => step,
                Err(_) => return false,
            }
        } else {
            match self.source.ready() {
                Some(step) => step,
                None => return false,
            }
        };
        match step {
            Ok(step) => self.step = Some(step),
            Err(error) => self.failed = Some(error),
        }
        true
    }

    /// Brings the waiting step into the batch. What must be asked of the catalogue is asked first, so that a call
    /// cancelled meanwhile begins the step again.
    async fn process(&mut self) -> Result<Flow> {
        let Some(step) = self.step.clone() else {
            return Ok(Flow::GoOn);
        };
        let flow = match step {
            Step::Begin { commit_lsn, commit_time, xid } => {
                self.require_marker(commit_lsn)?;
                self.begin(commit_lsn, commit_time, xid);
                Flow::GoOn
            }
            Step::Message { transactional, prefix, content } => {
                self.message(transactional, &prefix, &content)?;
                Flow::GoOn
            }
            Step::Change(bytes) => {
                self.batch_bytes += bytes.len();
                self.change(pgoutput::decode(bytes)?).await?;
                Flow::GoOn
            }
            Step::Commit { end_lsn } => {
                self.transaction = None;
                self.advance(end_lsn);
                // Transactions without events are those of marks and fences: somebody waits for them.
                if self.batch.events.is_empty() { Flow::HandOut } else { Flow::GoOn }
            }
            Step::Idle { wal_end } => {
                if self.transaction.is_none() {
                    self.require_marker(wal_end)?;
                    self.advance(wal_end);
                }
                match self.tells_when_idle && self.batch.position.is_some() {
                    true => Flow::HandOut,
                    false => Flow::GoOn,
                }
            }
        };
        self.step = None;
        Ok(flow)
    }

    fn begin(&mut self, commit_lsn: u64, commit_time: i64, xid: u32) {
        let at = Moment(commit_time.saturating_add(POSTGRES_EPOCH_MICROS));
        let time = EditTime { at, granularity_micros: 1, estimated: false };
        let xid = widen(xid, self.near_xid);
        self.near_xid = self.near_xid.max(xid);
        self.transaction = Some(Transaction { commit_lsn, xid, ordinal: 0, time, mark: None });
    }

    fn advance(&mut self, lsn: u64) {
        if lsn > self.handed_out.lsn {
            self.handed_out.lsn = lsn;
            self.batch.position = Some(self.handed_out.encode());
        }
    }

    /// The marker stands at the beginning of the slot's life: a feed that passes its place without showing it is
    /// another slot of the same name.
    fn require_marker(&self, reached: u64) -> Result<()> {
        if self.handed_out.marker_seen || reached <= self.handed_out.marker_lsn {
            return Ok(());
        }
        Err(position::gap(format!(
            "the replication slot {} does not show the marker written at {} when it was made: it was dropped and made anew",
            self.handed_out.slot,
            lsn_text(self.handed_out.marker_lsn)
        )))
    }

    fn message(&mut self, transactional: bool, prefix: &str, content: &[u8]) -> Result<()> {
        if prefix == MARKER_PREFIX && content == self.handed_out.marker.to_string().as_bytes() {
            self.handed_out.marker_seen = true;
        }
        if transactional
            && prefix == MARK_PREFIX
            && let Some(transaction) = &mut self.transaction
        {
            // A foreign message under our prefix is not ours to judge: its transaction is an edit like any other.
            transaction.mark = serde_json::from_slice(content).ok();
        }
        Ok(())
    }

    async fn change(&mut self, message: Message) -> Result<()> {
        match message {
            Message::Relation(relation) => self.relation(relation).await,
            Message::Insert { relation, new } => self.row(relation, new, None, true).await,
            Message::Update { relation, old, new } => self.row(relation, new, old, false).await,
            Message::Delete { relation, old } => self.deleted(relation, &old),
            Message::Truncate { relations } => self.truncated(&relations),
            Message::Other => Ok(()),
        }
    }

    /// A table is shown as of here: its rows are decoded with it from now on.
    async fn relation(&mut self, relation: Relation) -> Result<()> {
        let shown = TableName { schema: relation.schema.clone(), table: relation.table.clone() };
        let Some(object) = self.objects.get(&relation.oid).cloned() else {
            let is_named = |object: &&ObjectName| self.shared.name(object).is_ok_and(|name| name == shown);
            if let Some(object) = self.objects.values().find(is_named) {
                return Err(position::gap(format!("{object} is another table now than the one whose changes were followed")));
            }
            self.relations.insert(relation.oid, None);
            return Ok(());
        };
        if self.shared.name(&object)? != shown {
            // Renamed: under the old name there is nothing any more.
            self.relations.insert(relation.oid, None);
            self.learn(nothing(object));
            return Ok(());
        }
        let decoder = self.decoder(&object, &relation).await?;
        let schema = Schema::clone(&decoder.schema);
        self.relations.insert(relation.oid, Some((relation, decoder)));
        self.learn(schema);
        Ok(())
    }

    /// What the catalogue must add for decoding a relation.
    async fn decoder(&self, object: &ObjectName, relation: &Relation) -> Result<Decoder> {
        let table = match self.shared.table_now(object).await {
            Ok(table) if table.oid == relation.oid => Some(table),
            // Dropped or renamed since: the queue is older than the catalogue.
            Ok(_) => None,
            Err(error) if error.code == Code::ObjectMissing => None,
            Err(error) => return Err(error),
        };
        let oids: Vec<u32> = relation.columns.iter().map(|column| column.type_oid).collect();
        let mut lease = self.shared.readers.lease().await?;
        let types = schema::type_map(&mut lease, &oids).await?;
        lease.done();
        let selected = self.shared.selected_fields(object);
        let decoder = Decoder::new(object, relation, &types, table.as_deref(), &selected).showing_parts(self.shows_parts);
        Ok(match self.shared.config.one_sync {
            true => decoder.showing_all_of(&selected),
            // Of several syncs one may select what is gone, and the others go on.
            false => decoder,
        })
    }

    /// Tells of a schema if it has another shape than the one last known.
    fn learn(&mut self, schema: Schema) {
        if !self.known.get(&schema.object).is_some_and(|known| carried::is_same(known, &schema)) {
            self.known.insert(schema.object.clone(), schema.clone());
            self.batch.events.push(Event::SchemaChanged(schema));
        }
    }

    async fn row(&mut self, relation: u32, new: Tuple, old: Option<Tuple>, made: bool) -> Result<()> {
        let stale = match self.known_relation(relation)? {
            Some((shown, decoder)) if decoder.meets_unknown_label(&new) => Some(shown.clone()),
            Some(_) => None,
            None => return Ok(()),
        };
        if let Some(shown) = stale {
            self.relation(shown).await?;
        }
        let Some((_, decoder)) = self.known_relation(relation)? else {
            return Ok(());
        };
        let object = decoder.object.clone();
        if decoder.has_key() {
            let row = decoder.row(&new, old.as_ref());
            let row = row.ok_or_else(|| errors::unexpected(format!("a change of {object} does not show its key")))?;
            return self.observe(object, row, made);
        }
        if !self.shared.config.one_sync {
            // The key is gone, which the schema has told: such a row is nobody's.
            return Ok(());
        }
        let image = decoder.image(&new, old.as_ref());
        let image = image.ok_or_else(|| errors::unexpected(format!("a change of {object} shows nothing")))?;
        self.observe(object, Row { key: Key::default(), old_key: None, image }, made)
    }

    fn deleted(&mut self, relation: u32, old: &Tuple) -> Result<()> {
        let Some((_, decoder)) = self.known_relation(relation)? else {
            return Ok(());
        };
        let object = decoder.object.clone();
        let key = match (decoder.has_key(), self.shared.config.one_sync) {
            (true, _) => decoder.deleted_key(old),
            (false, true) => Some(Key::default()),
            (false, false) => return Ok(()),
        };
        let key = key.ok_or_else(|| errors::unexpected(format!("a delete from {object} does not show its key")))?;
        self.observe(object, Row { key, old_key: None, image: Image::Deleted }, false)
    }

    fn truncated(&mut self, relations: &[u32]) -> Result<()> {
        for relation in relations {
            if let Some((_, decoder)) = self.known_relation(*relation)? {
                let object = decoder.object.clone();
                let (version, time, _) = self.stamp()?;
                self.batch.events.push(Event::Truncated { object, version, time });
            }
        }
        Ok(())
    }

    /// The relation, if it matters. The server always shows a relation before the first row of it.
    fn known_relation(&self, relation: u32) -> Result<Option<&(Relation, Decoder)>> {
        match self.relations.get(&relation) {
            Some(known) => Ok(known.as_ref()),
            None => Err(errors::unexpected(format!("a change of relation {relation} came before its description"))),
        }
    }

    fn observe(&mut self, object: ObjectName, Row { key, old_key, image }: Row, made: bool) -> Result<()> {
        let place = self.transaction.as_ref().map(|at| format!("{}/{}", lsn_text(at.commit_lsn), at.ordinal)).unwrap_or_default();
        let key = if key.0.is_empty() { placed(&image, place) } else { key };
        let (version, time, mark) = self.stamp()?;
        let observation = Observation { object, key, old_key, image, made, version, time, mark };
        self.batch.events.push(Event::Observed(observation));
        Ok(())
    }

    /// Version, time and mark of the next event of the transaction.
    fn stamp(&mut self) -> Result<(Version, EditTime, Option<Mark>)> {
        let transaction = self.transaction.as_mut().ok_or_else(|| errors::unexpected("a change outside a transaction"))?;
        let version =
            RowVersion::Logged { commit_lsn: transaction.commit_lsn, ordinal: transaction.ordinal, xid: transaction.xid };
        transaction.ordinal += 1;
        Ok((version.encode(), transaction.time, transaction.mark.clone()))
    }
}

/// The schema of a table that is not there.
fn nothing(object: ObjectName) -> Schema {
    Schema { object, fields: vec![], key: vec![], unique: vec![], indexes: vec![] }
}

#[cfg(test)]
mod tests {
    use super::super::{Config, PostgresConnector, open as connector};
    use super::*;
    use bytes::Bytes;
    use std::collections::VecDeque;
    use std::time::Duration;
    use uuid::Uuid;

    /// A source that gives out what it was given, and then waits for ever.
    struct Script(VecDeque<Step>);

    #[async_trait]
    impl Replication for Script {
        async fn next(&mut self) -> Result<Step> {
            match self.0.pop_front() {
                Some(step) => Ok(step),
                None => std::future::pending().await,
            }
        }

        fn ready(&mut self) -> Option<Result<Step>> {
            self.0.pop_front().map(Ok)
        }
    }

    const LIMITS: Limits = Limits { max_events: 100, max_bytes: 1000, max_wait: Duration::from_millis(1) };

    fn position() -> SlotPosition {
        SlotPosition {
            lsn: 100,
            system_identifier: 1,
            timeline: 1,
            slot: "concord_test".into(),
            marker: Uuid::nil(),
            marker_lsn: 150,
            marker_seen: false,
        }
    }

    fn changes(steps: Vec<Step>) -> SlotChanges {
        let mut config = Config::new("nowhere.invalid", "none", "nobody");
        config.installation = "test".into();
        let PostgresConnector { shared, .. } = connector(config).unwrap();
        SlotChanges {
            shared,
            source: Box::new(Script(steps.into())),
            objects: HashMap::from([(5, ObjectName::from("t"))]),
            known: HashMap::new(),
            gone: Vec::new(),
            near_xid: 0,
            relations: HashMap::new(),
            shows_parts: false,
            tells_when_idle: false,
            transaction: None,
            handed_out: position(),
            step: None,
            batch: Batch::default(),
            batch_bytes: 0,
            failed: None,
        }
    }

    fn begin(commit_lsn: u64) -> Step {
        Step::Begin { commit_lsn, commit_time: 0, xid: 7 }
    }

    fn marker() -> Step {
        Step::Message { transactional: false, prefix: MARKER_PREFIX.into(), content: Bytes::from(Uuid::nil().to_string()) }
    }

    async fn lsn(changes: &mut SlotChanges) -> Option<u64> {
        let batch = changes.next(LIMITS).await.unwrap();
        batch.position.map(|position| SlotPosition::decode(&position).unwrap().lsn)
    }

    #[tokio::test]
    async fn a_feed_that_passes_its_markers_place_without_the_marker_is_a_gap() {
        for step in [begin(151), Step::Idle { wal_end: 151 }] {
            let mut anew = changes(vec![step.clone()]);
            assert_eq!(anew.next(LIMITS).await.unwrap_err().code, Code::FeedGap);
            let mut ours = changes(vec![marker(), step]);
            assert!(ours.next(LIMITS).await.is_ok());
        }
    }

    #[tokio::test]
    async fn the_marker_once_seen_is_remembered_in_the_position() {
        let mut feed = changes(vec![marker(), Step::Idle { wal_end: 200 }]);
        let batch = feed.next(LIMITS).await.unwrap();
        assert!(SlotPosition::decode(&batch.position.unwrap()).unwrap().marker_seen);
    }

    #[tokio::test]
    async fn the_servers_idle_word_moves_the_position_only_outside_a_transaction() {
        let mut feed = changes(vec![
            Step::Idle { wal_end: 120 },
            begin(130),
            Step::Idle { wal_end: 140 },
            Step::Commit { end_lsn: 135 },
            Step::Idle { wal_end: 110 },
        ]);
        assert_eq!(lsn(&mut feed).await, Some(135));
        assert_eq!(lsn(&mut feed).await, None);
    }

    #[tokio::test]
    async fn a_row_before_its_description_is_a_violation_and_moves_nothing() {
        let row = Step::Change(Bytes::from_static(b"I\0\0\0\x05N\0\x01t\0\0\0\x017"));
        let mut feed = changes(vec![begin(130), row]);
        assert_eq!(feed.next(LIMITS).await.unwrap_err().code, Code::ProtocolViolation);
        assert_eq!(feed.handed_out, position());
    }
}
