//! What tells two states of the model apart.

use super::{
    kind::NAMES,
    request::{Answer, Deeds, Request, Running, Seen, Stage},
    store::{Kept, Store},
};
use crate::{
    changes::{Changes, Effect},
    protocol::{Mark, Op, Until},
    record::{Record, Version},
};

/// A digest of a state.
///
/// Commit ids are numbered in the order in which they come up, since all that counts of them is
/// which are the same: states that differ only in what was drawn are one.
#[derive(Default)]
pub(in crate::protocol) struct Sketch {
    digest: [u64; 2],
    ids: Vec<u64>,
    /// The ids of the records that were described already: an id is drawn for one record only.
    described: Vec<u64>,
}

impl Sketch {
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
        assert_eq!(found, record.len(), "a record holds a strange entry");
        if let Some(facts) = record.facts() {
            self.number(u64::try_from(facts.id).unwrap());
            self.number(facts.epoch);
            self.number(facts.ttl.map_or(0, |ttl| ttl.0.unsigned_abs()));
            let auth = facts.auth.as_ref();
            self.maybe_text(auth.map(|auth| &auth.principal[..1]));
            self.maybe_text(auth.and_then(|auth| auth.device.as_deref()));
        }
    }

    pub(in crate::protocol) fn changes(&mut self, changes: &Changes) {
        self.count(changes.effects.len());
        for (name, effect) in &changes.effects {
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
    }

    pub(in crate::protocol) fn mark(&mut self, mark: &Mark) {
        self.text(&mark.target);
        self.number(mark.flag as u64);
    }

    pub(in crate::protocol) fn op(&mut self, op: &Op) {
        match op {
            Op::Read { at } => self.place(0, at),
            Op::Cas {
                at,
                expect,
                new,
                until,
            } => {
                self.place(1, at);
                self.version(expect);
                self.record(Some(new));
                self.flag(*until == Until::Same);
            }
            Op::Rotate {
                at,
                expect,
                new,
                mark,
                ..
            } => {
                self.place(2, at);
                self.version(expect);
                self.record(Some(new));
                self.mark(mark);
            }
            Op::Insert { at, new, .. } => {
                self.place(3, at);
                self.record(Some(new));
            }
            Op::End { at } => self.place(4, at),
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
            match &place.kept {
                Kept::Record(record) => self.record(Some(record)),
                Kept::Mark(mark) => self.mark(mark),
                Kept::Ended => self.number(u64::MAX),
            }
        }
    }

    pub(super) fn request(&mut self, request: &Request) {
        self.number(request.kind as u64);
        self.text(&request.at);
        self.count(request.session);
        self.number(match request.seen {
            Seen::Nothing => 0,
            Seen::Mark => 1,
            Seen::Record(epoch) => 2 + epoch,
        });
        self.deeds(&request.deeds);
        match &request.stage {
            Stage::Waiting => self.number(0),
            Stage::Running(running, op) => {
                self.running(running);
                self.op(op);
            }
            Stage::Done(answer) => self.answer(answer),
        }
    }

    fn deeds(&mut self, deeds: &Deeds) {
        self.number(u64::from(deeds.wrote) << 8 | u64::from(deeds.logins_before));
        self.number(u64::from(deeds.renewed) << 2 | u64::from(deeds.ended) << 1);
        self.flag(deeds.lost);
        self.flag(deeds.last.is_some());
        if let Some((session, epoch)) = deeds.last {
            self.count(session);
            self.number(epoch);
        }
    }

    fn running(&mut self, running: &Running) {
        match running {
            Running::Check => self.number(1),
            Running::Commit(machine) => {
                self.number(2);
                machine.sketch(self);
            }
            Running::Rotate(machine) => {
                self.number(3);
                machine.sketch(self);
            }
            // Where it is, its step says.
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
