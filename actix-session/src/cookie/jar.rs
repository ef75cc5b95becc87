//! The cookies that may carry a session, and what opens them.

use std::rc::Rc;

use actix_web::http::header::{COOKIE, HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;

use super::{
    attributes::{CookieAttributes, wire_name},
    header::Header,
    read,
    seal::{Sealer, Unsealed},
    write,
};
use crate::{config::Configuration, event::Refusal, key::SessionKey, observe::Observed};

/// The cookie that is written, the old ones that are read as well, and the header field that may
/// come in their place.
pub(crate) struct Cookies {
    pub(crate) own: Named,
    also: Vec<Also>,
    pub(crate) header: Option<Header>,
    observed: Observed,
}

/// The fields of a request that may carry a session.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a> {
    pub(crate) cookies: &'a [HeaderValue],
    /// The header field of the application's own. If it came, be it empty, no cookie counts.
    pub(crate) header: &'a [HeaderValue],
}

/// An old cookie, and how to remove it.
pub(crate) struct Also {
    named: Named,
    pub(crate) attributes: CookieAttributes,
}

impl Also {
    pub(crate) fn wire_name(&self) -> &str {
        &self.named.wire_name
    }
}

pub(crate) struct Named {
    /// As headers carry it.
    pub(crate) wire_name: Rc<str>,
    pub(crate) sealer: Sealer,
}

/// A verified value.
pub(crate) struct Candidate {
    pub(crate) key: SessionKey,
    /// Its MAC does not cover the cookie's name.
    pub(crate) unbound: bool,
    /// It should be sealed again: its key, its name or its MAC is old.
    pub(crate) stale: bool,
    /// It came under an old name.
    pub(crate) is_old: bool,
}

/// How many keys of a request count. Browsers keep fewer cookies for a site.
const MOST: usize = 256;

/// How many bytes of a request's fields are looked at: more than a head of HTTP/1.1 may have. Over HTTP/2, a
/// few bytes can stand for a field that was sent before.
const LONGEST: usize = 128 * 1024;

/// The fields at the front that are not too long together.
fn bounded(fields: &[HeaderValue]) -> &[HeaderValue] {
    let mut left = LONGEST;
    let too_long = fields.iter().position(|field| {
        let rest = left.checked_sub(field.len());
        left = rest.unwrap_or_default();
        rest.is_none()
    });
    match too_long {
        Some(count) => &fields[..count],
        None => fields,
    }
}

/// Seldom there is more than one.
pub(crate) type Candidates = SmallVec<[Candidate; 1]>;

/// What the cookies of a request contain, or its header.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) candidates: Candidates,
    /// A value came under the current name, valid or not.
    pub(crate) came: bool,
    /// Indices of the old cookies that the request carried.
    pub(crate) others: Vec<usize>,
    /// The request carries its session in the header.
    pub(crate) by_header: bool,
}

impl Found {
    /// Takes no more than any browser sends: a purge ends them all.
    pub(crate) fn add(&mut self, candidate: Candidate) {
        let mut known = self.candidates.iter();
        if known.len() < MOST && !known.any(|known| known.key == candidate.key) {
            self.candidates.push(candidate);
        }
    }
}

impl Cookies {
    pub(crate) fn new(configuration: &Configuration) -> Self {
        let named = |name: &str| Named {
            wire_name: wire_name(name).into(),
            sealer: Sealer::new(
                &configuration.key,
                &configuration.previous_keys,
                configuration.content_security,
                name,
                configuration.terms.format,
            ),
        };
        let own = &configuration.cookie;
        let also = configuration.read_also.iter().map(|old| Also {
            named: named(&old.name),
            attributes: old.attributes(own),
        });
        Self {
            also: also
                .filter(|old| !old.attributes.is_same_cookie(own))
                .collect(),
            own: named(&own.name),
            header: Header::of(configuration),
            observed: configuration.observed.clone(),
        }
    }

    pub(crate) fn header_name(&self) -> Option<&HeaderName> {
        self.header.as_ref().map(|header| &header.name)
    }

    pub(crate) fn names(&self) -> Vec<Rc<str>> {
        let also = self.also.iter().map(|old| &old.named);
        let all = [&self.own].into_iter().chain(also);
        all.map(|named| Rc::clone(&named.wire_name)).collect()
    }

    /// What of a request may carry a session.
    pub(crate) fn fields<'a>(&self, headers: &'a HeaderMap) -> Fields<'a> {
        let header = self.header_name();
        let header = header.map(|name| bounded(headers.get_all(name).as_slice()));
        Fields {
            cookies: bounded(headers.get_all(COOKIE).as_slice()),
            header: header.unwrap_or_default(),
        }
    }

    /// Under which name the response to such a request sets or removes the session.
    pub(crate) fn written_name(&self, headers: &HeaderMap) -> &Rc<str> {
        match &self.header {
            Some(header) if headers.contains_key(&header.name) => &header.label,
            _ => &self.own.wire_name,
        }
    }

    /// The finished `name=value` pair, or the value of the header.
    ///
    /// # Errors
    /// It is too long.
    pub(crate) fn seal(&self, value: &str, by_header: bool) -> anyhow::Result<Vec<u8>> {
        match &self.header {
            Some(header) if by_header => header.seal(value),
            _ => write::pair(&self.own.wire_name, &self.own.sealer.seal(value)?),
        }
    }

    /// The old cookie at an index from [`Found`].
    pub(crate) fn old(&self, index: usize) -> Option<&Also> {
        self.also.get(index)
    }

    pub(crate) fn find(&self, fields: Fields<'_>, writes_old_mac: bool) -> Found {
        let Fields { cookies, header } = fields;
        match &self.header {
            Some(own) if !header.is_empty() => {
                if self.are_sent(cookies) {
                    self.observed.refused(Refusal::BesideHeader, None);
                }
                own.find(header, &self.observed)
            }
            _ => self.find_cookies(cookies, writes_old_mac),
        }
    }

    /// Whether the request carries any of the cookies.
    pub(crate) fn are_sent(&self, fields: &[HeaderValue]) -> bool {
        let also = self.also.iter().map(Also::wire_name);
        let mut names = also.chain([&*self.own.wire_name]);
        names.any(|name| read::is_sent(fields, name))
    }

    fn find_cookies(&self, fields: &[HeaderValue], writes_old_mac: bool) -> Found {
        let mut found = Found::default();
        let own = &*self.own.wire_name;
        // A value of an old cookie that has the present name looks like one of the present cookie.
        let moves = self.also.iter().any(|old| old.wire_name() == own);
        let stale = |unsealed: &Unsealed| {
            // A private value is the same to old servers. What is signed has the MAC that is written here.
            let is_signed = unsealed.nonce.is_none();
            moves || unsealed.old_key || (is_signed && unsealed.unbound != writes_old_mac)
        };
        found.came = self
            .own
            .find(fields, &mut found, stale, false, &self.observed);
        for (index, Also { named, .. }) in self.also.iter().enumerate() {
            if !read::is_sent(fields, &named.wire_name) {
                continue;
            }
            found.others.push(index);
            let name = &*named.wire_name;
            let mut before = self.also[..index].iter();
            if name != own && !before.any(|old| old.wire_name() == name) {
                named.find(fields, &mut found, |_| true, true, &self.observed);
            }
        }
        found
    }
}

impl Named {
    /// Opens the values of this name, and says whether there were any. However many verify, a purge
    /// ends them all: a neighbour may have put its own in front of the right one.
    fn find(
        &self,
        fields: &[HeaderValue],
        found: &mut Found,
        stale: impl Fn(&Unsealed) -> bool,
        is_old: bool,
        observed: &Observed,
    ) -> bool {
        let (mut came, mut is_bad) = (false, false);
        for value in read::values(fields, &self.wire_name) {
            came = true;
            let Some(unsealed) = self.sealer.open(&value) else {
                is_bad = true;
                continue;
            };
            let (unbound, stale) = (unsealed.unbound, stale(&unsealed));
            let key = SessionKey::generated(unsealed.value).sealed_as(unsealed.nonce);
            found.add(Candidate {
                key,
                unbound,
                stale,
                is_old,
            });
        }
        // Once, or one request could push all else out of an observer's queue.
        if is_bad {
            observed.refused(Refusal::BadSeal, None);
        }
        came
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_looked_at_than_a_head_may_have() {
        let field = |length: usize| HeaderValue::from_str(&"x".repeat(length)).unwrap();
        let count = |lengths: &[usize]| {
            let fields: Vec<_> = lengths.iter().copied().map(field).collect();
            bounded(&fields).len()
        };
        assert_eq!(count(&[]), 0);
        assert_eq!(count(&[LONGEST]), 1);
        assert_eq!(count(&[LONGEST + 1, 1]), 0);
        assert_eq!(count(&[1, LONGEST - 1, 1]), 2);
    }

    #[test]
    fn no_more_keys_count_than_a_browser_sends() {
        let mut found = Found::default();
        for n in (0..2 * MOST).chain(0..1) {
            found.add(Candidate {
                key: SessionKey::generated(n.to_string()),
                unbound: false,
                stale: false,
                is_old: false,
            });
        }
        assert_eq!(found.candidates.len(), MOST);
    }
}
