//! Which sessions are whose: the index of each principal.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{RedisSessionStore, ends::RedisLine, naming::index_name};
use crate::{
    clock::Millis,
    contract::Terms,
    live::{hub::Hub, line},
    protocol::{Backend as _, Name, NotBefore, Owner, OwnerBefore, RevokeMachine, Step},
    storage::{
        index::{Index, Later, Listed, Page, SessionIndex, StoreIndex},
        upkeep::Upkeep,
    },
};

/// How many records are looked at or ended at once.
const AT_ONCE: usize = 16;

/// What an entry begins with that was written before its record. Whoever has not found the record takes
/// such an entry away, and not the one that the record's writer puts in its place.
const RESERVED: &str = "+";

/// A session in its owner's index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    index: String,
    id: String,
    login: String,
    text: String,
}

/// What a step changes in indexes.
#[derive(Debug, Clone, Default)]
pub(super) struct Indexing {
    enters: Option<Entry>,
    leaves: Option<Entry>,
}

impl Entry {
    fn new(name: &dyn Fn(&str) -> String, owner: &Owner, at: &str) -> Self {
        let index = index_name(name, &owner.principal);
        Self::under(index, owner.id, owner.login, at)
    }

    /// One that was read, and whose record is there.
    pub(super) fn known(index: &str, known: &Known) -> Self {
        Self::under(index.to_owned(), known.id, known.login, &known.at)
    }

    /// The same for a record that may not be there yet.
    pub(super) fn reserved(&self) -> Self {
        Self {
            text: [RESERVED, &self.text].concat(),
            ..self.clone()
        }
    }

    fn under(index: String, id: u128, login: Millis, at: &str) -> Self {
        Self {
            index,
            id: Known::id_text(id),
            login: login.0.to_string(),
            text: Known::text(login, at),
        }
    }

    pub(super) fn is_reserved(&self) -> bool {
        self.text.starts_with(RESERVED)
    }

    /// The name of the index.
    pub(super) fn index(&self) -> &str {
        &self.index
    }

    /// The id, the time of the login, and the entry.
    pub(super) fn fields(&self) -> [&str; 3] {
        [&self.id, &self.login, &self.text]
    }

    /// Whether both are one field of one index.
    fn replaces(&self, other: &Self) -> bool {
        self.index == other.index && self.id == other.id
    }
}

impl Indexing {
    /// What a step changes. Nothing, if the record stays whose it is and where it is.
    pub(super) fn of(step: &Step, name: &dyn Fn(&str) -> String) -> Self {
        let (new, at, before) = match step {
            Step::Insert { at, new, .. } => (new, at, None),
            Step::Rotate {
                at,
                new,
                redirect,
                owner_before,
                ..
            } => (new, &redirect.target, other(owner_before, at)),
            Step::Cas {
                at,
                new,
                owner_before: owner_before @ OwnerBefore::Other(_),
                ..
            } => (new, at, other(owner_before, at)),
            Step::End { at, owner } | Step::EndIf { at, owner, .. } => {
                let leaves = owner.as_deref().map(|owner| Entry::new(name, owner, at));
                return Self {
                    leaves,
                    ..Self::default()
                };
            }
            _ => return Self::default(),
        };
        let enters = Owner::of(new).map(|owner| Entry::new(name, &owner, at));
        let leaves = before.map(|(owner, at)| Entry::new(name, owner, at));
        let is_replaced = |left: &Entry| enters.as_ref().is_some_and(|new| new.replaces(left));
        Self {
            leaves: leaves.filter(|left| !is_replaced(left)),
            enters,
        }
    }

    pub(super) const fn enters(&self) -> Option<&Entry> {
        self.enters.as_ref()
    }

    pub(super) const fn leaves(&self) -> Option<&Entry> {
        self.leaves.as_ref()
    }
}

/// Whose the record was, and where it lay.
fn other<'a>(owner: &'a OwnerBefore, at: &'a Name) -> Option<(&'a Owner, &'a Name)> {
    match owner {
        OwnerBefore::Other(Some(owner)) => Some((owner, at)),
        OwnerBefore::Other(None) | OwnerBefore::Same => None,
    }
}

/// An entry as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) id: u128,
    pub(super) login: Millis,
    pub(super) at: Name,
    /// Its record may not have been there yet.
    pub(super) reserved: bool,
}

impl Known {
    /// `None` for whatever else lies in an index.
    pub(super) fn read(id: Option<String>, text: Option<String>) -> Option<Self> {
        let (id, text) = (id?, text?);
        let certain = text.strip_prefix(RESERVED);
        let (login, at) = certain.unwrap_or(&text).split_once('|')?;
        Some(Self {
            id: u128::from_str_radix(&id, 16)
                .ok()
                .filter(|_| id.len() == 32)?,
            login: Millis(login.parse().ok()?),
            at: at.into(),
            reserved: certain.is_some(),
        })
    }

    /// The field and what it says.
    pub(super) fn fields(&self) -> [String; 2] {
        let text = Self::text(self.login, &self.at);
        let text = match self.reserved {
            true => [RESERVED, &text].concat(),
            false => text,
        };
        [Self::id_text(self.id), text]
    }

    pub(super) fn id_text(id: u128) -> String {
        format!("{id:032x}")
    }

    /// `login|name`: the name comes last because it may contain any character.
    fn text(login: Millis, at: &str) -> String {
        format!("{}|{at}", login.0)
    }
}

impl RedisSessionStore {
    fn index_of(&self, principal: &str) -> String {
        index_name(&*self.keygen, principal)
    }

    /// Ends a session that a mark has ended, and returns its entry if it was there.
    async fn end_one(
        &self,
        principal: &str,
        mark: &NotBefore,
        known: Known,
        terms: &Terms,
    ) -> anyhow::Result<Option<Known>> {
        let machine = RevokeMachine::new(known.at.clone(), principal, known.id);
        // Not by the entry's time: in a cluster, that of an earlier login may be left.
        let mut machine = machine.no_later_than(Some(mark.at));
        let ended = self.drive(&mut machine, terms).await;
        Ok(ended.map_err(anyhow::Error::new)?.then_some(known))
    }
}

impl Index for RedisSessionStore {
    async fn sessions(
        &self,
        principal: &str,
        page: Page,
        terms: &Terms,
    ) -> anyhow::Result<Vec<Listed>> {
        let mut known = self.executor.entries(&self.index_of(principal)).await?;
        known.retain(|it| page.includes((it.login, it.id)));
        known.sort_unstable_by_key(|it| std::cmp::Reverse((it.login, it.id)));
        known.truncate(page.limit);
        let looks = known.into_iter().map(async |it| {
            Ok(Listed {
                found: self.executor.look_again(&it.at, terms).await?,
                id: it.id,
                login: it.login,
                at: it.at,
                reserved: it.reserved,
            })
        });
        stream::iter(looks).buffered(AT_ONCE).try_collect().await
    }

    async fn later_than(
        &self,
        principal: &str,
        at: Millis,
        _: &Terms,
    ) -> anyhow::Result<Vec<Later>> {
        let known = self.executor.entries(&self.index_of(principal)).await?;
        let later = known.into_iter().filter(|it| it.login > at);
        let later = later.map(|it| Later {
            id: it.id,
            login: it.login,
            at: it.at,
        });
        Ok(later.collect())
    }

    async fn entry_of(&self, principal: &str, id: u128) -> anyhow::Result<Option<Name>> {
        let known = self.executor.entry(&self.index_of(principal), id).await?;
        Ok(known.map(|known| known.at))
    }

    async fn heal(&self, principal: &str, listed: &Listed, terms: &Terms) -> anyhow::Result<()> {
        let dead = Known {
            id: listed.id,
            login: listed.login,
            at: listed.at.clone(),
            reserved: listed.reserved,
        };
        let index = self.index_of(principal);
        self.executor.forget_unfound(&index, &[dead], terms).await
    }

    async fn mark(
        &self,
        principal: &str,
        mark: &NotBefore,
        by: Option<(u128, Millis)>,
        terms: &Terms,
    ) -> anyhow::Result<bool> {
        let index = self.index_of(principal);
        let marked = self.executor.mark(&index, mark, by, terms).await?;
        if marked {
            self.hub.marked(principal, mark);
        }
        Ok(marked)
    }

    async fn end_marked(
        &self,
        principal: &str,
        mark: &NotBefore,
        terms: &Terms,
    ) -> anyhow::Result<u64> {
        let index = self.index_of(principal);
        let mut known = self.executor.entries(&index).await?;
        known.retain(|it| mark.ends(it.id, it.login));
        let ends = known
            .into_iter()
            .map(|it| self.end_one(principal, mark, it, terms));
        let ends = stream::iter(ends).buffer_unordered(AT_ONCE);
        let ended: Vec<Known> = ends.try_filter_map(async |it| Ok(it)).try_collect().await?;
        self.executor.forget(&index, &ended).await;
        Ok(ended.len() as u64)
    }

    async fn listen(&self, hub: &Hub) {
        match RedisLine::new(&self.executor) {
            Some(line) => {
                hub.hears_renewals();
                line::listen(&line, hub).await;
            }
            None => std::future::pending().await,
        }
    }
}

impl Upkeep for RedisSessionStore {
    /// What has expired left its entry behind.
    async fn forget(&self, principal: &str, mark: &NotBefore, _: &Terms) -> anyhow::Result<()> {
        let index = self.index_of(principal);
        let mut dead = self.executor.entries(&index).await?;
        dead.retain(|it| mark.ends(it.id, it.login));
        self.executor.forget(&index, &dead).await;
        Ok(())
    }
}

impl SessionIndex for RedisSessionStore {
    fn index(&self) -> StoreIndex {
        StoreIndex::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Record;

    #[test]
    fn an_entry_is_read_as_it_was_written() {
        for name in ["abc", "shop:a|b", ""] {
            for reserved in [false, true] {
                let known = Known {
                    id: 7,
                    login: Millis(-5),
                    at: name.into(),
                    reserved,
                };
                let entry = Entry::known("i", &known);
                let entry = if reserved { entry.reserved() } else { entry };
                let [id, text] = known.fields();
                assert_eq!(entry.fields(), [&id, "-5", &text]);
                assert_eq!(Known::read(Some(id), Some(text)), Some(known));
            }
        }
        for (id, text) in [("mark", "5|"), ("7", "5|a"), (&"0".repeat(32), "+5")] {
            let read = Known::read(Some(id.to_owned()), Some(text.to_owned()));
            assert_eq!(read, None, "{id} {text}");
        }
    }

    #[test]
    fn an_index_changes_with_whose_and_where_a_record_is() {
        let record = |auth: &str| {
            let text = format!("{{\"v\":1,\"f\":\"1.7.5...0.{auth}\",\"state\":{{}}}}");
            Record::decode(text).unwrap()
        };
        let (nobodys, users) = (record(""), record(".9.YQ"));
        let cas = |old: &Record, new: &Record| Step::Cas {
            at: "a".into(),
            expect: old.version(),
            new: new.clone(),
            until: crate::protocol::Until::Same,
            epoch: None,
            owner_before: OwnerBefore::of(old, new),
        };
        let changed = |old: &Record, new: &Record| {
            let indexing = Indexing::of(&cas(old, new), &str::to_owned);
            (indexing.enters().is_some(), indexing.leaves().is_some())
        };
        assert_eq!(changed(&nobodys, &nobodys), (false, false));
        assert_eq!(changed(&users, &users), (false, false));
        assert_eq!(changed(&nobodys, &users), (true, false));
        assert_eq!(changed(&users, &nobodys), (false, true));
        // Another login on the same session takes the entry's place.
        assert_eq!(changed(&record(".8.YQ"), &users), (true, false));
        assert_eq!(changed(&record(".9.Yg"), &users), (true, true));
        let insert = |new: &Record| Step::Insert {
            at: "a".into(),
            new: new.clone(),
            until: Millis(1),
        };
        for (new, enters) in [(&nobodys, false), (&users, true)] {
            let indexing = Indexing::of(&insert(new), &str::to_owned);
            assert_eq!(indexing.enters().is_some(), enters);
        }
    }
}
