//! What is measured: a peer, its store, a page, and whether the request has a session.

use std::fmt;
use std::str::FromStr;

use anyhow::Context as _;

/// One row and column of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    /// Whose code runs.
    pub peer: Peer,
    /// Where its sessions are.
    pub store: Store,
    /// What is asked for.
    pub route: Route,
    /// Whether the requests carry the cookie of a session.
    pub cookie: bool,
}

impl Case {
    /// Reads `<peer> <store> <route> <cookie|none>`.
    ///
    /// # Errors
    /// A word is missing or unknown.
    pub fn read(words: &mut impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let mut word = |what| words.next().with_context(|| format!("{what} is missing"));
        Ok(Self {
            peer: word("the peer")?.parse()?,
            store: word("the store")?.parse()?,
            route: word("the route")?.parse()?,
            cookie: match &*word("`cookie` or `none`")? {
                "cookie" => true,
                "none" => false,
                other => anyhow::bail!("`{other}` must be `cookie` or `none`"),
            },
        })
    }

    /// Reads `<peer> <store>`.
    ///
    /// # Errors
    /// A word is missing or unknown.
    pub fn read_peer(words: &mut impl Iterator<Item = String>) -> anyhow::Result<Self> {
        Self::read(&mut words.take(2).chain(["read", "cookie"].map(str::to_owned)))
    }

    /// The same request of the framework without sessions. All stores but the cookie have one
    /// floor.
    #[must_use]
    pub fn bare(&self) -> Self {
        let kind = match self.store.kind {
            Kind::Cookie => Kind::Cookie,
            _ => Kind::Memory,
        };
        Self {
            peer: self.peer.framework(),
            store: Store { kind, seal: None },
            ..*self
        }
    }

    /// Whether each response brings the cookie for the next request: a renewal ends the old one.
    pub(crate) fn follows(&self) -> bool {
        self.cookie && self.route == Route::Login && self.store.kind != Kind::Cookie
    }

    /// The words that [`read`](Self::read) reads.
    #[must_use]
    pub fn words(&self) -> [String; 4] {
        [
            self.peer.to_string(),
            self.store.to_string(),
            self.route.to_string(),
            if self.cookie { "cookie" } else { "none" }.to_owned(),
        ]
    }
}

/// An enumeration that is read and written as words.
macro_rules! words {
    ($(#[$about:meta])* $name:ident: $what:literal { $($(#[$doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[$doc])* $variant,)*
        }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),*];
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(match self { $(Self::$variant => $word),* })
            }
        }

        impl FromStr for $name {
            type Err = anyhow::Error;

            fn from_str(word: &str) -> anyhow::Result<Self> {
                let found = Self::ALL.iter().find(|one| one.to_string() == word);
                found.copied().with_context(|| {
                    format!("`{word}` must be {} ({})", $what, [$($word),*].join(", "))
                })
            }
        }
    };
}

words! {
    /// Whose code runs.
    Peer: "a peer" {
        /// The same pages over actix-web, without sessions.
        Bare = "bare",
        /// The same pages over axum, without sessions.
        BareAxum = "bare-axum",
        /// This library.
        Ours = "ours",
        /// This library with `lazy()`.
        OursLazy = "ours-lazy",
        /// actix-session 0.11.0, as published.
        Upstream = "upstream",
        /// tower-sessions.
        Tower = "tower",
    }
}

impl Peer {
    /// Whether there are no sessions.
    #[must_use]
    pub fn is_bare(self) -> bool {
        matches!(self, Self::Bare | Self::BareAxum)
    }

    /// The framework under it.
    #[must_use]
    pub fn framework(self) -> Self {
        match self {
            Self::BareAxum | Self::Tower => Self::BareAxum,
            Self::Bare | Self::Ours | Self::OursLazy | Self::Upstream => Self::Bare,
        }
    }
}

words! {
    /// What is asked for.
    Route: "a route" {
        /// A page that takes no session.
        Static = "static",
        /// Gets a string and a number.
        Read = "read",
        /// Gets a number and inserts the next one.
        Write = "write",
        /// Inserts a user's number and renews the session.
        Login = "login",
    }
}

impl Route {
    /// Its address.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::Static => "/static",
            Self::Read => "/read",
            Self::Write => "/write",
            Self::Login => "/login",
        }
    }
}

words! {
    /// A kind of store.
    Kind: "a store" {
        /// The state is in the cookie.
        Cookie = "cookie",
        /// The library's own store in memory.
        Memory = "memory",
        /// A map behind the five published methods.
        Five = "five",
        /// Redis.
        Redis = "redis",
        /// A file of SQLite.
        Sqlite = "sqlite",
        /// PostgreSQL.
        Postgres = "postgres",
    }
}

words! {
    /// What is done to the cookie's value.
    Seal: "a seal" {
        /// It is encrypted.
        Private = "private",
        /// It is signed.
        Signed = "signed",
    }
}

/// A store, and the seal of its cookie: `memory`, `redis-signed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Store {
    /// What keeps the state.
    pub kind: Kind,
    /// The peer's default if it is not named.
    pub seal: Option<Seal>,
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&match self.seal {
            None => self.kind.to_string(),
            Some(seal) => format!("{}-{seal}", self.kind),
        })
    }
}

impl FromStr for Store {
    type Err = anyhow::Error;

    fn from_str(word: &str) -> anyhow::Result<Self> {
        let (kind, seal) = match word.split_once('-') {
            None => (word, None),
            Some((kind, seal)) => (kind, Some(seal.parse()?)),
        };
        let kind = kind.parse()?;
        Ok(Self { kind, seal })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> anyhow::Result<Case> {
        Case::read(&mut line.split(' ').map(str::to_owned))
    }

    #[test]
    fn words_are_read_and_written() {
        for line in [
            "ours memory read cookie",
            "upstream redis-signed login none",
        ] {
            assert_eq!(read(line).unwrap().words().join(" "), line);
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (line, named) in [
            ("our memory read cookie", "`our` must be a peer (bare,"),
            ("ours memroy read cookie", "`memroy`"),
            ("ours memory-secret read cookie", "`secret`"),
            ("ours memory read", "`cookie` or `none` is missing"),
            ("ours memory read yes", "`yes`"),
        ] {
            let error = read(line).unwrap_err().to_string();
            assert!(error.contains(named), "{line}: {error}");
        }
    }
}
