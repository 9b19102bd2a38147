//! Members: a pair or a hub, systems that exist, directions that agree.

use super::{Checker, Subject};
use crate::config::diagnostic::{Diagnostic, did_you_mean};
use crate::config::kinds;
use crate::config::model::member::Member;
use crate::config::model::running::ChangeDetection;
use crate::config::model::sync::{OnDelete, SyncType, TargetEdits};
use crate::error::Code;

pub(super) fn check(checker: &mut Checker<'_>, subject: &Subject<'_>) {
    pair_or_hub(checker, subject);
    systems_exist(checker, subject);
    nothing_of_the_connection(checker, subject);
    roles_differ(checker, subject);
    directions_agree(checker, subject);
    deletions(checker, subject);
    change_detection(checker, subject);
}

fn pair_or_hub(checker: &mut Checker<'_>, subject: &Subject<'_>) {
    let Subject { sync, at, .. } = subject;
    let is_hub = sync.sync_hub.is_some() || !sync.connected_systems.is_empty();
    let name = &sync.name;
    match (&sync.source, &sync.target) {
        (None, None) if !is_hub => {
            let remedy = "Add \"source\" and \"target\", each with \"system\" (the name of a connection) and \"object\".";
            let message = format!("the sync `{name}` has no members");
            checker.say(at, Diagnostic::error(Code::ConfigMissing, message).instead(remedy));
        }
        (Some(_), Some(_)) | (None, None) => {}
        (source, _) if !is_hub => {
            let missing = if source.is_none() { "source" } else { "target" };
            let remedy = format!("Add \"{missing}\": {{ \"system\": \"…\", \"object\": \"…\" }}.");
            let message = format!("the sync `{name}` has no {missing}");
            checker.say(at, Diagnostic::error(Code::ConfigMissing, message).instead(remedy));
        }
        _ => {}
    }
    if is_hub {
        hub(checker, subject);
    } else if !sync.entities.is_empty() {
        checker.idle(&format!("{at}/entities"), "`entities` belong to a hub, and there is no `sync_hub`");
    }
    if let Some((source, target)) = sync.pair() {
        let reached = |member: &Member| {
            let connection = checker.config.connections.get(&member.system);
            member.database.clone().or_else(|| connection?.credentials.database.clone())
        };
        let is_same = source.system == target.system && source.object_name() == target.object_name();
        if is_same && reached(source) == reached(target) {
            let message = format!("source and target are the same: `{}` of `{}`", source.object, source.system);
            checker.error(Code::ConfigContradiction, &format!("{at}/target"), message);
        }
    }
}

fn hub(checker: &mut Checker<'_>, subject: &Subject<'_>) {
    let Subject { sync, at, .. } = subject;
    if sync.source.is_some() || sync.target.is_some() {
        let message = "a sync is either a pair (`source`, `target`) or a star (`sync_hub`, `connected_systems`), not both";
        checker.error(Code::ConfigContradiction, at, message);
    }
    let Some(hub) = &sync.sync_hub else {
        let remedy = "Add \"sync_hub\": the name of a connection.";
        let finding = Diagnostic::error(Code::ConfigMissing, "`connected_systems` need a `sync_hub`").instead(remedy);
        return checker.say(&format!("{at}/connected_systems"), finding);
    };
    if sync.connected_systems.is_empty() {
        let remedy = "Add \"connected_systems\": [{ \"system\": \"…\", \"objects\": [\"…\"] }].";
        let finding = Diagnostic::error(Code::ConfigMissing, format!("the hub `{hub}` has no spokes")).instead(remedy);
        checker.say(&format!("{at}/sync_hub"), finding);
    }
    if sync.entities.is_empty() {
        let members: Vec<String> = sync
            .connected_systems
            .iter()
            .map(|spoke| format!("\"{}\": \"{}\"", spoke.system, spoke.objects.first().map_or("…", String::as_str)))
            .collect();
        let object = sync.connected_systems.iter().flat_map(|spoke| &spoke.objects).next().map_or("…", String::as_str);
        let message = format!("it is not said which objects of the systems around `{hub}` are the same kind of record");
        let remedy = format!(
            "Add \"entities\": [{{ \"name\": \"{object}\", \"hub\": \"{object}\", \"members\": {{ {} }} }}].",
            members.join(", ")
        );
        checker.say(&format!("{at}/sync_hub"), Diagnostic::warning(Code::ConfigMissing, message).instead(remedy));
    }
}

fn systems_exist(checker: &mut Checker<'_>, subject: &Subject<'_>) {
    let Subject { sync, at, .. } = subject;
    let mut named: Vec<(String, &str)> = Vec::new();
    for (side, member) in [("source", &sync.source), ("target", &sync.target)] {
        named.extend(member.iter().map(|member| (format!("{at}/{side}/system"), member.system.as_str())));
    }
    named.extend(sync.sync_hub.iter().map(|hub| (format!("{at}/sync_hub"), hub.as_str())));
    for (index, spoke) in sync.connected_systems.iter().enumerate() {
        named.push((format!("{at}/connected_systems/{index}/system"), spoke.system.as_str()));
    }
    for (index, entity) in sync.entities.iter().enumerate() {
        let spokes: Vec<&str> = sync.connected_systems.iter().map(|spoke| spoke.system.as_str()).collect();
        for system in
            entity.members.keys().chain(entity.field_mappings.keys()).filter(|system| !spokes.contains(&system.as_str()))
        {
            let message = format!("`{system}` is none of the connected systems{}", did_you_mean(system, spokes.iter().copied()));
            checker.error(Code::ConfigUnknownName, &format!("{at}/entities/{index}/members/{system}"), message);
        }
    }
    for (pointer, system) in named {
        let known: Vec<&str> = checker.config.connections.keys().map(|name| name.as_str()).collect();
        if system.contains("://") {
            // The text is not repeated: such URLs hold passwords.
            let message = "a connection is not written as a URL";
            let remedy =
                "Write \"type\", \"object\" and \"credentials\": { \"host\": \"…\", \"password\": { \"env\": \"NAME\" } }.";
            checker.say(&pointer, Diagnostic::error(Code::ConfigWrongType, message).instead(remedy));
            continue;
        }
        if !known.contains(&system) {
            let message = format!("there is no connection `{system}`{}", did_you_mean(system, known));
            let remedy = format!(
                "Correct the name, or add \"connections\": {{ \"{system}\": {{ \"type\": \"…\", \"credentials\": {{ … }} }} }}."
            );
            checker.say(&pointer, Diagnostic::error(Code::ConfigUnknownName, message).instead(remedy));
        }
    }
}

/// A member that names a connection says nothing else of how that is reached: one connection reaches one database, and what the
/// connector is told stands with the connection. Of a connector that is not built nobody knows that yet.
fn nothing_of_the_connection(checker: &mut Checker<'_>, subject: &Subject<'_>) {
    let Subject { sync, at, .. } = subject;
    for (side, member) in [("source", &sync.source), ("target", &sync.target)] {
        let Some(member) = member else { continue };
        let Some(connection) = checker.config.connections.get(&member.system) else { continue };
        if !kinds::find(checker.kinds, &connection.kind).is_some_and(|kind| kind.built) {
            continue;
        }
        let system = &member.system;
        if let Some(database) =
            member.database.as_ref().filter(|database| connection.credentials.database.as_ref() != Some(*database))
        {
            let reached = match &connection.credentials.database {
                Some(own) => format!("`{system}` reaches the database `{own}`"),
                None => format!("`{system}` reaches no database by name"),
            };
            let message = format!("{reached}, and the {side} names `{database}`");
            let remedy = format!(
                "Leave `database` out, or define a connection of its own for `{database}` in `connections` and name that one."
            );
            checker.say(&format!("{at}/{side}/database"), Diagnostic::error(Code::ConfigContradiction, message).instead(remedy));
        }
        if !member.options.is_empty() {
            let message = format!("the {side} names the connection `{system}`, and `options` belong to a connection");
            let remedy = format!("Move them to \"connections\": {{ \"{system}\": {{ \"options\": … }} }}.");
            checker.say(&format!("{at}/{side}/options"), Diagnostic::error(Code::ConfigContradiction, message).instead(remedy));
        }
    }
}

fn roles_differ(checker: &mut Checker<'_>, subject: &Subject<'_>) {
    let names = subject.names;
    for (index, name) in names.iter().enumerate() {
        let other = names.iter().take(index).find(|other| other.written == name.written && other.canonical != name.canonical);
        if let Some(other) = other {
            let message = format!("`{}` names two members: `{}` and `{}`", name.written, other.canonical, name.canonical);
            checker.error(Code::ConfigDuplicateName, &subject.at, message);
        }
    }
}

fn directions_agree(checker: &mut Checker<'_>, subject: &Subject<'_>) {
    let Subject { sync, at, .. } = subject;
    let (forth, back) = (sync.flows_to_target(), sync.flows_to_source());
    let agrees = match sync.sync_type {
        SyncType::Bidirectional => forth && back,
        SyncType::OneWay => forth != back,
    };
    if !agrees {
        let kind = if sync.sync_type == SyncType::OneWay { "one_way" } else { "bidirectional" };
        let message = format!("`sync_type` is `{kind}`, but source_to_target is {forth} and target_to_source is {back}");
        let remedy = match (forth, back) {
            (true, true) => "Write \"sync_type\": \"bidirectional\", or set one of the two to false.",
            (false, false) => "Set at least one of the two to true: nothing would flow.",
            _ => "Write \"sync_type\": \"one_way\", or set both to true.",
        };
        let pointer =
            if checker.places.written(&format!("{at}/source_to_target")) { "source_to_target" } else { "target_to_source" };
        return checker.say(&format!("{at}/{pointer}"), Diagnostic::error(Code::ConfigContradiction, message).instead(remedy));
    }
    for (side, member) in [("source", &sync.source), ("target", &sync.target)] {
        let Some(member) = member else { continue };
        let flows = (forth && member.direction.to_target()) || (back && member.direction.to_source());
        if !flows {
            let message = format!("nothing would flow: the sync and the `direction` of its {side} are opposed");
            checker.error(Code::ConfigContradiction, &format!("{at}/{side}/direction"), message);
        }
    }
    for (index, mapping) in sync.field_mappings.iter().enumerate() {
        let flows = (forth && mapping.direction.to_target()) || (back && mapping.direction.to_source());
        if !flows {
            let field = mapping.source.first().map_or("", |field| field.as_str());
            let message = format!("`{field}` never flows: the mapping's `direction` is against the sync's");
            checker.idle(&format!("{at}/field_mappings/{index}/direction"), message);
        }
    }
    if sync.sync_type == SyncType::Bidirectional && sync.target_edits != TargetEdits::Overwrite {
        checker.idle(&format!("{at}/target_edits"), "`target_edits` is for one-way syncs: here edits flow both ways");
    }
}

fn deletions(checker: &mut Checker<'_>, subject: &Subject<'_>) {
    let Subject { sync, at, .. } = subject;
    match (sync.on_delete, &sync.soft_delete_field) {
        (OnDelete::SoftDelete, None) => {
            let remedy = "Add \"soft_delete_field\": the field that marks a record as deleted.";
            let finding = Diagnostic::error(Code::ConfigMissing, "`soft_delete` needs `soft_delete_field`").instead(remedy);
            checker.say(&format!("{at}/on_delete"), finding);
        }
        (OnDelete::SoftDelete, Some(_)) | (_, None) => {}
        (_, Some(_)) => {
            let message = "`soft_delete_field` is only used with \"on_delete\": \"soft_delete\"";
            checker.idle(&format!("{at}/soft_delete_field"), message);
        }
    }
}

/// Warns where a connector cannot capture in the way asked, though others can.
fn change_detection(checker: &mut Checker<'_>, subject: &Subject<'_>) {
    let Subject { sync, at, .. } = subject;
    let asked = sync.performance_settings.change_detection;
    if asked == ChangeDetection::Auto {
        return;
    }
    let mut told: Vec<&str> = Vec::new();
    for system in sync.systems() {
        let Some(connection) = checker.config.connections.get(system) else { continue };
        let Some(kind) = kinds::find(checker.kinds, &connection.kind).filter(|kind| kind.built) else { continue };
        if !kind.change_detection.contains(&asked) && !told.contains(&kind.name) {
            told.push(kind.name);
            let message = format!(
                "`{}` as `change_detection` is not built yet for `{}`: the best way that it offers is taken",
                asked.name(),
                kind.name
            );
            let pointer = format!("{at}/performance_settings/change_detection");
            checker.say(&pointer, Diagnostic::warning(Code::ConfigNotBuilt, message));
        }
    }
}
