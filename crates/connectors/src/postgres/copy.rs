//! Records that the source has just made, written by COPY: a third less work for the server than a statement is which is ready to
//! meet them. A record that is there already makes it fail; who called then carries them out as it carries out everything else.

use super::client::{Lease, column};
use super::errors;
use super::schema::{Column, Table};
use super::steps::Rest;
use super::transaction::Answered;
use super::types;
use bytes::{BufMut, Bytes, BytesMut};
use concord_engine::error::Result;
use concord_engine::mirror::batch::Step;
use concord_engine::value::Value;
use futures_util::SinkExt;
use tokio_postgres::{CopyInSink, Statement};

/// Fewer rows are as well off with a statement, which takes no round trip of its own.
pub const ROWS_FROM: usize = 100;
/// About how many bytes are sent at once.
const PIECE_BYTES: usize = 64 << 10;
/// Whether a COPY does to a table just what an INSERT does: triggers and rules see the one otherwise than the other, and a cast
/// that somebody has made may read a text otherwise than its type does.
const SAME: &str = "SELECT NOT EXISTS (SELECT FROM pg_catalog.pg_trigger WHERE tgrelid = $1 AND NOT tgisinternal AND tgenabled IN ('O', 'A')) \
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_rewrite WHERE ev_class = $1) \
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_cast c JOIN pg_catalog.pg_type t ON c.casttarget IN (t.oid, t.typbasetype, t.typelem) \
        JOIN pg_catalog.pg_attribute a ON a.atttypid = t.oid \
        WHERE a.attrelid = $1 AND c.castsource = 'text'::pg_catalog.regtype AND c.castmethod = 'f' AND c.oid >= 16384)";

/// When a sync's records are written by COPY.
pub struct Copying {
    is_the_same: bool,
    /// After one has failed everything is written by statements.
    rest: Rest,
}

impl Copying {
    /// What a table allows.
    pub async fn into(lease: &mut Lease<'_>, table: &Table, doing: &str) -> Result<Copying> {
        let is_the_same = column(&lease.query_one(SAME, &[&table.oid], doing).await?, 0)?;
        Ok(Copying { is_the_same, rest: Rest::default() })
    }

    /// Whether records of these steps may be written so. To be asked for each batch: the rest is counted by it.
    pub fn may(&self, steps: &[Step]) -> bool {
        let is_new = |step: &&Step| matches!(step, Step::Put { made: true, .. } | Step::Append { .. });
        self.is_the_same && steps.iter().filter(is_new).nth(ROWS_FROM.saturating_sub(1)).is_some() && self.rest.is_over()
    }

    /// One has failed: others of the sync's records may be there as well.
    pub fn failed(&self) {
        self.rest.begin();
    }
}

/// The statement that takes rows of these columns.
pub fn sql(table: &Table, columns: &[&Column]) -> String {
    let names: Vec<&str> = columns.iter().map(|column| column.sql.as_str()).collect();
    format!("COPY {} ({}) FROM STDIN", table.name.sql(), names.join(", "))
}

/// Rows as the server's text format, in pieces.
pub fn rows<'a>(columns: &[&Column], rows: impl Iterator<Item = &'a [&'a Value]>) -> Result<Vec<Bytes>> {
    let mut pieces = Vec::new();
    let mut piece = BytesMut::with_capacity(PIECE_BYTES);
    for row in rows {
        for (place, (column, value)) in columns.iter().zip(row).enumerate() {
            if place > 0 {
                piece.put_u8(b'\t');
            }
            match types::encode(&column.field.ty, value)? {
                Some(text) => escape(&text, &mut piece),
                None => piece.put_slice(b"\\N"),
            }
        }
        piece.put_u8(b'\n');
        if piece.len() >= PIECE_BYTES {
            pieces.push(std::mem::replace(&mut piece, BytesMut::with_capacity(PIECE_BYTES)).freeze());
        }
    }
    pieces.push(piece.freeze());
    Ok(pieces)
}

/// What the text format means something by is written with a backslash.
fn escape(text: &str, piece: &mut BytesMut) {
    let mut rest = text.as_bytes();
    while let Some(place) = rest.iter().position(|byte| matches!(byte, b'\\' | b'\t' | b'\n' | b'\r')) {
        let (before, behind) = rest.split_at(place);
        piece.put_slice(before);
        if let Some((byte, behind)) = behind.split_first() {
            let letter = match byte {
                b'\t' => b't',
                b'\n' => b'n',
                b'\r' => b'r',
                other => *other,
            };
            piece.put_slice(&[b'\\', letter]);
            rest = behind;
        }
    }
    piece.put_slice(rest);
}

/// Sends rows into a COPY that has begun, and ends it.
pub async fn send(sink: CopyInSink<Bytes>, pieces: &[Bytes]) -> Answered {
    futures_util::pin_mut!(sink);
    for piece in pieces {
        sink.feed(piece.clone()).await?;
    }
    sink.finish().await.map(|_| Vec::new())
}

/// Writes rows by a COPY of its own.
pub async fn write(lease: &mut Lease<'_>, statement: &Statement, pieces: &[Bytes], doing: &str) -> Result<()> {
    let failed = |error| errors::statement(&error, doing);
    let sink = lease.client()?.copy_in(statement).await.map_err(failed)?;
    send(sink, pieces).await.map(drop).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn escaped(text: &str) -> Vec<u8> {
        let mut piece = BytesMut::new();
        escape(text, &mut piece);
        piece.to_vec()
    }

    #[test]
    fn what_means_something_in_the_format_is_written_with_a_backslash() {
        assert_eq!(escaped("a\tb\nc\rd\\e\\N\\.é"), b"a\\tb\\nc\\rd\\\\e\\\\N\\\\.\xc3\xa9");
        assert_eq!(escaped(""), b"");
    }

    proptest! {
        #[test]
        fn no_text_ends_its_field_or_its_line_and_each_is_read_again(text in "[a\\\\\t\n\r N.é]{0,20}") {
            let written = escaped(&text);
            prop_assert!(!written.iter().any(|byte| matches!(byte, b'\t' | b'\n' | b'\r')));
            prop_assert!(!written.starts_with(b"\\N") && !written.starts_with(b"\\."));
            let mut read = Vec::new();
            let mut bytes = written.iter();
            while let Some(byte) = bytes.next() {
                read.push(match (byte, byte == &b'\\') {
                    (_, true) => match bytes.next() {
                        Some(b't') => b'\t',
                        Some(b'n') => b'\n',
                        Some(b'r') => b'\r',
                        Some(other) => *other,
                        None => return Err(TestCaseError::fail("a backslash at the end")),
                    },
                    (other, _) => *other,
                });
            }
            prop_assert_eq!(read, text.as_bytes());
        }
    }
}
