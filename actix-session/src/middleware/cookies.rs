//! The cookies under which a session may come, and what opens them.

use actix_web::http::header::HeaderMap;

use crate::{
    config::Configuration,
    cookie::{read, write},
    crypto::Sealer,
    event::{self, Refusal},
    storage::SessionKey,
};

/// How many values that verify are kept: a browser has one or two, and a purge ends them all.
const MOST: usize = 16;

/// The cookie that is written, and those that are read as well.
pub(crate) struct Cookies {
    pub(crate) own: Named,
    also: Vec<Named>,
}

pub(crate) struct Named {
    /// As it stands in headers.
    pub(crate) wire_name: String,
    pub(crate) sealer: Sealer,
}

/// A value that verified.
pub(crate) struct Candidate {
    pub(crate) key: SessionKey,
    /// Its MAC does not say for which cookie it was made.
    pub(crate) unbound: bool,
    /// It should be sealed anew: an older key, name or MAC opened it.
    pub(crate) stale: bool,
}

/// What the cookies of a request hold.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) candidates: Vec<Candidate>,
    /// A cookie of our name came, whatever was in it.
    pub(crate) came: bool,
    /// Cookies of these other names came.
    pub(crate) others: Vec<String>,
}

impl Cookies {
    pub(crate) fn new(configuration: &Configuration) -> Self {
        let named = |name: &str| Named {
            wire_name: write::wire_name(name),
            sealer: Sealer::new(
                &configuration.key,
                &configuration.previous_keys,
                configuration.content_security,
                name,
                configuration.format,
            ),
        };
        let own = &configuration.cookie.name;
        let also = configuration.read_also.iter().filter(|name| *name != own);
        Self {
            own: named(own),
            also: also.map(|name| named(name)).collect(),
        }
    }

    pub(crate) fn find(&self, headers: &HeaderMap, writes_old_mac: bool) -> Found {
        let mut found = Found::default();
        self.own.find(headers, &mut found, |unsealed| {
            unsealed.old_key || (unsealed.unbound && !writes_old_mac)
        });
        found.came = read::is_sent(headers, &self.own.wire_name);
        for named in &self.also {
            if read::is_sent(headers, &named.wire_name) {
                named.find(headers, &mut found, |_| true);
                found.others.push(named.wire_name.clone());
            }
        }
        found
    }
}

impl Named {
    fn find(
        &self,
        headers: &HeaderMap,
        found: &mut Found,
        stale: impl Fn(&crate::crypto::Unsealed) -> bool,
    ) {
        for value in read::values(headers, &self.wire_name) {
            let Some(unsealed) = self.sealer.open(&value) else {
                event::refused(Refusal::BadSeal, None);
                continue;
            };
            let (unbound, stale) = (unsealed.unbound, stale(&unsealed));
            if found.candidates.len() == MOST {
                return;
            }
            let key = SessionKey::generated(unsealed.value);
            if !found.candidates.iter().any(|known| known.key == key) {
                found.candidates.push(Candidate {
                    key,
                    unbound,
                    stale,
                });
            }
        }
    }
}
