//! What TLS by `rustls` needs before the first connection.

/// Chooses `ring` for cryptography where the application has chosen nothing: `rustls` panics where
/// nobody has.
pub(crate) fn prepare() {
    use rustls::crypto::{CryptoProvider, ring};

    if CryptoProvider::get_default().is_none() {
        // Somebody else may have been faster, which is as good.
        let _ = ring::default_provider().install_default();
    }
}
