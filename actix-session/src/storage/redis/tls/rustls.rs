//! What `rustls` needs before the first connection.

use anyhow::Context as _;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use rustls::crypto::CryptoProvider;

/// Makes sure that there is a provider, for the whole process: without one, `rustls` panics at the first
/// connection. One that the application has chosen stays.
///
/// # Errors
/// There is none, or nobody has chosen between two.
pub(super) fn choose() -> anyhow::Result<()> {
    if CryptoProvider::get_default().is_some() {
        return Ok(());
    }
    default()
}

#[cfg(feature = "redis-session-rustls-ring")]
#[allow(clippy::unnecessary_wraps, reason = "as without the feature")]
fn default() -> anyhow::Result<()> {
    // Somebody else may have been faster, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Ok(())
}

/// Chooses the only one that is built in.
#[cfg(not(feature = "redis-session-rustls-ring"))]
fn default() -> anyhow::Result<()> {
    // Nothing else says whether there is one.
    let chosen = std::panic::catch_unwind(|| drop(rustls::ClientConfig::builder()));
    chosen.map_err(|_| {
        anyhow::anyhow!(
            "TLS to Redis needs a provider of cryptography for `rustls`: turn on the feature \
             `redis-session-rustls-ring`, or have the application install one before the store is made \
             (`rustls::crypto::CryptoProvider::install_default`)"
        )
    })
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
