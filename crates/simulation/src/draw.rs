//! The first dimensions of a world, drawn from one stream: members, fields, rules, triggers and contents. The order of the
//! draws is what a seed means; more of a world is drawn in `further`.

use crate::database::{KeyKind, Trigger};
use crate::random::Random;
use crate::world::{Decide, DeleteRule, EditRule, FieldKind, Flow, Purpose, Seeded, Start, World, field, native};

impl World {
    pub(crate) fn draw_members(&mut self, random: &mut Random) {
        let natural = random.percent(35);
        for member in &mut self.members {
            member.keys = if natural && random.percent(70) { KeyKind::Natural } else { KeyKind::Serial };
            member.unique = random.percent(25);
            member.users = 1 + random.below(2);
            let profile = &mut member.profile;
            profile.marks = random.percent(80);
            profile.granularity_micros = if random.percent(15) { 1_000_000 } else { 1 };
            profile.partial_images = random.percent(40);
            profile.echo_is_newer = random.percent(70);
            profile.vague_reads = random.percent(15);
            profile.commit_per_record = random.percent(30);
            profile.feed_delay_ms_max = random.pick(&[0, 3, 30, 400, 3_000]).copied().unwrap_or(3);
            profile.call_ms_max = random.pick(&[0, 1, 5, 60]).copied().unwrap_or(1);
            profile.feed_batch_max = random.pick(&[1, 2, 5, 100]).copied().unwrap_or(5);
        }
    }

    pub(crate) fn draw_fields(&mut self, random: &mut Random) {
        self.fields = vec![field("tag", FieldKind::Text, Purpose::Tag, 0), field("name", FieldKind::Text, Purpose::Plain, 1)];
        let mut groups = 2;
        if random.percent(60) {
            self.fields.push(field("city", FieldKind::Text, Purpose::Plain, groups));
            self.fields.push(field("zip", FieldKind::Text, Purpose::Plain, groups));
            groups += 1;
        }
        if random.percent(60) {
            self.fields.push(field("amount", FieldKind::Number, Purpose::Plain, groups));
            groups += 1;
        }
        if random.percent(35) {
            let mut note = field("note", FieldKind::Text, Purpose::Plain, groups);
            note.flow = Flow::From(random.place(self.members.len()));
            self.fields.push(note);
            groups += 1;
        }
        if random.percent(35) {
            let mut nick = field("nick", FieldKind::Text, Purpose::Plain, groups);
            nick.short_at = Some((random.place(self.members.len()), 6));
            self.fields.push(nick);
            groups += 1;
        }
        if self.members.iter().any(|member| member.keys == KeyKind::Natural) {
            self.fields.push(field("code", FieldKind::Text, Purpose::Code, groups));
            groups += 1;
            self.key_changes = random.percent(50);
        }
        let serial = self.members.iter().position(|member| member.keys == KeyKind::Serial);
        if let (Some(member), true) = (serial, random.percent(25)) {
            let mut id = field("origin_id", FieldKind::Number, Purpose::KeyOf(member), groups);
            id.flow = Flow::From(member);
            self.fields.push(id);
            groups += 1;
        }
        self.groups = vec![Decide::Latest; groups];
    }

    pub(crate) fn draw_rules(&mut self, random: &mut Random) {
        let members = self.members.len();
        for decide in self.groups.iter_mut().skip(1) {
            *decide = match random.below(10) {
                0..=4 => Decide::Latest,
                5..=6 => Decide::Priority(vec![random.place(members)]),
                7 => Decide::Priority((0..members).rev().collect()),
                _ => Decide::Person,
            };
        }
        let all_serial = self.members.iter().all(|member| member.keys == KeyKind::Serial);
        self.matched = !all_serial || random.percent(80);
        // Without marks and without a match field an echo that comes before its answer cannot be told from a stranger.
        if !self.matched {
            self.members.iter_mut().for_each(|member| member.profile.marks = true);
        }
        self.on_delete = match random.below(10) {
            0..=7 => DeleteRule::Propagate,
            8 => DeleteRule::Ignore,
            _ => DeleteRule::Detach,
        };
        self.against_edit = match random.below(3) {
            0 => EditRule::UpdateWins,
            1 => EditRule::DeleteWins,
            _ => EditRule::Person,
        };
        self.start = match random.below(4) {
            0 => Start::Policy,
            1 => Start::Person,
            _ => Start::Member(random.place(members)),
        };
        self.batch_size = random.pick(&[1, 2, 10, 50]).copied().unwrap_or(10);
        self.parallelism = 1 + random.place(3);
        self.operations = random.between(2, 14);
        self.users_wait = random.percent(60);
        self.kills = if random.percent(40) { 0 } else { random.between(1, 5) };
        self.faults = random.percent(60);
        self.span = random.millis(500, 25_000);
        self.fsync_ms_max = random.pick(&[0, 1, 10, 80]).copied().unwrap_or(1);
        self.deletes = random.percent(70);
        self.inserts = random.percent(80);
    }

    pub(crate) fn draw_triggers(&mut self, random: &mut Random) {
        if random.percent(65) {
            return;
        }
        let place = random.place(self.members.len());
        let name = native(&self.fields, &self.members, place, 1);
        let amount = self.fields.iter().position(|field| field.name == "city");
        let target = amount.map(|field| native(&self.fields, &self.members, place, field));
        let trigger = match (random.below(6), target) {
            (0, _) => Trigger::Uppercase(name),
            (1, _) => Trigger::Truncate(name, 8),
            (2, Some(target)) => Trigger::Derive { source: name, target },
            (3, Some(target)) => Trigger::Follow { source: name, target },
            (4, Some(target)) => Trigger::Workflow { source: name, target },
            _ => Trigger::RewriteOnce(name),
        };
        if let Some(member) = self.members.get_mut(place) {
            // A second change in the transaction stands behind the write only where the feed tells of it afterwards.
            if matches!(trigger, Trigger::Follow { .. }) {
                member.profile.echo_is_newer = true;
            }
            member.triggers.push(trigger);
        }
    }

    pub(crate) fn draw_contents(&mut self, random: &mut Random) {
        let members = self.members.len();
        let only = (!self.matched).then(|| random.place(members));
        for number in 0..random.below(12) {
            let mut at: Vec<Option<String>> = vec![None; members];
            let shared = random.percent(50);
            let lonely = random.place(members);
            for (place, slot) in at.iter_mut().enumerate() {
                let here = match only {
                    Some(only) => place == only,
                    None => shared || place == lonely,
                };
                let differs = random.percent(30);
                *slot = here.then(|| if differs { format!("{place}") } else { String::new() });
            }
            self.contents.push(Seeded { tag: format!("r{number}"), at });
        }
    }
}
