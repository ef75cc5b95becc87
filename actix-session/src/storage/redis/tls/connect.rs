//! TLS: the application's own certificates.

use anyhow::Context as _;
use redis::{Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, TlsCertificates};

use super::{address::Files, tls_provider};

/// Adds to an address what TLS needs to connect to it.
pub(super) fn with_files(info: ConnectionInfo, files: &Files) -> anyhow::Result<ConnectionInfo> {
    let ConnectionAddr::TcpTls { insecure, .. } = info.addr() else {
        anyhow::ensure!(
            !files.is_set(),
            "certificates for Redis need an address that begins with rediss://"
        );
        return Ok(info);
    };
    tls_provider::choose()?;
    if *insecure {
        return Ok(info);
    }
    let root_cert = match &files.ca {
        Some(ca) => Some(ca.clone()),
        None => tls_provider::system_roots()?,
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
