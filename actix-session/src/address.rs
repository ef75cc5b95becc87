//! Where a login came from, as exact as the application wants to know.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use serde::{Serialize, Serializer};

/// The address that a login came from, or the network around it.
///
/// As text it is `192.0.2.7` or `2001:db8:1::7`; of a network, `192.0.2.0/24` or `2001:db8:1::/48`.
///
/// # Examples
/// ```
/// use std::net::IpAddr;
/// use actix_session::{ClientAddress, ListedSession};
///
/// /// Whether a login came from here or from near.
/// fn is_near(session: &ListedSession, here: IpAddr) -> bool {
///     session.address() == Some(ClientAddress::network(here))
/// }
/// # let _ = is_near;
///
/// let address: IpAddr = "192.0.2.7".parse()?;
/// assert_eq!(ClientAddress::network(address).to_string(), "192.0.2.0/24");
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientAddress {
    ip: IpAddr,
    is_full: bool,
}

impl ClientAddress {
    /// The network of an address: the first 24 bits of an IPv4 address, the first 48 of an IPv6
    /// address. An IPv4 address inside an IPv6 address counts as the former.
    pub fn network(ip: IpAddr) -> Self {
        let ip = match ip.to_canonical() {
            IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits() & (!0 << 8)).into(),
            IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & (!0 << 80)).into(),
        };
        Self { ip, is_full: false }
    }

    /// The address itself.
    pub fn full(ip: IpAddr) -> Self {
        let ip = ip.to_canonical();
        Self { ip, is_full: true }
    }

    /// The address, or the first one of the network.
    pub const fn ip(&self) -> IpAddr {
        self.ip
    }

    /// How many bits of the address are known: 24 or 48 of a network, 32 or 128 of an address.
    pub const fn bits(&self) -> u8 {
        match (self.ip, self.is_full) {
            (IpAddr::V4(_), false) => 24,
            (IpAddr::V4(_), true) => 32,
            (IpAddr::V6(_), false) => 48,
            (IpAddr::V6(_), true) => 128,
        }
    }

    /// Appends the bytes that are known, in hexadecimal digits: how many says what it is.
    pub(crate) fn encode(&self, out: &mut String) {
        use fmt::Write as _;

        let (four, sixteen);
        let bytes = match self.ip {
            IpAddr::V4(ip) => {
                four = ip.octets();
                &four[..]
            }
            IpAddr::V6(ip) => {
                sixteen = ip.octets();
                &sixteen[..]
            }
        };
        for byte in bytes.iter().take(usize::from(self.bits() / 8)) {
            // Writing to a `String` cannot fail.
            let _ = write!(out, "{byte:02x}");
        }
    }

    /// Reads what [`encode`](Self::encode) wrote.
    pub(crate) fn decode(text: &str) -> Option<Self> {
        if !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let bits = u128::from_str_radix(text, 16).ok()?;
        let four = || u32::try_from(bits).ok().map(Ipv4Addr::from_bits);
        match text.len() {
            6 => Some(Self::network(
                Ipv4Addr::from_bits(u32::try_from(bits << 8).ok()?).into(),
            )),
            8 => Some(Self::full(four()?.into())),
            12 => Some(Self::network(Ipv6Addr::from_bits(bits << 80).into())),
            32 => Some(Self::full(Ipv6Addr::from_bits(bits).into())),
            _ => None,
        }
    }
}

impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ip.fmt(f)?;
        if !self.is_full {
            write!(f, "/{}", self.bits())?;
        }
        Ok(())
    }
}

/// Shows how exact it is, and not the address: it is personal data.
impl fmt::Debug for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientAddress(/{})", self.bits())
    }
}

/// As its text.
impl Serialize for ClientAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn addresses() -> impl Strategy<Value = ClientAddress> {
        (any::<IpAddr>(), any::<bool>()).prop_map(|(ip, is_full)| {
            if is_full {
                ClientAddress::full(ip)
            } else {
                ClientAddress::network(ip)
            }
        })
    }

    fn network(ip: &str) -> String {
        ClientAddress::network(ip.parse().unwrap()).to_string()
    }

    #[test]
    fn what_names_a_single_household_is_cut() {
        assert_eq!(network("192.0.2.7"), "192.0.2.0/24");
        assert_eq!(network("255.255.255.255"), "255.255.255.0/24");
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1::/48");
        // As a socket that takes both kinds shows a visitor.
        assert_eq!(network("::ffff:192.0.2.7"), "192.0.2.0/24");
        let full = ClientAddress::full("::ffff:192.0.2.7".parse().unwrap());
        assert_eq!(full.to_string(), "192.0.2.7");
        assert!(!format!("{full:?}").contains("192"));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "c0",
            "c000",
            "c00002ff0",
            "+00002",
            "g00002",
            &"f".repeat(33),
        ] {
            assert_eq!(ClientAddress::decode(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(address in addresses()) {
            let mut text = String::new();
            address.encode(&mut text);
            let read = ClientAddress::decode(&text);
            prop_assert_eq!(read, Some(address));
            prop_assert_eq!(read.map(|it| it.to_string()), Some(address.to_string()));
        }
    }
}
