//! Examples as data in, text out: a script of edits, deletes, decisions and writes, and what came of each decision and
//! write, one line each.
//!
//! `a edits name=Ada at 20 grain 10 estimated partial`, `a secretly edits …` (not told yet), `a tells` (the feed's next
//! event), `a reads`, `a deletes at 20`, `now 50`, `decide`, `write`,
//! `rule name take a | give x | leave`, `rule keep | bury | release`, `mapping b name writes uppercase` (or `reads`; `none`
//! takes it away): a person changes the mapping. `taken name Ada yes` (or `no`): whether another record has the value.

use super::support::{at, pipeline};
use super::world::{World, letter, show};
use crate::change::EditTime;
use crate::clock::Moment;
use crate::ledger::Entry;
use crate::link::{Life, Standing};
use crate::plan::Layout;
use crate::reconcile::{Choice, Decision, Need, Ruling};
use crate::rules::SyncRules;
use crate::value::Value;
use std::fmt::Write;

/// Runs a script against fresh rules and compares what came of it.
pub fn check(rules: SyncRules, script: &str, expect: &str) {
    check_in(World::new(rules), script, expect);
}

/// Runs a script in a world that was prepared.
pub fn check_in(mut world: World, script: &str, expect: &str) {
    let mut told = String::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        run(&mut world, line, &mut told);
    }
    let expect: String = expect.lines().map(str::trim).filter(|line| !line.is_empty()).flat_map(|line| [line, "\n"]).collect();
    assert_eq!(told, expect, "script:\n{script}\ntold:\n{told}");
}

fn run(world: &mut World, line: &str, told: &mut String) {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        ["now", at] => world.now = at.parse().unwrap(),
        ["decide"] => decide(world, None, told),
        ["rule", rest @ ..] => {
            let ruling = ruling(&world.rules, rest);
            decide(world, Some(&ruling), told);
        }
        ["write"] => {
            world.writes.clear();
            world.pay();
            let writes = if world.writes.is_empty() { "no write".to_owned() } else { world.writes.join("; ") };
            writeln!(told, "{writes}").unwrap();
        }
        ["mapping", member, field, way, transformation] => remap(world, index(member), field, way, transformation),
        ["taken", name, value, "yes" | "no"] => {
            let field = world.rules.field(name).unwrap();
            world.unique.push((field, value_of(value), words[3] == "yes"));
        }
        [member, "tells"] => world.deliver(index(member)),
        [member, "reads"] => world.read(index(member)),
        [member, "secretly", rest @ ..] => act(world, index(member), rest),
        [member, rest @ ..] => {
            let member = index(member);
            act(world, member, rest);
            while !world.feeds[member].is_empty() {
                world.deliver(member);
            }
        }
        [] => {}
    }
}

fn remap(world: &mut World, member: usize, field: &str, way: &str, transformation: &str) {
    let then = Layout::of(&world.rules);
    let pipeline = (transformation != "none").then(|| pipeline(transformation));
    let mapping = &mut at(&mut world.rules, member, field).mapping;
    match way {
        "writes" => mapping.from = pipeline,
        "reads" => mapping.to = pipeline,
        _ => panic!("a mapping reads or writes"),
    }
    let now = Layout::of(&world.rules);
    world.link = now.adopt(&then, &world.link, world.link.layout);
    for pending in world.pending.iter_mut().flatten() {
        *pending = now.adopt_pending(&then, pending, pending.layout);
    }
}

fn act(world: &mut World, member: usize, words: &[&str]) {
    world.now += 1;
    let mut time = EditTime { at: Moment(world.now), granularity_micros: 1, estimated: words.contains(&"estimated") };
    let number = |name: &str| {
        let place = words.iter().position(|word| *word == name)?;
        words[place + 1].parse::<i64>().ok()
    };
    if let Some(at) = number("at") {
        time.at = Moment(at);
        world.now = world.now.max(at);
    }
    if let Some(at) = number("claims") {
        // A clock that is ahead: the system says so, whatever the time is.
        time.at = Moment(at);
    }
    if let Some(grain) = number("grain") {
        time.granularity_micros = u32::try_from(grain).unwrap();
    }
    if words[0] == "deletes" {
        return world.delete(member, time);
    }
    assert_eq!(words[0], "edits");
    let fields: Vec<(usize, Value)> = words
        .iter()
        .filter_map(|word| word.split_once('='))
        .map(|(name, value)| (world.rules.field(name).unwrap(), value_of(value)))
        .collect();
    world.edit(member, &fields, time, words.contains(&"partial"));
}

fn value_of(word: &str) -> Value {
    if word == "null" { Value::Null } else { Value::text(word.replace('_', " ")) }
}

fn index(member: &str) -> usize {
    ["a", "b", "c"].iter().position(|letter| *letter == member).unwrap()
}

fn ruling(rules: &SyncRules, words: &[&str]) -> Ruling {
    let group = |name: &str| rules.groups.iter().position(|group| group.name == name).unwrap();
    match words {
        ["keep"] => Ruling::Life { keep: true },
        ["bury"] => Ruling::Life { keep: false },
        ["release"] => Ruling::Release,
        [name, "take", member] => Ruling::Group(group(name), Choice::Take(index(member))),
        [name, "give", values @ ..] => {
            Ruling::Group(group(name), Choice::Give(values.iter().map(|word| value_of(word)).collect()))
        }
        [name, "leave"] => Ruling::Group(group(name), Choice::Leave),
        _ => panic!("no such ruling: {words:?}"),
    }
}

fn decide(world: &mut World, ruling: Option<&Ruling>, told: &mut String) {
    let before = world.link.clone();
    match world.decide(ruling) {
        Ok(decision) => tell(world, &before, &decision, told),
        Err(Need::Wait(until)) => writeln!(told, "wait until {}", until.micros()).unwrap(),
        Err(Need::NewLink(member)) => writeln!(told, "{} is a new record", letter(member)).unwrap(),
        Err(Need::Person) => told.push_str("a person must speak\n"),
        Err(Need::Look(asks)) => {
            let asks: Vec<String> =
                asks.iter().map(|(field, value)| format!("{}={}", world.rules.fields[*field].name, show(value))).collect();
            writeln!(told, "look for {}", asks.join(", ")).unwrap();
        }
        Err(Need::Referred(unknown)) => writeln!(told, "wait for {unknown:?}").unwrap(),
        Err(Need::Read(members)) => writeln!(told, "read {members:?}").unwrap(),
    }
}

fn tell(world: &World, before: &crate::link::Link, decision: &Decision, told: &mut String) {
    let mut said = Vec::new();
    let link = &decision.link;
    for (index, group) in link.groups.iter().enumerate() {
        let name = &world.rules.groups[index].name;
        if let Some(agreed) = group.agreed.as_ref().filter(|_| group.agreed != before.groups[index].agreed) {
            let values: Vec<String> = agreed.values.iter().map(show).collect();
            said.push(format!("{name}={} by {} ({:?})", values.join(","), letter(agreed.from), agreed.rule));
        }
        if let Some(held) = &group.held {
            let who: Vec<&str> = held.contenders.iter().map(|(member, ..)| letter(*member)).collect();
            let code = world.open.get(&held.review).map_or("", |review| review.code.as_str());
            said.push(format!("{name} held for {} {code}", who.join("+")));
        }
    }
    for row in decision.ledger.iter() {
        match &row.entry {
            Entry::Lost => {
                let fields: Vec<String> = row
                    .fields
                    .iter()
                    .map(|field| format!("{}={}", field.field, field.old.as_ref().map_or("?".to_owned(), show)))
                    .collect();
                said.push(format!("{} lost {}", letter(row.member), fields.join(",")));
            }
            Entry::Skipped(why) => said.push(format!("skipped {why}")),
            Entry::Warned(why) => said.push(format!("warned {why}")),
            other => panic!("not of a decision: {other:?}"),
        }
    }
    said.extend(tell_life(world, before, decision));
    let line = if said.is_empty() { "nothing".to_owned() } else { said.join("; ") };
    writeln!(told, "{line}").unwrap();
    assert!(
        decision.substantive || line == "nothing" || link.held.is_some() || !world.open.is_empty(),
        "told without substance: {line}"
    );
}

fn tell_life(world: &World, before: &crate::link::Link, decision: &Decision) -> Vec<String> {
    let link = &decision.link;
    let mut said = Vec::new();
    match &link.life {
        life if *life == before.life => {}
        Life::Live => said.push("lives".to_owned()),
        Life::Deleted { by, .. } => said.push(format!("deleted by {}", letter(*by))),
        Life::Detached { .. } => said.push("detached".to_owned()),
    }
    for (member, side) in link.sides.iter().enumerate() {
        let owed: Vec<&str> = side.owes.iter().map(|group| world.rules.groups[*group].name.as_str()).collect();
        if !owed.is_empty() {
            said.push(format!("{} owes {}", letter(member), owed.join(",")));
        }
        if side.owes_life {
            said.push(format!("{} owes life", letter(member)));
        }
        if side.standing == Standing::LeftAlone && before.sides[member].standing != Standing::LeftAlone {
            said.push(format!("{} left alone", letter(member)));
        }
    }
    if let Some(hold) = link.held {
        let code = world.open.get(&hold.review).map_or("", |review| review.code.as_str());
        said.push(format!("held {code}{}", if hold.sticky { " for a person" } else { "" }));
    }
    said.extend(decision.closed.iter().map(|(review, how)| format!("closed {}: {how}", review.0)));
    said
}
