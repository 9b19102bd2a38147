//! The messages of `pgoutput`, protocol version 1: those that frame transactions, and the changes inside them.
//! Source: <https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html>.
//! Nothing a server sends can make it panic: every byte comes through one checked reader.

use bytes::{Buf, Bytes};
use concord_engine::error::{Code, Error, Result};

/// A message that frames transactions or stands between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A transaction begins.
    Begin {
        /// Where its commit stands.
        commit_lsn: u64,
        /// When it was committed: microseconds since 2000-01-01.
        commit_time: i64,
        /// Its number's lower 32 bits.
        xid: u32,
    },
    /// It ends.
    Commit {
        /// The place behind its commit.
        end_lsn: u64,
    },
    /// A message that somebody wrote into the log.
    Message {
        /// Whether it belongs to the transaction around it.
        transactional: bool,
        /// Its prefix.
        prefix: String,
        /// Its content.
        content: Bytes,
    },
}

/// A change inside a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A table as of here.
    Relation(Relation),
    /// A row was inserted.
    Insert {
        /// The table's OID.
        relation: u32,
        /// The row.
        new: Tuple,
    },
    /// A row was updated.
    Update {
        /// The table's OID.
        relation: u32,
        /// What it was before: the key if that changed, or the whole row with `REPLICA IDENTITY FULL`.
        old: Option<Tuple>,
        /// The row now.
        new: Tuple,
    },
    /// A row was deleted.
    Delete {
        /// The table's OID.
        relation: u32,
        /// Its key, or all of it with `REPLICA IDENTITY FULL`.
        old: Tuple,
    },
    /// Tables were emptied.
    Truncate {
        /// Their OIDs.
        relations: Vec<u32>,
    },
    /// A message that bears on nothing here (Type, Origin).
    Other,
}

/// A table as of a place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// Its OID.
    pub oid: u32,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub table: String,
    /// `d`, `n`, `f` or `i`.
    pub replica_identity: u8,
    /// The columns that the feed carries.
    pub columns: Vec<RelationColumn>,
}

/// A column as of a place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelationColumn {
    /// Whether it belongs to the replica identity.
    pub in_identity: bool,
    /// Its name.
    pub name: String,
    /// Its type's OID.
    pub type_oid: u32,
    /// Its type's modifier.
    pub type_modifier: i32,
}

/// A row's cells in the order of the relation's columns.
pub type Tuple = Vec<Cell>;

/// One cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// Null.
    Null,
    /// A value stored out of line that the update left alone: not sent.
    Unchanged,
    /// The value's text.
    Text(Bytes),
}

/// Reads a message that frames transactions; `None`: it is a change inside one.
pub fn frame(bytes: &Bytes) -> Result<Option<Frame>> {
    let mut reader = Reader { bytes: bytes.clone() };
    let frame = match reader.u8()? {
        b'B' => Frame::Begin { commit_lsn: reader.u64()?, commit_time: reader.i64()?, xid: reader.u32()? },
        b'C' => {
            let (_flags, _commit_lsn) = (reader.u8()?, reader.u64()?);
            let end_lsn = reader.u64()?;
            let _commit_time = reader.i64()?;
            Frame::Commit { end_lsn }
        }
        b'M' => {
            let transactional = reader.u8()? & 1 == 1;
            let _lsn = reader.u64()?;
            let prefix = reader.text()?;
            let length = reader.u32()?;
            Frame::Message { transactional, prefix, content: reader.take(length)? }
        }
        _ => return Ok(None),
    };
    reader.end()?;
    Ok(Some(frame))
}

/// Reads a change.
pub fn decode(bytes: Bytes) -> Result<Message> {
    let mut reader = Reader { bytes };
    let message = match reader.u8()? {
        b'R' => Message::Relation(relation(&mut reader)?),
        b'I' => {
            let relation = reader.u32()?;
            reader.expect(b'N')?;
            Message::Insert { relation, new: tuple(&mut reader)? }
        }
        b'U' => update(&mut reader)?,
        b'D' => {
            let relation = reader.u32()?;
            reader.one_of(b"KO")?;
            Message::Delete { relation, old: tuple(&mut reader)? }
        }
        b'T' => {
            let count = reader.u32()?;
            let _options = reader.u8()?;
            let relations = (0..count).map(|_| reader.u32()).collect::<Result<Vec<u32>>>()?;
            Message::Truncate { relations }
        }
        b'Y' | b'O' => return Ok(Message::Other),
        other => return Err(malformed(format!("unknown message {:?}", char::from(other)))),
    };
    reader.end()?;
    Ok(message)
}

fn update(reader: &mut Reader) -> Result<Message> {
    let relation = reader.u32()?;
    let kind = reader.one_of(b"KON")?;
    if kind == b'N' {
        return Ok(Message::Update { relation, old: None, new: tuple(reader)? });
    }
    let old = tuple(reader)?;
    reader.expect(b'N')?;
    Ok(Message::Update { relation, old: Some(old), new: tuple(reader)? })
}

fn relation(reader: &mut Reader) -> Result<Relation> {
    let oid = reader.u32()?;
    let schema = reader.text()?;
    let table = reader.text()?;
    let replica_identity = reader.u8()?;
    let count = reader.u16()?;
    let mut columns = Vec::new();
    for _ in 0..count {
        let in_identity = reader.u8()? & 1 == 1;
        let name = reader.text()?;
        columns.push(RelationColumn { in_identity, name, type_oid: reader.u32()?, type_modifier: reader.i32()? });
    }
    // The server leaves the schema out for pg_catalog.
    let schema = if schema.is_empty() { "pg_catalog".to_owned() } else { schema };
    Ok(Relation { oid, schema, table, replica_identity, columns })
}

fn tuple(reader: &mut Reader) -> Result<Tuple> {
    let count = reader.u16()?;
    let mut cells = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        cells.push(match reader.one_of(b"nut")? {
            b'n' => Cell::Null,
            b'u' => Cell::Unchanged,
            _ => {
                let length = reader.u32()?;
                Cell::Text(reader.take(length)?)
            }
        });
    }
    Ok(cells)
}

fn malformed(what: String) -> Error {
    Error::new(Code::ProtocolViolation, format!("the feed sent a malformed pgoutput message: {what}"))
}

/// The checked reader: every read says what it lacks instead of reaching beyond the end.
struct Reader {
    bytes: Bytes,
}

impl Reader {
    fn has(&self, needed: usize) -> Result<()> {
        let there = self.bytes.remaining();
        if there < needed {
            return Err(malformed(format!("{needed} bytes expected, {there} left")));
        }
        Ok(())
    }

    fn u8(&mut self) -> Result<u8> {
        self.has(1)?;
        Ok(self.bytes.get_u8())
    }

    fn u16(&mut self) -> Result<u16> {
        self.has(2)?;
        Ok(self.bytes.get_u16())
    }

    fn u32(&mut self) -> Result<u32> {
        self.has(4)?;
        Ok(self.bytes.get_u32())
    }

    fn u64(&mut self) -> Result<u64> {
        self.has(8)?;
        Ok(self.bytes.get_u64())
    }

    fn i64(&mut self) -> Result<i64> {
        self.has(8)?;
        Ok(self.bytes.get_i64())
    }

    fn end(&self) -> Result<()> {
        match self.bytes.remaining() {
            0 => Ok(()),
            left => Err(malformed(format!("{left} bytes too many"))),
        }
    }

    fn i32(&mut self) -> Result<i32> {
        self.has(4)?;
        Ok(self.bytes.get_i32())
    }

    fn take(&mut self, length: u32) -> Result<Bytes> {
        let length = usize::try_from(length).map_err(|_| malformed(format!("a length of {length}")))?;
        self.has(length)?;
        Ok(self.bytes.split_to(length))
    }

    fn text(&mut self) -> Result<String> {
        let end = self.bytes.iter().position(|byte| *byte == 0).ok_or_else(|| malformed("a text without end".into()))?;
        let text = self.bytes.split_to(end);
        self.bytes.advance(1);
        String::from_utf8(text.to_vec()).map_err(|_| malformed("a name that is not UTF-8".into()))
    }

    fn one_of(&mut self, expected: &[u8]) -> Result<u8> {
        let tag = self.u8()?;
        if expected.contains(&tag) { Ok(tag) } else { Err(malformed(format!("unexpected {:?}", char::from(tag)))) }
    }

    fn expect(&mut self, expected: u8) -> Result<()> {
        self.one_of(&[expected]).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(value: &'static str) -> Cell {
        Cell::Text(Bytes::from_static(value.as_bytes()))
    }

    fn read(bytes: &'static [u8]) -> Message {
        decode(Bytes::from_static(bytes)).unwrap()
    }

    const RELATION: &[u8] = b"R\0\0\x40\x01public\0t\0d\0\x02\x01id\0\0\0\0\x17\xff\xff\xff\xff\0name\0\0\0\x04\x13\0\0\0\x2c";

    #[test]
    fn a_relation_names_its_columns_with_type_and_identity() {
        let column = |in_identity, name: &str, type_oid, type_modifier| RelationColumn {
            in_identity,
            name: name.into(),
            type_oid,
            type_modifier,
        };
        let expected = Relation {
            oid: 0x4001,
            schema: "public".into(),
            table: "t".into(),
            replica_identity: b'd',
            columns: vec![column(true, "id", 23, -1), column(false, "name", 1043, 44)],
        };
        assert_eq!(read(RELATION), Message::Relation(expected));
    }

    #[test]
    fn begin_commit_and_messages_frame_transactions() {
        let framed = |bytes: &'static [u8]| frame(&Bytes::from_static(bytes)).unwrap();
        let begin = framed(b"B\0\0\0\0\0\0\0\x10\0\0\0\0\0\0\0\x20\0\0\0\x07");
        assert_eq!(begin, Some(Frame::Begin { commit_lsn: 16, commit_time: 32, xid: 7 }));
        let commit = framed(b"C\0\0\0\0\0\0\0\0\x10\0\0\0\0\0\0\0\x18\0\0\0\0\0\0\0\x20");
        assert_eq!(commit, Some(Frame::Commit { end_lsn: 24 }));
        let message = framed(b"M\x01\0\0\0\0\0\0\0\x10concord\0\0\0\0\x02{}");
        let expected = Frame::Message { transactional: true, prefix: "concord".into(), content: Bytes::from_static(b"{}") };
        assert_eq!(message, Some(expected));
        assert_eq!(framed(b"I\0\0\0\x05"), None);
        for bytes in [&b""[..], b"B\0", b"C", b"M\x01\0\0\0\0\0\0\0\x10a\0\0\0\0\x02x"] {
            assert!(frame(&Bytes::copy_from_slice(bytes)).is_err());
        }
    }

    #[test]
    fn an_insert_carries_a_row() {
        let message = read(b"I\0\0\0\x05N\0\x03t\0\0\0\x017nt\0\0\0\0");
        assert_eq!(message, Message::Insert { relation: 5, new: vec![text("7"), Cell::Null, text("")] });
    }

    #[test]
    fn an_update_carries_the_old_key_or_row_only_where_the_server_sends_it() {
        let new = vec![text("7"), Cell::Unchanged];
        let plain = read(b"U\0\0\0\x05N\0\x02t\0\0\0\x017u");
        assert_eq!(plain, Message::Update { relation: 5, old: None, new: new.clone() });
        let keyed = read(b"U\0\0\0\x05K\0\x02t\0\0\0\x016nN\0\x02t\0\0\0\x017u");
        assert_eq!(keyed, Message::Update { relation: 5, old: Some(vec![text("6"), Cell::Null]), new: new.clone() });
        let whole = read(b"U\0\0\0\x05O\0\x02t\0\0\0\x017t\0\0\0\x01xN\0\x02t\0\0\0\x017u");
        assert_eq!(whole, Message::Update { relation: 5, old: Some(vec![text("7"), text("x")]), new });
    }

    #[test]
    fn a_delete_carries_the_key_or_the_row() {
        let keyed = read(b"D\0\0\0\x05K\0\x02t\0\0\0\x017n");
        assert_eq!(keyed, Message::Delete { relation: 5, old: vec![text("7"), Cell::Null] });
        let whole = read(b"D\0\0\0\x05O\0\x02t\0\0\0\x017t\0\0\0\x01x");
        assert_eq!(whole, Message::Delete { relation: 5, old: vec![text("7"), text("x")] });
    }

    #[test]
    fn a_truncate_names_every_table() {
        assert_eq!(read(b"T\0\0\0\x02\x01\0\0\0\x05\0\0\0\x06"), Message::Truncate { relations: vec![5, 6] });
    }

    #[test]
    fn types_and_origins_bear_on_nothing() {
        assert_eq!(read(b"Y\0\0\0\x05public\0mood\0"), Message::Other);
        assert_eq!(read(b"O\0\0\0\0\0\0\0\x01other\0"), Message::Other);
    }

    #[test]
    fn what_is_cut_short_or_too_long_or_unknown_is_an_error() {
        for end in 1..RELATION.len() {
            assert!(decode(Bytes::from_static(&RELATION[..end])).is_err(), "{end}");
        }
        for bytes in [&b""[..], b"X", b"I\0\0\0\x05N\0\x01t\xff\xff\xff\xff", b"I\0\0\0\x05K\0\0", b"T\0\0\0\0\0extra"] {
            let error = decode(Bytes::copy_from_slice(bytes)).unwrap_err();
            assert_eq!(error.code, Code::ProtocolViolation);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_whatever_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let bytes = Bytes::from(bytes);
            let _ = frame(&bytes);
            let _ = decode(bytes);
        }
    }
}
