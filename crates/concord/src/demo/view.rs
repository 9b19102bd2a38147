//! What the demo shows: a few lines that renew themselves on a terminal, one line a second elsewhere.

use crate::answers::verified::Verified;
use crate::cli::Context;
use crate::terminal::{Style, Terminal};
use concord_engine::runtime::status::Status;
use std::cell::RefCell;
use std::time::Duration;

/// The view.
pub struct View<'a> {
    terminal: &'a Terminal,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    /// Lines of the block that is renewed.
    drawn: usize,
    verified: String,
}

impl<'a> View<'a> {
    /// A view of a terminal.
    pub fn new(context: &'a Context) -> View<'a> {
        View { terminal: &context.terminal, state: RefCell::new(State { drawn: 0, verified: "not yet".into() }) }
    }

    /// How often it is renewed.
    pub fn interval(&self) -> Duration {
        if self.terminal.is_live() { Duration::from_millis(250) } else { Duration::from_secs(1) }
    }

    /// Text in a style.
    pub fn paint(&self, style: Style, text: &str) -> String {
        self.terminal.paint(style, text)
    }

    /// Something new begins.
    pub fn step(&self, text: &str) {
        if !self.terminal.json {
            self.terminal.line(&format!("\n{text}"));
        }
    }

    /// What a part of the demo is about.
    pub fn heading(&self, text: &str) {
        self.step(&self.paint(Style::Strong, text));
    }

    /// Something that has happened: it stays, above the lines that renew themselves.
    pub fn tell(&self, text: &str) {
        if self.terminal.json {
            return;
        }
        let mut state = self.state.borrow_mut();
        let up = if state.drawn > 0 { format!("\x1b[{}A\x1b[J", state.drawn) } else { String::new() };
        state.drawn = 0;
        self.terminal.line(&format!("{up}  {} {text}", self.paint(Style::Good, "→")));
    }

    /// Something to read.
    pub fn quote(&self, text: &str) {
        if !self.terminal.json {
            for line in text.lines() {
                self.terminal.line(&format!("  {line}"));
            }
        }
    }

    /// How everything does now.
    pub fn show(&self, status: &Status) {
        let Some(sync) = status.syncs.first() else { return };
        let mut state = self.state.borrow_mut();
        let latency = sync.latency_ms;
        let pending: u64 = sync.members.iter().map(|member| member.pending + member.owed + member.in_flight).sum();
        let mut facts = vec![
            ("stage", format!("{}{}", sync.stage, if sync.level { ", level" } else { "" })),
            ("records", sync.links.to_string()),
            ("written", format!("{} ({:.1}/s)", sync.written, sync.rate)),
            ("latency", format!("p50 {:.1} ms, p99 {:.1} ms", latency.p50, latency.p99)),
            ("pending", pending.to_string()),
            ("in review", sync.review.to_string()),
            ("verified", state.verified.clone()),
        ];
        for allowance in &status.allowances {
            let calls = &allowance.calls;
            facts.push(("calls", format!("{} used of {} a day, {} left", calls.own, calls.allowed, allowance.left)));
        }
        if self.terminal.json {
            return;
        }
        if !self.terminal.is_live() {
            let line: Vec<String> = facts.iter().map(|(name, fact)| format!("{name} {fact}")).collect();
            self.terminal.line(&line.join(" · "));
            return;
        }
        let up = if state.drawn > 0 { format!("\x1b[{}A", state.drawn) } else { String::new() };
        let lines: Vec<String> = facts
            .iter()
            .map(|(name, fact)| format!("\x1b[2K  {} {fact}", self.paint(Style::Dim, &format!("{name:<10}"))))
            .collect();
        self.terminal.line(&format!("{up}{}", lines.join("\n")));
        state.drawn = lines.len();
    }

    /// What a comparison of both sides found.
    pub fn verified(&self, report: &Verified) {
        if let Some(sync) = report.syncs.first() {
            self.state.borrow_mut().verified = match sync.is_equal() {
                true => format!("{} of {} records equal, {} under way", sync.equal, sync.links, sync.under_way),
                false => format!("{} records differ", sync.differing),
            };
        }
    }

    /// The end, when it was asked for twice.
    pub fn cut_short(&self) {
        self.step("Ended at once, without a last comparison. Everything that was started is stopped, and its folder removed.");
    }

    /// The end.
    pub fn end(&self, report: &Verified, is_equal: bool) {
        if self.terminal.json {
            self.terminal.document(report);
            return;
        }
        let (equal, review) = report.syncs.first().map_or((0, 0), |sync| (sync.equal, sync.in_review));
        let text = match is_equal {
            true => self.paint(Style::Good, &format!("Both sides are equal: {equal} records compared, {review} in review.")),
            false => self.paint(Style::Bad, "Both sides differ: see the list with --json."),
        };
        self.terminal.line(&format!("\n{text} Everything that was started is stopped, and its folder removed."));
    }
}
