//! What a connector's own tests must provide: a fresh system, an outside user of it, and its peculiarities.

use async_trait::async_trait;
use concord_engine::connector::Connector;
use concord_engine::record::ObjectName;
use concord_engine::value::Value;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A table that the cases need.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// `id` a generated whole number and the key; `name` text; `email` text, unique; `amount` whole number, at least
    /// zero (a check of the database); `note` text.
    Accounts,
    /// `region` text and `number` whole number are the key; `label` text.
    Composite,
    /// `code` text is the key, `label` text: names that need quoting are given by [`Driver::odd_name`].
    Odd,
    /// No key: `label` text.
    Keyless,
}

/// A value of some type, as an outside user writes it and as the engine must see it.
pub struct TypeCase {
    /// The column's type in the system's own words.
    pub column: &'static str,
    /// The value in the system's own words.
    pub literal: String,
    /// The value in the engine's.
    pub value: Value,
}

/// A value that a column of some type cannot hold.
pub struct Misfit {
    /// The column's type in the system's own words.
    pub column: &'static str,
    /// The value.
    pub value: Value,
}

/// An outside user's transaction that holds a lock until it is dropped or ended.
#[async_trait]
pub trait Holding: Send {
    /// Ends the transaction; nothing of it stays.
    async fn end(self: Box<Self>);
}

/// One fresh system of a kind.
#[async_trait]
pub trait Driver: Send + Sync + Sized + 'static {
    /// A fresh system of its own, with nothing in it.
    async fn fresh() -> Self;

    /// Makes an empty table of this shape and gives the object's name.
    async fn table(&self, shape: Shape, name: &str) -> ObjectName;

    /// An outside user's statements, in one transaction, or one by one where the system cannot otherwise.
    async fn run(&self, statements: &[&str]);

    /// An outside user's statement that is rolled back.
    async fn run_and_roll_back(&self, statement: &str);

    /// Holds a lock on what the statement touches.
    async fn hold(&self, statement: &str) -> Box<dyn Holding>;

    /// A connector for the system, with short waits for locks.
    async fn open(&self) -> Arc<dyn Connector>;

    /// Everything that there is in the catalogue: tables, triggers, publications, slots, settings.
    async fn catalogue(&self) -> BTreeSet<String>;

    /// Removes what capture keeps at the source, as a careless administrator would.
    async fn lose_feed(&self);

    /// Cuts every connection of the connector.
    async fn cut(&self);

    /// The statement that empties a table at once.
    fn emptying(&self, table: &str) -> String;

    /// The statements that make a trigger of the application: every write puts `name` into upper case.
    fn upper_case_trigger(&self, table: &str) -> Vec<String>;

    /// A name for tables and columns that must be quoted.
    fn odd_name(&self) -> &'static str {
        "Odd \"name\" of ünï 'code'; --"
    }

    /// Types and odd values that must come back exactly.
    fn type_cases(&self) -> Vec<TypeCase>;

    /// Values that must be refused.
    fn misfits(&self) -> Vec<Misfit>;
}

/// A name as SQL text.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
