//! TLS: certificates of one's own.

use anyhow::Context as _;
use redis::{Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, TlsCertificates};

#[cfg_attr(not(feature = "redis-session-rustls"), path = "tls/no_rustls.rs")]
#[cfg_attr(feature = "redis-session-rustls", path = "tls/rustls.rs")]
mod backend;

/// Certificates as PEM.
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

/// The address with what TLS needs to connect to it.
pub(super) fn with_files(info: ConnectionInfo, files: &Files) -> anyhow::Result<ConnectionInfo> {
    if !matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
        anyhow::ensure!(
            !files.is_set(),
            "certificates were given, but the Redis address is not a rediss:// URL"
        );
        return Ok(info);
    }
    backend::prepare();
    if matches!(info.addr(), ConnectionAddr::TcpTls { insecure: true, .. }) {
        return Ok(info);
    }
    let root_cert = match &files.ca {
        Some(ca) => Some(ca.clone()),
        None => backend::system_roots()?,
    };
    let client_tls = files
        .client
        .clone()
        .map(|(client_cert, client_key)| ClientTlsConfig {
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
        .context("a certificate or key for Redis is not PEM that can be read")?;
    Ok(client.get_connection_info().clone())
}
