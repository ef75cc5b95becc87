//! What is compared with what, and what of it was asked for.

use actix_session_benches::case::{Case, Kind, Peer, Route, Seal, Store};

/// One peer with one of its stores.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Row {
    /// What the row is compared with has the same name.
    pub(crate) group: &'static str,
    /// Whose code runs.
    pub(crate) peer: Peer,
    /// Where its sessions are.
    pub(crate) store: Store,
}

impl Row {
    /// The request that is measured for this row.
    #[must_use]
    pub(crate) fn case(&self, route: Route, cookie: bool) -> Case {
        let (peer, store) = (self.peer, self.store);
        Case {
            peer,
            store,
            route,
            cookie,
        }
    }
}

const fn row(group: &'static str, peer: Peer, kind: Kind, seal: Seal) -> Row {
    let store = Store {
        kind,
        seal: Some(seal),
    };
    Row { group, peer, store }
}

/// Everything that is compared, at equal sealing.
pub(crate) const ROWS: [Row; 21] = {
    use Kind::{Cookie, Five, Memory, Postgres, Redis, Sqlite};
    use Peer::{Ours, OursLazy, Tower, Upstream};
    use Seal::{Private, Signed};
    [
        row("cookie, private", Ours, Cookie, Private),
        row("cookie, private", OursLazy, Cookie, Private),
        row("cookie, private", Upstream, Cookie, Private),
        row("cookie, signed", Ours, Cookie, Signed),
        row("cookie, signed", Upstream, Cookie, Signed),
        row("memory", Ours, Memory, Private),
        row("memory", OursLazy, Memory, Private),
        row("memory", Upstream, Memory, Private),
        row("memory", Tower, Memory, Private),
        row("five methods", Ours, Five, Private),
        row("five methods", Upstream, Five, Private),
        row("Redis", Ours, Redis, Private),
        row("Redis", OursLazy, Redis, Private),
        row("Redis", Upstream, Redis, Private),
        row("Redis", Tower, Redis, Private),
        row("Redis, signed", Ours, Redis, Signed),
        row("Redis, signed", Upstream, Redis, Signed),
        row("SQLite", Ours, Sqlite, Private),
        row("SQLite", Tower, Sqlite, Private),
        row("PostgreSQL", Ours, Postgres, Private),
        row("PostgreSQL", Tower, Postgres, Private),
    ]
};

/// What was asked for, by words such as `ours`, `memory` and `write`. Of each sort, no word is all
/// of them.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    peers: Vec<Peer>,
    stores: Vec<Store>,
    routes: Vec<Route>,
    cookies: Vec<bool>,
}

impl Selection {
    /// Takes a word, or returns `false` if it selects nothing.
    pub(crate) fn take(&mut self, word: &str) -> bool {
        if let Ok(peer) = word.parse() {
            self.peers.push(peer);
        } else if let Ok(route) = word.parse() {
            self.routes.push(route);
        } else if let Ok(store) = word.parse() {
            self.stores.push(store);
        } else if let "+cookie" | "-cookie" = word {
            self.cookies.push(word == "+cookie");
        } else {
            return false;
        }
        true
    }

    /// Whether everything was asked for.
    #[must_use]
    pub(crate) fn is_all(&self) -> bool {
        let words = self.peers.len() + self.stores.len() + self.routes.len();
        words + self.cookies.len() == 0
    }

    /// The rows that were asked for.
    #[must_use]
    pub(crate) fn rows(&self) -> Vec<Row> {
        let chosen = |row: &Row| {
            let store = |store: &Store| {
                store.kind == row.store.kind
                    && store.seal.is_none_or(|seal| row.store.seal == Some(seal))
            };
            (self.peers.is_empty() || self.peers.contains(&row.peer))
                && (self.stores.is_empty() || self.stores.iter().any(store))
        };
        ROWS.into_iter().filter(chosen).collect()
    }

    /// The routes that were asked for, without and with a cookie.
    #[must_use]
    pub(crate) fn columns(&self) -> Vec<(Route, bool)> {
        let routes = if self.routes.is_empty() {
            Route::ALL
        } else {
            &self.routes
        };
        let cookies = if self.cookies.is_empty() {
            &[false, true][..]
        } else {
            &self.cookies
        };
        let column = |cookie: &bool| {
            routes
                .iter()
                .map(move |route| (*route, *cookie))
                .collect::<Vec<_>>()
        };
        cookies.iter().flat_map(column).collect()
    }
}

/// The title of a column.
#[must_use]
pub(crate) fn title((route, cookie): (Route, bool)) -> String {
    format!("{}{}", route.path(), if cookie { " +cookie" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(words: &str) -> Selection {
        let mut selection = Selection::default();
        assert!(
            words.split_whitespace().all(|word| selection.take(word)),
            "{words}"
        );
        selection
    }

    #[test]
    fn words_narrow_what_is_measured() {
        let selected = selection("ours redis write read +cookie");
        let rows = selected.rows();
        let groups: Vec<_> = rows.iter().map(|row| row.group).collect();
        assert_eq!(groups, ["Redis", "Redis, signed"]);
        let columns = [(Route::Write, true), (Route::Read, true)];
        assert_eq!(selected.columns(), columns);
        assert_eq!(selection("redis-signed upstream").rows().len(), 1);
    }

    #[test]
    fn no_word_is_everything() {
        let all = selection("");
        assert!(all.is_all() && all.rows().len() > 15);
        assert_eq!(all.columns().len(), 8);
        assert!(!Selection::default().take("redsi"));
    }
}
