//! What our role lacks to read and to write a table, asked of the server as of now, each with the statement that grants it: for
//! `check`, and behind a statement that was refused. Changes nothing.

use super::Shared;
use super::client::{Lease, column};
use super::names::{TableName, quote};
use super::schema::Table;
use concord_engine::connector::{Operation, Severity, Write, Writes};
use concord_engine::error::{Code, Error, Result};
use concord_engine::record::ObjectName;

/// `nextval` asks for either of the two last. Of what is no sequence that may not even be asked.
const RIGHTS: &str = "SELECT current_user::text, pg_catalog.has_schema_privilege(c.relnamespace, 'USAGE'), \
    pg_catalog.has_table_privilege(c.oid, 'SELECT'), pg_catalog.has_any_column_privilege(c.oid, 'SELECT'), \
    pg_catalog.has_table_privilege(c.oid, 'INSERT'), pg_catalog.has_any_column_privilege(c.oid, 'INSERT'), \
    pg_catalog.has_table_privilege(c.oid, 'UPDATE'), pg_catalog.has_any_column_privilege(c.oid, 'UPDATE'), \
    pg_catalog.has_table_privilege(c.oid, 'DELETE'), row_security_active(c.oid), \
    ARRAY(SELECT DISTINCT pg_catalog.format('%I.%I', n.nspname, s.relname) FROM pg_catalog.pg_attrdef a \
      JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_attrdef'::regclass AND d.objid = a.oid \
        AND d.refclassid = 'pg_catalog.pg_class'::regclass \
      JOIN pg_catalog.pg_class s ON s.oid = d.refobjid \
      JOIN pg_catalog.pg_namespace n ON n.oid = s.relnamespace \
      WHERE a.adrelid = c.oid AND CASE WHEN s.relkind = 'S' THEN NOT pg_catalog.has_sequence_privilege(s.oid, 'USAGE, UPDATE') END) \
    FROM pg_catalog.pg_class c WHERE c.oid = $1";

/// How far a privilege goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Granted {
    Whole,
    /// For some columns alone.
    Columns,
    Nothing,
}

/// What our role may do with a table.
pub struct Rights {
    table: TableName,
    role: String,
    usage: bool,
    select: Granted,
    insert: Granted,
    update: Granted,
    delete: Granted,
    /// Whether row level security applies to us.
    hidden: bool,
    /// Sequences that give columns their defaults and that we may not draw from.
    sequences: Vec<String>,
}

/// Something that is missing.
pub struct Lack {
    pub severity: Severity,
    pub message: String,
    /// The statement that grants it.
    pub remedy: String,
}

impl Rights {
    /// Asks the server.
    pub async fn read(lease: &mut Lease<'_>, table: &Table) -> Result<Rights> {
        let missing = || Error::new(Code::ObjectMissing, format!("there is no table {} any more", table.schema.object));
        let rows = lease.query(RIGHTS, &[&table.oid], "asking for privileges").await?;
        let row = rows.first().ok_or_else(missing)?;
        let granted = |place: usize| -> Result<Granted> {
            Ok(match (column(row, place)?, column(row, place + 1)?) {
                (true, _) => Granted::Whole,
                (false, true) => Granted::Columns,
                (false, false) => Granted::Nothing,
            })
        };
        Ok(Rights {
            table: table.name.clone(),
            role: column(row, 0)?,
            usage: column(row, 1)?,
            select: granted(2)?,
            insert: granted(4)?,
            update: granted(6)?,
            delete: if column(row, 8)? { Granted::Whole } else { Granted::Nothing },
            hidden: column(row, 9)?,
            sequences: column(row, 10)?,
        })
    }

    fn grant(&self, privileges: &str, on: &str) -> String {
        format!("GRANT {privileges} ON {on} TO {};", quote(&self.role))
    }

    /// What is missing for reading.
    pub fn lacks_to_read(&self) -> Vec<Lack> {
        let mut all = Vec::new();
        if !self.usage {
            let remedy = self.grant("USAGE", &format!("SCHEMA {}", quote(&self.table.schema)));
            all.push(Lack { severity: Severity::Problem, message: "the schema may not be used".to_owned(), remedy });
        }
        if self.hidden {
            let message = "row level security hides records from us; what we cannot see would look deleted".to_owned();
            let remedy = format!("ALTER ROLE {} BYPASSRLS;", quote(&self.role));
            all.push(Lack { severity: Severity::Problem, message, remedy });
        }
        all.extend(self.lack(&[("SELECT", self.select)], ""));
        all
    }

    /// What is missing for these writes.
    pub fn lacks_to_write(&self, writes: Writes) -> Vec<Lack> {
        let needed = [
            ("INSERT", self.insert, writes.creates),
            // A record is locked before it is compared and removed.
            ("UPDATE", self.update, writes.updates || writes.deletes),
            ("DELETE", self.delete, writes.deletes),
        ];
        let needed: Vec<(&str, Granted)> =
            needed.into_iter().filter(|(.., is_needed)| *is_needed).map(|(name, granted, _)| (name, granted)).collect();
        let mut all = self.lack(&needed, ", and the sync writes here");
        for sequence in self.sequences.iter().filter(|_| writes.creates) {
            // Nothing tells from here whether a create gives the column itself.
            let message =
                format!("the sequence {sequence} may not be drawn from: a record cannot be made without a value from elsewhere");
            let remedy = self.grant("USAGE", &format!("SEQUENCE {sequence}"));
            all.push(Lack { severity: Severity::Warning, message, remedy });
        }
        all
    }

    /// What is missing of some privileges: all that is granted nowhere in one statement, and all that is granted for some columns.
    fn lack(&self, needed: &[(&str, Granted)], why: &str) -> Vec<Lack> {
        let one = |how: Granted, severity: Severity, what: &str| {
            let names: Vec<&str> = needed.iter().filter(|(_, granted)| *granted == how).map(|(name, _)| *name).collect();
            let are = if names.len() > 1 { "are" } else { "is" };
            let remedy = self.grant(&names.join(", "), &self.table.sql());
            let message = format!("{} {are} {what}{why}", listed(&names));
            (!names.is_empty()).then_some(Lack { severity, message, remedy })
        };
        let nowhere = one(Granted::Nothing, Severity::Problem, "not granted");
        nowhere.into_iter().chain(one(Granted::Columns, Severity::Warning, "granted for some columns alone")).collect()
    }
}

/// `INSERT, UPDATE and DELETE`.
fn listed(names: &[&str]) -> String {
    match names {
        [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        _ => names.concat(),
    }
}

/// What a batch does.
pub fn of_batch(writes: &[Write]) -> Writes {
    writes.iter().fold(Writes::default(), |all, write| match write.operation {
        Operation::Create { .. } => Writes { creates: true, ..all },
        Operation::Update { .. } => Writes { updates: true, ..all },
        Operation::Delete { .. } => Writes { deletes: true, ..all },
    })
}

/// An error with the statements that grant what the server says is missing, where a privilege is what it is about.
pub async fn named(shared: &Shared, object: &ObjectName, writes: Writes, error: Error) -> Error {
    if error.code != Code::PrivilegeMissing {
        return error;
    }
    let rights = async {
        let table = shared.table(object).await?;
        let mut lease = shared.readers.lease().await?;
        let rights = Rights::read(&mut lease, &table).await?;
        lease.done();
        Ok::<Rights, Error>(rights)
    };
    let Ok(rights) = rights.await else { return error };
    let lacks = rights.lacks_to_read().into_iter().chain(rights.lacks_to_write(writes));
    let statements: Vec<String> = lacks.map(|lack| lack.remedy).collect();
    if statements.is_empty() {
        // Of something else: a table that a trigger writes to, say.
        return error;
    }
    Error { message: format!("{}; run: {}", error.message, statements.join(" ")), ..error }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rights() -> Rights {
        Rights {
            table: TableName { schema: "public".into(), table: "t".into() },
            role: "concord".into(),
            usage: true,
            select: Granted::Whole,
            insert: Granted::Nothing,
            update: Granted::Nothing,
            delete: Granted::Nothing,
            hidden: false,
            sequences: vec!["public.t_id_seq".into()],
        }
    }

    fn remedies(lacks: Vec<Lack>) -> Vec<(Severity, String)> {
        lacks.into_iter().map(|lack| (lack.severity, lack.remedy)).collect()
    }

    #[test]
    fn only_what_is_written_needs_to_be_granted() {
        let all = Writes { creates: true, updates: true, deletes: true };
        let (problem, warning) = (Severity::Problem, Severity::Warning);
        assert!(rights().lacks_to_write(Writes::default()).is_empty());
        assert_eq!(
            remedies(rights().lacks_to_write(all)),
            [
                (problem, "GRANT INSERT, UPDATE, DELETE ON \"public\".\"t\" TO \"concord\";".to_owned()),
                (warning, "GRANT USAGE ON SEQUENCE public.t_id_seq TO \"concord\";".to_owned())
            ]
        );
        assert_eq!(
            remedies(rights().lacks_to_write(Writes { deletes: true, ..Writes::default() })),
            [(problem, "GRANT UPDATE, DELETE ON \"public\".\"t\" TO \"concord\";".to_owned())]
        );
        let some = Rights { update: Granted::Columns, ..rights() };
        assert_eq!(
            remedies(some.lacks_to_write(Writes { updates: true, ..Writes::default() })),
            [(warning, "GRANT UPDATE ON \"public\".\"t\" TO \"concord\";".to_owned())]
        );
    }
}
