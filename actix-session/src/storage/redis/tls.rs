//! TLS: the application's own certificates, and what `rustls` needs before the first connection.
//!
//! Each function that depends on the build stands here once for each kind of build.

use redis::ConnectionInfo;

/// Certificates and a key as PEM.
#[derive(Clone, Default)]
pub(super) struct Files {
    pub(super) ca: Option<Vec<u8>>,
    pub(super) client: Option<(Vec<u8>, Vec<u8>)>,
}

impl Files {
    pub(super) const fn is_set(&self) -> bool {
        self.ca.is_some() || self.client.is_some()
    }
}

/// A build without TLS accepts no certificates.
#[cfg(not(any(feature = "redis-session-rustls", feature = "redis-session-native-tls")))]
pub(super) fn with_files(info: ConnectionInfo, files: &Files) -> anyhow::Result<ConnectionInfo> {
    anyhow::ensure!(
        !files.is_set(),
        "certificates for Redis need the feature redis-session-rustls or redis-session-native-tls"
    );
    Ok(info)
}

/// Adds to an address what TLS needs to connect to it.
#[cfg(any(feature = "redis-session-rustls", feature = "redis-session-native-tls"))]
pub(super) fn with_files(info: ConnectionInfo, files: &Files) -> anyhow::Result<ConnectionInfo> {
    use anyhow::Context as _;
    use redis::{Client, ClientTlsConfig, ConnectionAddr, TlsCertificates};

    let ConnectionAddr::TcpTls { insecure, .. } = info.addr() else {
        anyhow::ensure!(
            !files.is_set(),
            "certificates for Redis need an address that begins with rediss://"
        );
        return Ok(info);
    };
    provider::choose();
    if *insecure {
        return Ok(info);
    }
    let root_cert = match &files.ca {
        Some(ca) => Some(ca.clone()),
        None => provider::system_roots()?,
    };
    let client_tls = files.client.clone();
    let client_tls = client_tls.map(|(client_cert, client_key)| ClientTlsConfig {
        client_cert,
        client_key,
    });
    if root_cert.is_none() && client_tls.is_none() {
        return Ok(info);
    }
    let certificates = TlsCertificates {
        client_tls,
        root_cert,
    };
    let client = Client::build_with_tls(info, certificates)
        .context("a certificate or key for Redis is not valid PEM")?;
    Ok(client.get_connection_info().clone())
}

#[cfg(feature = "redis-session-rustls")]
mod provider {
    use anyhow::Context as _;
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    use rustls::crypto::{CryptoProvider, ring};

    /// Chooses `ring` if the application has chosen no provider: without one, `rustls` panics.
    pub(super) fn choose() {
        if CryptoProvider::get_default().is_none() {
            // Somebody else may have been faster, which is as good.
            let _ = ring::default_provider().install_default();
        }
    }

    /// The certificates that the system trusts, as PEM.
    ///
    /// Without them, the client library reads them again for every connection, and trusts nobody
    /// if its `native-tls` is built in too.
    pub(super) fn system_roots() -> anyhow::Result<Option<Vec<u8>>> {
        let mut found = rustls_native_certs::load_native_certs();
        if let (true, Some(error)) = (found.certs.is_empty(), found.errors.pop()) {
            return Err(error).context("the system's root certificates cannot be read");
        }
        let pem: String = found.certs.iter().map(|der| pem(der)).collect();
        Ok(Some(pem.into_bytes()))
    }

    fn pem(der: &[u8]) -> String {
        let body = BASE64_STANDARD.encode(der);
        let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
        for line in body.as_bytes().chunks(64) {
            text.extend(line.iter().copied().map(char::from));
            text.push('\n');
        }
        text + "-----END CERTIFICATE-----\n"
    }
}

/// The system's TLS library needs neither.
#[cfg(all(
    feature = "redis-session-native-tls",
    not(feature = "redis-session-rustls")
))]
mod provider {
    pub(super) const fn choose() {}

    #[allow(clippy::unnecessary_wraps, reason = "as with rustls")]
    pub(super) const fn system_roots() -> anyhow::Result<Option<Vec<u8>>> {
        Ok(None)
    }
}
