//! How somebody logged in, and from where.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{metadata::text_field, upstream::UpstreamLogin};
use crate::address::ClientAddress;

/// What the application said of a login besides the device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    /// Empty if it is not known.
    pub(crate) method: String,
    pub(crate) address: Option<ClientAddress>,
    /// The login at an upstream that it comes from.
    pub(crate) upstream: Option<UpstreamLogin>,
}

impl Origin {
    /// Appends three fields.
    pub(super) fn encode(origin: Option<&Self>, out: &mut String) {
        out.push('.');
        if let Some(origin) = origin {
            URL_SAFE_NO_PAD.encode_string(&origin.method, out);
        }
        out.push('.');
        if let Some(address) = origin.and_then(|origin| origin.address) {
            address.encode(out);
        }
        out.push('.');
        if let Some(upstream) = origin.and_then(|origin| origin.upstream.as_ref()) {
            upstream.encode(out);
        }
    }

    /// Reads these fields. Nothing is known if all are empty.
    pub(super) fn decode([method, address, upstream]: [&str; 3]) -> Option<Option<Box<Self>>> {
        let address = match address {
            "" => None,
            address => Some(ClientAddress::decode(address)?),
        };
        let upstream = match upstream {
            "" => None,
            upstream => Some(UpstreamLogin::decode(upstream)?),
        };
        let origin = Self {
            method: text_field(method)?,
            address,
            upstream,
        };
        Some((origin != Self::default()).then(|| Box::new(origin)))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{address::tests::addresses, record::upstream::tests::upstreams};

    pub(crate) fn origins() -> impl Strategy<Value = Option<Box<Origin>>> {
        let address = proptest::option::of(addresses());
        let upstream = proptest::option::of(upstreams());
        (".{0,9}", address, upstream).prop_map(|(method, address, upstream)| {
            let origin = Origin {
                method,
                address,
                upstream,
            };
            (origin != Origin::default()).then(|| origin.into())
        })
    }
}
