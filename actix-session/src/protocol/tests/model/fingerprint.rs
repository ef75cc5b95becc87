//! What tells two states of the model apart.

use super::{
    kind::NAMES,
    request::{Answer, History, Request, Running, Seen, Stage},
    store::{Content, Left, Store},
};
use crate::{
    changes::{Changes, Effect},
    protocol::{Redirect, Step, Until},
    record::{Record, Version},
};

/// A digest of a state.
///
/// Commit ids are numbered in the order in which they come up, since it only matters which of them
/// are equal: states that differ only in what was drawn are one state.
#[derive(Default)]
pub(in crate::protocol) struct Fingerprint {
    digest: [u64; 2],
    ids: Vec<u64>,
    /// The ids of the records that were described already: an id is drawn for one record only.
    described: Vec<u64>,
}

impl Fingerprint {
    pub(super) fn finish(self) -> [u64; 2] {
        self.digest
    }

    pub(in crate::protocol) fn number(&mut self, number: u64) {
        let [one, two] = self.digest;
        let one = (one ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let two = (two.rotate_left(23) ^ number).wrapping_mul(0xc2b2_ae3d_27d4_eb4f);
        self.digest = [one ^ (one >> 32), two ^ (two >> 29)];
    }

    pub(in crate::protocol) fn flag(&mut self, flag: bool) {
        self.number(u64::from(flag));
    }

    pub(super) fn count(&mut self, count: usize) {
        self.number(u64::try_from(count).unwrap());
    }

    /// A short text, as a number: names, and values that are numbers.
    pub(in crate::protocol) fn text(&mut self, text: &str) {
        assert!(text.len() < 8, "{text} is too long");
        let bytes = text.bytes().map(u64::from);
        self.number(bytes.fold(1, |number, byte| number << 8 | byte));
    }

    fn maybe_text(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.text(text),
            None => self.number(0),
        }
    }

    pub(in crate::protocol) fn id(&mut self, id: u64) {
        let known = self.ids.iter().position(|known| *known == id);
        let index = known.unwrap_or_else(|| {
            self.ids.push(id);
            self.ids.len() - 1
        });
        self.count(index);
    }

    pub(in crate::protocol) fn record(&mut self, record: Option<&Record>) {
        let Some(record) = record else {
            return self.number(u64::MAX);
        };
        self.id(record.commit_id());
        if self.described.contains(&record.commit_id()) {
            return;
        }
        self.described.push(record.commit_id());
        let mut found = 0;
        for name in NAMES {
            let value = record.state().get(name);
            found += usize::from(value.is_some());
            self.maybe_text(value.as_deref());
        }
        assert_eq!(found, record.len(), "a record holds an unknown entry");
        if let Some(metadata) = record.metadata() {
            for half in metadata.id.to_be_bytes().chunks(8) {
                self.number(
                    half.iter()
                        .fold(0, |half, byte| half << 8 | u64::from(*byte)),
                );
            }
            self.number(metadata.epoch);
            self.number(metadata.ttl.map_or(0, |ttl| ttl.0.unsigned_abs()));
            let auth = metadata.auth.as_deref();
            self.maybe_text(auth.map(|auth| &auth.principal[..1]));
            self.maybe_text(auth.and_then(|auth| auth.device.as_deref()));
            self.maybe_text(auth.and_then(|auth| auth.demand()));
        }
    }

    pub(in crate::protocol) fn changes(&mut self, changes: &Changes) {
        self.count(changes.effects.len());
        for (name, effect) in changes.effects.iter() {
            self.text(name);
            match effect {
                Effect::Set(json) => self.text(json),
                Effect::Removed => self.number(u64::MAX),
                Effect::Modify(closures) => self.count(closures.len()),
            }
        }
        self.number(changes.cleared.unwrap_or_default());
        self.flag(changes.ttl.is_some());
        self.flag(changes.login.is_some());
        self.flag(changes.lowered.is_some());
    }

    pub(in crate::protocol) fn redirect(&mut self, redirect: &Redirect) {
        self.text(&redirect.target);
        self.number(redirect.flag as u64);
    }

    pub(in crate::protocol) fn step(&mut self, step: &Step) {
        match step {
            Step::Read { at } => self.place(0, at),
            Step::Cas {
                at,
                expect,
                new,
                until,
                ..
            } => {
                self.place(1, at);
                self.version(expect);
                self.record(Some(new));
                self.number(match until {
                    Until::Same => 0,
                    Until::At(_) => 1,
                    Until::AtMost(_) => 2,
                });
            }
            Step::Rotate {
                at,
                expect,
                new,
                redirect,
                ..
            } => {
                self.place(2, at);
                self.version(expect);
                self.record(Some(new));
                self.redirect(redirect);
            }
            Step::Insert { at, new, .. } => {
                self.place(3, at);
                self.record(Some(new));
            }
            Step::End { at, .. } => self.place(4, at),
            Step::EndIf { at, expect, .. } => {
                self.place(5, at);
                self.version(expect);
            }
        }
    }

    fn place(&mut self, number: u64, at: &str) {
        self.number(number);
        self.text(at);
    }

    fn version(&mut self, version: &Version) {
        let Version::Prefix(prefix) = version else {
            panic!("every record of the model has an id");
        };
        let digits = prefix.rsplit('"').next().unwrap().trim_end_matches('.');
        self.id(u64::from_str_radix(digits, 16).unwrap());
    }

    pub(super) fn store(&mut self, store: &Store) {
        self.count(store.places().count());
        for (name, place) in store.places() {
            self.text(name);
            self.count(place.session);
            match &place.content {
                Content::Record(record) => self.record(Some(record)),
                Content::Redirect(redirect) => self.redirect(redirect),
                Content::Ended(left) => {
                    self.number(u64::MAX);
                    self.flag(*left == Left::Tombstone);
                }
            }
        }
    }

    pub(super) fn request(&mut self, request: &Request) {
        self.number(request.kind as u64);
        self.text(&request.at);
        self.count(request.session);
        self.number(match request.seen {
            Seen::Nothing => 0,
            Seen::Redirect => 1,
            Seen::Record(epoch) => 2 + epoch,
        });
        self.history(&request.history);
        match &request.stage {
            Stage::Waiting => self.number(0),
            Stage::Running(running, step) => {
                self.running(running);
                self.step(step);
            }
            Stage::Done(answer) => self.answer(answer),
        }
    }

    fn history(&mut self, history: &History) {
        self.number(u64::from(history.wrote) << 8 | u64::from(history.logins_before));
        self.number(u64::from(history.renewed) << 2 | u64::from(history.ended) << 1);
        self.flag(history.lost);
        self.number(u64::from(history.overwritten));
        self.flag(history.last.is_some());
        if let Some((session, epoch)) = history.last {
            self.count(session);
            self.number(epoch);
        }
    }

    fn running(&mut self, running: &Running) {
        match running {
            Running::Check => self.number(1),
            Running::Commit(machine) => {
                self.number(2);
                machine.fingerprint(self);
            }
            Running::Clearing(machine, _) => {
                self.number(6);
                machine.fingerprint(self);
            }
            Running::Rotate(machine) => {
                self.number(3);
                machine.fingerprint(self);
            }
            // Its step says where it is.
            Running::End(..) => self.number(4),
            Running::Saving(_) => self.number(5),
        }
    }

    fn answer(&mut self, answer: &Answer) {
        self.number(match answer {
            Answer::Nothing => 10,
            Answer::Current => 11,
            Answer::Stale => 12,
            Answer::Saved => 13,
            Answer::Forwarded => 14,
            Answer::Gone => 15,
            Answer::Renewed(_) => 16,
            Answer::Ended => 17,
            Answer::OutcomeUnknown => 18,
            Answer::Failed => 19,
        });
    }
}
