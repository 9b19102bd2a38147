//! What a configuration must know of connectors without naming any: the connectors' own list hands it in.

use super::model::connection::AuthType;
use super::model::running::ChangeDetection;

/// A kind of connector, as `type` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectorKind {
    /// The name under which it is written.
    pub name: &'static str,
    /// Other spellings of the name.
    pub aliases: &'static [&'static str],
    /// Whether this version can speak to such systems.
    pub built: bool,
    /// Credentials without which nothing can be reached.
    pub required: &'static [&'static str],
    /// Every one of the credentials that this version reads, those among them.
    pub credentials: &'static [&'static str],
    /// The ways in which we can prove who we are; none where nobody asks.
    pub auth: &'static [AuthType],
    /// The ways in which this version captures changes there, besides `auto`.
    pub change_detection: &'static [ChangeDetection],
}

/// The kind of this name or alias.
pub(crate) fn find<'a>(kinds: &'a [ConnectorKind], name: &str) -> Option<&'a ConnectorKind> {
    kinds.iter().find(|kind| kind.name == name || kind.aliases.contains(&name))
}
