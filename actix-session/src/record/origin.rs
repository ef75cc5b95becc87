//! How somebody logged in, and from where.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::metadata::text_field;
use crate::address::ClientAddress;

/// What the application said of a login besides the device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    /// Empty if it is not known.
    pub(crate) method: String,
    pub(crate) address: Option<ClientAddress>,
}

impl Origin {
    /// Appends two fields.
    pub(super) fn encode(origin: Option<&Self>, out: &mut String) {
        out.push('.');
        if let Some(origin) = origin {
            URL_SAFE_NO_PAD.encode_string(&origin.method, out);
        }
        out.push('.');
        if let Some(address) = origin.and_then(|origin| origin.address) {
            address.encode(out);
        }
    }

    /// Reads both fields. Nothing is known if both are empty.
    pub(super) fn decode([method, address]: [&str; 2]) -> Option<Option<Box<Self>>> {
        let address = match address {
            "" => None,
            address => Some(ClientAddress::decode(address)?),
        };
        let method = text_field(method)?;
        let is_known = !method.is_empty() || address.is_some();
        Some(is_known.then(|| Box::new(Self { method, address })))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::address::tests::addresses;

    pub(crate) fn origins() -> impl Strategy<Value = Option<Box<Origin>>> {
        (".{0,9}", proptest::option::of(addresses())).prop_map(|(method, address)| {
            let origin = Origin { method, address };
            (origin != Origin::default()).then(|| origin.into())
        })
    }
}
