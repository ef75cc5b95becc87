//! What `rustls` needs before the first connection.

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
